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
//! The upper half does no I/O: [`request`] makes bytes, and states and policies decode themselves
//! from the payload of their messages. [`Client`] adds a socket. Keys are wiped from memory after
//! use and never printed.
//!
//! Between the netlink header and the attributes of a message is a structure of its type
//! (`linux/xfrm.h`). Integers are in the byte order of the host, but addresses and SPIs as on the
//! wire.
#![forbid(unsafe_code)]

mod client;
mod fields;
mod key;
mod names;
mod policy;
pub mod request;
mod state;

pub use client::Client;
pub use key::{AeadKey, KEY_LEN};
pub use names::{Mark, Path, Reqid, Spi};
pub use policy::{Policy, PolicyDirection, PolicyEntry, Template};
pub use request::{NEW_POLICY, NEW_STATE};
pub use state::{Mode, State, StateEntry, Usage};
pub use weave_netlink::{DecodeError, Errno, Error, Socket, Transport};
