//! The tcp overlay: Ethernet frames over one TCP connection for each neighbour.
//!
//! Some networks let no UDP through. There, neither sleeve nor the fast datapath reaches a
//! neighbour, although the TCP connection of the mesh does. This transport carries frames over a
//! second TCP connection to the same host. A stream inside a stream is slow on a path that loses
//! packets, so it belongs last in the order of preference.
//!
//! ```text
//!   Switch ──▶ Forwarder ──▶ queue ──▶ socket ════ socket ──▶ TcpThread ──▶ Switch
//!                              (one of each per neighbour)       (one per router)
//! ```
//!
//! * [`Tcp`] is the transport, an [`Overlay`](weave_core::switch::Overlay) of the router.
//! * [`TcpThread`] receives the frames of all neighbours and injects them.
//! * [`wire`] is what travels on the stream, without sockets.
//!
//! The side that dialled the mesh connection dials this one as well. It learns the port and a
//! token from its neighbour over the mesh; whoever has no token is turned away. With a password
//! all records are sealed, with keys that belong to one TCP connection.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use weave_core::mesh::PeerName;
//! use weave_core::switch::{Frame, Inject, Overlay as _, Switch, Worker};
//! use weave_core::time::Clock;
//! use weave_tcp::{Tcp, TcpThread};
//!
//! /// Takes the frames for the local bridge.
//! struct Bridge;
//!
//! impl Inject for Bridge {
//!     fn inject(&mut self, frame: Frame<'_>) {
//!         println!("{} bytes", frame.bytes.len());
//!     }
//! }
//!
//! let start = Instant::now();
//! let clock = Clock::new(move || weave_core::time::Instant::since_origin(start.elapsed()));
//! let name = PeerName::from_u64(0x02_00_00_00_00_01).expect("48 bits");
//! let switch = Arc::new(Switch::new(name, 1));
//!
//! let (overlay, streams) = Tcp::bind(([127, 0, 0, 1], 0).into())?;
//! let worker = Worker::new(switch.clone()).expect("the first worker");
//! let thread = TcpThread::spawn(streams, worker, Bridge, clock)?;
//! let overlay = overlay.with_thread(thread); // one of the overlays given to the router
//! assert_eq!(overlay.name(), "tcp");
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod buffer;
mod connection;
mod link;
mod outgoing;
mod overlay;
mod pending;
mod seal;
mod shared;
mod state;
mod streams;
mod thread;
pub mod wire;

pub use overlay::Tcp;
pub use streams::Streams;
pub use thread::TcpThread;
