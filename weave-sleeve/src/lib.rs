//! The sleeve overlay: Ethernet frames in UDP datagrams, in user space.
//!
//! Sleeve reaches any neighbour that a UDP datagram reaches, encrypted or in clear. It speaks the
//! protocol of Weave Net 2.x, and between routers of this kind a format of its own that carries
//! super-frames uncut ([`native`]).
//!
//! ```text
//!   bridge ── Port ── DataThread ──▶ Switch ──▶ links ──▶ UDP
//!   bridge ── Port ◀── Switch ◀── DataThread ◀── Receiver ◀── UDP
//! ```
//!
//! * [`Sleeve`] is the transport, an [`Overlay`](weave_core::switch::Overlay) of the router.
//! * [`port`] is the crate [`weave_port`]: the devices on the local bridge.
//! * [`DataThread`] moves frames between the two.
//! * [`datagram`], [`cipher`], [`replay`] and [`link`] are the protocol, without sockets.
//!
//! # Example
//!
//! A router binds its UDP port and starts the data threads. The frames go where the forwarding
//! table of the [`Switch`](weave_core::switch::Switch) says; the mesh creates a link for each
//! neighbour by [`Overlay::prepare`](weave_core::switch::Overlay::prepare).
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use weave_core::mesh::PeerName;
//! use weave_core::switch::{Switch, Worker};
//! use weave_sleeve::native::Capabilities;
//! use weave_sleeve::port::{MemoryPort, Port as _};
//! use weave_sleeve::{Clock, DataThread, Sleeve};
//!
//! let start = Instant::now();
//! let clock = Clock::new(move || weave_core::time::Instant::since_origin(start.elapsed()));
//! let name = PeerName::from_u64(0x02_00_00_00_00_01).expect("48 bits");
//! let switch = Arc::new(Switch::new(name, 1));
//! let sleeve = Sleeve::bind(([127, 0, 0, 1], 0).into(), 1, Capabilities::default(), clock.clone())?;
//!
//! let (mut port, bridge) = MemoryPort::new()?;
//! let mut capture = Some(port.capture()?);
//! let mut threads = Vec::new();
//! for receiver in sleeve.receivers() {
//!     threads.push(DataThread::spawn(
//!         Worker::new(switch.clone()).expect("the first worker"),
//!         capture.take(),
//!         receiver,
//!         port.injector()?,
//!         clock.clone(),
//!         |error| eprintln!("a data thread ended: {error}"),
//!     )?);
//! }
//! bridge.send(&[0xff; 60]); // goes to all neighbours, of which there are none yet
//! # drop(threads);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! `examples/tunnel.rs` joins two devices by a single link. The protocol is described in
//! `docs/protocol.md`.

#![deny(unsafe_code)]

pub mod cipher;
pub mod datagram;
pub mod link;
pub mod native;
pub mod replay;

mod aggregate;
mod counters;
mod data_thread;
mod encapsulation;
mod forwarder;
mod fragment_policy;
mod gso_health;
mod overlay;
mod receiver;
mod registry;
mod send_sockets;
#[allow(unsafe_code, reason = "system calls")]
mod sys;
mod udp;

#[cfg(test)]
#[path = "../tests/common/fixtures.rs"]
mod fixtures;

pub use data_thread::{DataThread, DataThreadError};
pub use overlay::Sleeve;
pub use receiver::{Receiver, ReceiverCounters};
pub use weave_core::time::Clock;
pub use weave_port as port;
