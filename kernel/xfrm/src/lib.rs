//! A client of the kernel's IPsec over netlink, for encrypting UDP between two IPv4 hosts with ESP.
//!
//! A [`State`] (a security association) has the key for one direction between two hosts and is
//! identified by an [`Spi`]. A [`Policy`] says which outbound packets are encrypted, and with which
//! state: here UDP packets with a [`Mark`], which the firewall sets. An inbound packet finds its
//! state by its SPI alone.
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
//! States are added in one form: ESP in transport mode, AES-256 in GCM (RFC 4106) with tags of 16
//! bytes, sequence numbers of 64 bits (RFC 4303, section 2.2.1), a replay window of 256 packets and
//! no limits. States of other forms are listed, so that they can be told apart.
//!
//! The upper half does no I/O: [`request`] encodes requests, and [`StateEntry`] and [`PolicyEntry`]
//! decode the payloads of messages. [`Client`] adds a socket. Keys are wiped from memory after use
//! and never printed.
//!
//! Between the netlink header and the attributes of a message is a structure that depends on its
//! type (`linux/xfrm.h`). Integers are in the byte order of the host, addresses and SPIs in that of
//! the network.
//!
//! # Example
//!
//! Encrypting marked UDP packets to a neighbour:
//!
//! ```no_run
//! use std::net::Ipv4Addr;
//! use weave_xfrm::{AeadKey, Client, Error, KEY_LEN, Mark, Path, Policy, Reqid, Spi, State};
//!
//! # fn keys() -> [AeadKey; 2] { [AeadKey::new([1; KEY_LEN]), AeadKey::new([2; KEY_LEN])] }
//! # fn exchange(spi: Spi) -> Spi { spi }
//! fn main() -> Result<(), Error> {
//!     let [inbound_key, outbound_key] = keys();
//!     let (here, there) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
//!     let outbound = Path { source: here, destination: there };
//!     let (inbound, reqid) = (outbound.reversed(), Reqid(42));
//!     let mark = Mark { value: 0x2_0000, mask: 0x2_0000 };
//!     let mut client = Client::open()?;
//!
//!     // Each receiver chooses the SPI of its inbound state and announces it to the sender.
//!     let own_spi = client.allocate_spi(inbound, reqid)?;
//!     client.update_state(&State { path: inbound, spi: own_spi, reqid, key: inbound_key })?;
//!     let spi = exchange(own_spi);
//!
//!     client.add_state(&State { path: outbound, spi, reqid, key: outbound_key })?;
//!     client.put_policy(&Policy { path: outbound, mark, spi, reqid })?;
//!     Ok(())
//! }
//! ```
//!
//! The netlink socket and the matching of answers to requests are in
//! [`weave-netlink`](weave_netlink).
#![forbid(unsafe_code)]

mod client;
mod fields;
mod identifiers;
mod key;
mod policy;
pub mod request;
mod state;

pub use client::Client;
pub use identifiers::{Mark, Path, Reqid, Spi};
pub use key::{AeadKey, KEY_LEN};
pub use policy::{Policy, PolicyDirection, PolicyEntry, Template};
pub use request::{NEW_POLICY, NEW_STATE};
pub use state::{Mode, State, StateEntry, Usage};
pub use weave_netlink::{DecodeError, Errno, Error, Socket, Transport};
