//! Bytes on the wire: gob, Ethernet, ARP, IP, ICMP.

mod mac;

pub use mac::{MacAddress, MacParseError};
