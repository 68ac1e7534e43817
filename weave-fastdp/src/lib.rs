//! The fast datapath of the weave switch: frames between hosts in VXLAN that the kernel carries
//! (spec fastdp.md).
//!
//! It is a transport of the router, an [`Overlay`](weave_core::switch::Overlay). Per connection it
//! finds out by heartbeats whether frames get through; an engine sets up the tunnels in the kernel
//! and has it carry unicast by itself. What the kernel does not carry goes through the router.
//!
//! ```text
//!   router ── Overlay, Link ──▶ Fastdp ── one LinkMachine per connection: heartbeats
//!                                 │ └──── ipsec: keys of encrypted connections ──▶ kernel (xfrm)
//!                                 ▼
//!                               Engine ── one Tunnel per connection ──▶ kernel
//!                                 ├── odp: Open vSwitch datapath, flows
//!                                 └── vxlan: VXLAN devices on the bridge
//! ```
//!
//! Between the hosts the bytes are those of Weave Net 2.x:
//!
//! ```text
//! │ IPv4, DF, TTL 64 │ UDP to port 6784, no checksum │ VXLAN, Vni │ Ethernet frame │
//! ```
//!
//! * [`Fastdp`]: the transport, for the router's list of overlays.
//! * [`Engine`], [`Tunnel`]: the interface of the engines [`odp`] and [`vxlan`].
//! * [`LinkMachine`]: the state machine of a link, which does no I/O.
//! * [`ipsec`]: encryption of tunnels.
//! * [`heartbeat`], [`control_message`], [`Vni`]: what neighbours send each other.
//!
//! # Example
//!
//! The transport over VXLAN devices, which needs root and a bridge named `weave`:
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Instant as Started;
//!
//! use weave_core::switch::{Frame, Inject, Overlay, Switch};
//! use weave_core::time::Instant;
//! use weave_fastdp::Fastdp;
//! use weave_fastdp::vxlan::{VxlanConfig, VxlanEngine, VxlanError};
//!
//! /// Gives frames that the kernel does not deliver by itself to the bridge.
//! struct Injector;
//!
//! impl Inject for Injector {
//!     fn inject(&mut self, frame: Frame<'_>) {
//!         println!("{} bytes for local stations", frame.bytes.len());
//!     }
//! }
//!
//! fn overlay(switch: Arc<Switch>) -> Result<Box<dyn Overlay>, VxlanError> {
//!     let started = Started::now();
//!     let clock = move || Instant::since_origin(started.elapsed());
//!     let config = VxlanConfig {
//!         bridge: "weave".to_owned(),
//!         router_ports: vec!["vethwe-tap".to_owned()],
//!         mtu: 1376,
//!         port: 6784,
//!         adopt: true,
//!     };
//!     let engine = VxlanEngine::start(config, switch, Box::new(Injector), clock)?;
//!     Ok(Box::new(Fastdp::new(Arc::new(engine), clock)))
//! }
//! ```
//!
//! The state machine of a link, as a simulation or another driver uses it:
//!
//! ```
//! use weave_core::mesh::ConnectionUid;
//! use weave_core::time::Instant;
//! use weave_fastdp::{LinkMachine, Transmit, heartbeat};
//!
//! let connection = ConnectionUid(7);
//! let mut link = LinkMachine::new(connection, 1376, true);
//! link.confirm(Instant::ORIGIN);
//! assert_eq!(link.poll_transmit(), Some(Transmit::Heartbeat { length: 1390 }));
//!
//! let mut frame = Vec::new();
//! heartbeat::heartbeat(connection, 1390, &mut frame);
//! link.handle_special(Instant::ORIGIN, &frame)?;
//! assert!(link.poll_event().is_some(), "the first heartbeat is acknowledged");
//! # Ok::<(), heartbeat::HeartbeatError>(())
//! ```
//!
//! The kernel is spoken to by [`weave_odp`], [`weave_rtnl`] and [`weave_xfrm`].
#![deny(unsafe_code)]

pub mod control_message;
mod engine;
mod error;
pub mod heartbeat;
pub mod ipsec;
mod link;
pub mod odp;
mod overlay;
mod sys;
mod vni;
pub mod vxlan;

pub use engine::{Engine, EngineFlow, EnginePort, EngineStatus, Inbox, Tunnel, TunnelParams};
pub use error::{SharedError, TunnelError};
pub use link::{LinkMachine, Transmit};
pub use overlay::Fastdp;
pub use vni::Vni;
