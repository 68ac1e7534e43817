//! The sleeve overlay: frames in UDP datagrams, in user space.
//!
//! Any neighbour that a UDP datagram reaches can be reached through the sleeve, sealed or in
//! clear. It speaks the protocol of Weave Net 2.x.
//!
//! ```text
//!   bridge ── Port ── DataThread::serving ──▶ Switch ──▶ links ──▶ UDP
//!   bridge ── Port ◀── Switch ◀── DataThread::serving ◀── Receiver ◀── UDP
//! ```
//!
//! * [`Sleeve`] is the transport: an [`Overlay`](weave_core::switch::Overlay) of the router.
//! * [`port`], the crate [`weave_port`], has the devices on the local bridge.
//! * [`DataThread`] moves frames between the two.
//! * [`datagram`], [`cipher`], [`replay`] and [`link`] are the protocol, without sockets.

#![deny(unsafe_code)]

pub mod cipher;
pub mod datagram;
pub mod link;
pub mod native;
pub mod replay;

mod aggregate;
mod carrier;
mod clock;
mod counters;
mod encapsulation;
mod outlet;
mod overlay;
mod pump;
mod receiver;
mod registry;
#[allow(unsafe_code, reason = "system calls")]
mod sys;
mod trains;
mod udp;
mod way;

#[cfg(test)]
#[path = "../tests/common/frames.rs"]
mod frames;

pub use clock::Clock;
pub use overlay::Sleeve;
pub use pump::{DataThread, Lost};
pub use receiver::{Receiver, ReceiverCounters};
pub use weave_port as port;
