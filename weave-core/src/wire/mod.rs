//! Bytes on the wire: gob, Ethernet, ARP, IP, ICMP.
//!
//! Decoders are views: they borrow the bytes, check them once, and never panic. What a frame is
//! to the forwarding decision, [`Classified::of`] tells in one call.

mod arp;
mod checksum;
mod classify;
pub mod ethernet;
mod ethertype;
mod fragment;
pub mod gob;
pub mod ipv4;
pub mod ipv6;
mod mac;
mod reader;
mod too_big;
pub mod vlan;

pub use arp::{Arp, ArpError, Operation};
pub use checksum::{Checksum, complete_checksum};
pub use classify::Classified;
pub use ethernet::{Ethernet, Network};
pub use ethertype::EtherType;
pub use fragment::{FragmentError, Fragments, Piece, fragment};
pub use ipv4::{Ipv4, Ipv4Error};
pub use ipv6::{Ipv6, Ipv6Error, UpperLayer};
pub use mac::{MacAddress, MacParseError};
pub use reader::{Reader, UnexpectedEnd};
pub use too_big::{NoAnswer, too_big};

#[cfg(test)]
mod icmp_vectors;
