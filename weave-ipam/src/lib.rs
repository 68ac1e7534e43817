//! Addresses that are unique in the whole mesh, without a central store.
//!
//! The addresses there are, the *universe*, lie on a ring that is cut by tokens; who owns a
//! token owns the addresses up to the next one, and gives them out without asking anybody. Every
//! peer has a copy of the ring, and copies converge by merging ([`ring`]). Who has nothing left
//! asks a peer that has, which cuts a block off what it owns. The first division is agreed on by a
//! vote ([`consensus`]) or given by the user.
//!
//! Nothing here does I/O: the [`Allocator`] takes messages, requests and the time, and returns what
//! to store, to send and to answer. What it says is stored before anybody hears of it, so that a
//! peer that is killed at any moment never gives an address out twice.
//!
//! The messages are those of Weave Net 2.x ([`message`]).

pub mod allocator;
pub mod consensus;
mod label;
pub mod legacy;
pub mod message;
mod range;
pub mod ring;
mod space;
mod subnet;

pub use allocator::{Allocator, Config};
pub use label::Label;
pub use range::Range;
pub use ring::Ring;
pub use space::{AddressSet, Space, SpaceError};
pub use subnet::{Subnet, SubnetError};

/// An IPv4 address with its prefix length.
pub type Cidr = weave_core::Cidr<std::net::Ipv4Addr>;

#[cfg(test)]
mod tests;
