//! The common part of all netlink protocols: messages, attributes, requests and their answers.
//!
//! A crate for one protocol encodes its requests and decodes the payloads of the answers. This
//! crate does the rest:
//!
//! ```text
//!      a protocol:   requests as bytes          payloads, decoded
//!  ───────────────────────│────────────────────────────▲───────────
//!      Exchange           │   sequence numbers,        │
//!                         ▼   lists, errors            │
//!      Transport       datagrams ──▶ kernel ──▶ datagrams ──▶ Messages ──▶ Attributes
//! ```
//!
//! * [`Exchange`] sends requests over a [`Transport`] and waits for their answers.
//! * [`Socket`] is the transport to the kernel; `script::Script` (feature `script`) is one to a
//!   scripted kernel, for tests.
//! * [`Messages`] and [`Attributes`] do no I/O and accept any input: they allocate nothing, and
//!   their [errors](DecodeError) say what is wrong and at which offset.
//!
//! The layout of a message (`linux/netlink.h`), with integers in the byte order of the host:
//!
//! ```text
//!   nlmsghdr     | u32 length | u16 type | u16 flags | u32 sequence | u32 port id |
//!   a structure of that type
//!   attributes   | u16 length with these 4 bytes | u16 type | value | padding to 4 | ...
//! ```
//!
//! # Example
//!
//! A request of the routing protocol that lists the network devices, and the name of each:
//!
//! ```
//! use weave_netlink::{Attributes, Error, Exchange, HEADER_LEN, Protocol, Socket, write_header};
//!
//! /// `RTM_NEWLINK`, `RTM_GETLINK`, `NLM_F_DUMP`, `IFLA_IFNAME`, length of an `ifinfomsg`.
//! const NEW_LINK: u16 = 16;
//! const GET_LINK: u16 = 18;
//! const DUMP: u16 = 0x300;
//! const NAME: u16 = 3;
//! const INFO_LEN: usize = 16;
//!
//! fn main() -> Result<(), Error> {
//!     let request = "list the network devices";
//!     let socket = Socket::open(Protocol::Route)
//!         .map_err(|source| Error::Socket { request, source })?;
//!     let names = Exchange::new(socket).list(
//!         request,
//!         |sequence, message| {
//!             message.resize(HEADER_LEN + INFO_LEN, 0);
//!             write_header(message, GET_LINK, DUMP, sequence)
//!         },
//!         |kind, payload| {
//!             if kind != NEW_LINK {
//!                 return Ok(None);
//!             }
//!             let attributes = payload.get(INFO_LEN..).unwrap_or_default();
//!             for attribute in Attributes::new(attributes, INFO_LEN) {
//!                 let attribute = attribute?;
//!                 if attribute.kind == NAME {
//!                     return attribute.text("device name").map(|name| Some(name.to_owned()));
//!                 }
//!             }
//!             Ok(None)
//!         },
//!     )?;
//!     assert!(names.contains(&"lo".to_owned()));
//!     Ok(())
//! }
//! ```
//!
//! The crates [`weave-odp`](https://docs.rs/weave-odp) (Open vSwitch datapath) and
//! [`weave-xfrm`](https://docs.rs/weave-xfrm) (IPsec) are built on this one.
#![forbid(unsafe_code)]

mod attribute;
mod error;
mod exchange;
mod message;
#[cfg(any(test, feature = "script"))]
pub mod script;
mod socket;
mod transport;

pub use attribute::{Attributes, Field};
pub use error::{DecodeError, Error, TooLong};
pub use exchange::{Answer, Exchange, LIST_ATTEMPTS};
pub use message::{Body, HEADER_LEN, Message, Messages, write_header};
pub use nix::errno::Errno;
pub use socket::{Protocol, Socket};
pub use transport::Transport;
