//! Bytes on the wire: gob, Ethernet, ARP, IP, ICMP.

pub mod gob;
mod mac;
mod reader;

pub use mac::{MacAddress, MacParseError};
pub use reader::{Reader, UnexpectedEnd};
