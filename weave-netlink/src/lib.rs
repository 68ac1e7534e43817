//! What protocols of netlink have in common: messages, attributes, requests and their answers.
//!
//! A crate that speaks one protocol makes the bytes of its requests and decodes the payloads of
//! the answers. What lies between is here:
//!
//! ```text
//!      a protocol:   requests as bytes          payloads, decoded
//!  ───────────────────────│────────────────────────────▲───────────
//!      Exchange           │   sequence numbers,        │
//!                         ▼   lists, errors            │
//!      Transport       datagrams ──▶ kernel ──▶ datagrams ──▶ Messages ──▶ Attributes
//! ```
//!
//! [`Messages`] and [`Attributes`] do no I/O and hold any input: they allocate nothing, and say
//! what is wrong and where. What a message looks like (`linux/netlink.h`), integers in the byte
//! order of the host:
//!
//! ```text
//!   nlmsghdr     | u32 length | u16 type | u16 flags | u32 sequence | u32 port id |
//!   a structure of that type
//!   attributes   | u16 length with these 4 bytes | u16 type | value | padding to 4 | ...
//! ```
#![forbid(unsafe_code)]

mod attribute;
mod error;
mod exchange;
mod message;
#[cfg(any(test, feature = "script"))]
pub mod script;
mod socket;

pub use attribute::{Attributes, Field};
pub use error::{DecodeError, Error, TooLong};
pub use exchange::{Answer, Exchange, LIST_ATTEMPTS, Transport};
pub use message::{Body, HEADER_LEN, Message, Messages, finish};
pub use nix::errno::Errno;
pub use socket::{Protocol, Socket};
