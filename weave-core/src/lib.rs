//! Peer mesh, MAC learning, MTU discovery and forwarding decisions of the weave switch.
//!
//! A router runs on each host. Together they are one Ethernet switch, whose ports are the hosts'
//! bridges: a frame that a container sends on one host comes out on another, over as many hops as
//! it takes. Routers find each other by gossip; there is no central store. The protocol is that of
//! Weave Net 2.x.
//!
//! # How a frame travels
//!
//! ```text
//!  container         this host
//! ┌─────────┐   ┌────────────────────────────────────────────────────────┐
//! │  ethwe  │──▶│ bridge ──▶ port ──▶ ┌──────┐ asks  ┌──────────┐        │
//! │         │◀──│ bridge ◀── port ◀── │ Pass │──────▶│ decision │        │     data plane:
//! └─────────┘   │                     │      │       └────┬─────┘        │     threads
//!  neighbour ──▶│ link ─────────────▶ │      │            │ reads        │
//!  neighbour ◀──│ link ◀───────────── └──────┘            ▼              │
//!               │                           ForwardingTable, MacTable    │
//!               │                                  ▲                     │
//! ══════════════╪══════════════════════════════════╪═════════════════════╪══════════════════
//!  neighbour ◀─▶│ TCP ────┐                        │ publishes whole     │     control plane:
//!               │ timers ─┴─────────────────────▶ Router                 │     one task
//!               │        ┌────────────────────────┴────────────────┐     │
//!               │        │ Mesh: handshake, topology, gossip,      │     │
//!               │        │       routes, whom to dial              │     │
//!               │        │ Selector: which transport of each       │     │
//!               │        │       connection is in use              │     │
//!               │        └─────────────────────────────────────────┘     │
//!               └────────────────────────────────────────────────────────┘
//! ```
//!
//! A data thread takes a batch of frames from a port or a socket, starts a [`Pass`], and hands it
//! one frame after the other. The pass learns the source address, asks the one
//! [decision](switch::decision), gives the frame to the bridge, to links, or to nobody, and at the
//! end flushes the links it touched. Between the two planes there are two things only: the
//! [`ForwardingTable`], which the control plane replaces whole when routes or links change, and the
//! [`MacTable`], which data threads read and write without waiting for each other.
//!
//! # Where to start
//!
//! * To embed a mesh with gossip of your own: `examples/mesh.rs`, [`mesh::gossip`].
//! * To carry frames over a transport of your own: `examples/transport.rs`, and the traits
//!   [`Overlay`], [`Link`] and [`Forwarder`].
//! * To run everything on tokio: [`driver`]. To run it on something else: [`Router`], whose
//!   methods are all the driver needs.
//!
//! # No I/O
//!
//! Everything here but [`driver`] is a state machine: inputs and the time come in as arguments
//! (`handle_*`), outputs and the next deadline are polled (`poll_*`). There is no socket, no clock
//! and no random source, so the same code runs in a program, in a simulator, in a fuzzer and in
//! tests that take no time. Without the feature `tokio` the crate builds for targets that have no
//! I/O at all.
//!
//! [`ForwardingTable`]: switch::ForwardingTable
//! [`Forwarder`]: switch::Forwarder
//! [`Link`]: switch::Link
//! [`MacTable`]: switch::MacTable
//! [`Overlay`]: switch::Overlay
//! [`Pass`]: switch::Pass
//! [`Router`]: router::Router
#![cfg_attr(feature = "tokio", doc = "[`driver`]: crate::driver")]
#![cfg_attr(not(feature = "tokio"), doc = "[`driver`]: self")]
#![forbid(unsafe_code)]

mod cidr;
#[cfg(feature = "tokio")]
pub mod driver;
pub mod mesh;
pub mod metric;
pub mod mtu;
pub mod router;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod switch;
pub mod time;
pub mod wire;

pub use cidr::{Cidr, CidrError};
