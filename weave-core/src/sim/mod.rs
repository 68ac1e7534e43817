//! Many routers in one thread, on a network that does as it is told.
//!
//! Time is virtual and every choice comes from a seed, so that whatever happens once can be made
//! to happen again. The routers are real [`Router`](crate::router::Router)s; TCP connections,
//! datagrams, hosts and clocks are simulated:
//!
//! ```text
//!   story (test)  --connect, kill, partition, heal, jump_clock-->  Net
//!                                                                   |
//!   Host 0        Host 1        ...       one event at a time, by time
//!   Router        Router                  TCP: ordered, windowed, slow, cut, black-holed
//!   SimOverlay    SimOverlay              datagrams: lost, doubled, late
//! ```

mod checks;
mod host;
mod names;
mod net;
pub mod ops;
mod overlay;
mod quality;
mod tap;
mod tcp;
#[cfg(test)]
mod tests;

pub use checks::Traffic;
pub use host::Delivery;
pub use names::HostId;
pub use net::Net;
pub use quality::Quality;
pub use tap::{Tap, TappedFrame};
