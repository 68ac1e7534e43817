//! The kernel's IPsec by netlink: what it takes to seal UDP between two IPv4 hosts with ESP.
//!
//! A [`State`] (a "security association") is a key and a number, the [`Spi`], for one direction
//! between two hosts. A [`Policy`] says which of the packets that leave are sealed, and by which
//! state: here those of UDP that carry a [`Mark`], which the firewall puts on them. What comes in
//! finds its state by its SPI alone.
//!
//! ```text
//!                    Client
//!    allocate, put, delete, list     ▲ states, policies
//!                       │            │
//!   requests as bytes ──▼── socket ──┴── datagrams, decoded
//!  ─────────────────────────────────────────────────────────── NETLINK_XFRM
//!       policies ──(mark, addresses)──▶ states ──▶ ESP
//! ```
//!
//! One kind of state is made: ESP in transport mode, AES-256 in GCM (RFC 4106) with tags of 16
//! bytes, sequence numbers of 64 bits (RFC 4303, section 2.2.1) and a replay window of 256
//! packets, without end. States of other kinds are listed, to be told apart.
//!
//! The upper half does no I/O: [`request`] makes bytes, [`message`] takes datagrams apart.
//! [`Client`] adds a socket, sequence numbers, and the repetition of lists that changed while
//! they were read. Keys are wiped from memory after use and never printed.
//!
//! What a message looks like (`linux/netlink.h`, `linux/xfrm.h`); integers are in the byte order
//! of the host, but addresses and SPIs as on the wire:
//!
//! ```text
//!   nlmsghdr     | u32 length | u16 type | u16 flags | u32 sequence | u32 port id |
//!   a structure of that type
//!   attributes   | u16 length with these 4 bytes | u16 type | value | padding to 4 | ...
//! ```
#![forbid(unsafe_code)]

mod attribute;
mod client;
mod error;
mod key;
pub mod message;
mod names;
mod policy;
pub mod request;
mod socket;
mod state;

pub use client::{Client, Error, Transport};
pub use error::DecodeError;
pub use key::{AeadKey, KEY_LEN};
pub use names::{Mark, Path, Reqid, Spi};
pub use nix::errno::Errno;
pub use policy::{Policy, PolicyDirection, PolicyEntry, Template};
pub use socket::Socket;
pub use state::{Mode, State, StateEntry};
