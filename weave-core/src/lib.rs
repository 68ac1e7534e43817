//! Peer mesh, MAC learning, MTU discovery and forwarding decisions of the weave switch.
//!
//! Everything here but `driver` is a state machine without I/O: inputs and the time come in
//! as arguments, outputs are polled. No socket, no clock, no random source.
#![forbid(unsafe_code)]

#[cfg(feature = "tokio")]
pub mod driver;
pub mod mesh;
pub mod mtu;
pub mod router;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod switch;
pub mod time;
pub mod wire;

pub use weave_secretbox as secretbox;
