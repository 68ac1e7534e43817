//! The fast datapath of the weave switch: frames between hosts in VXLAN that the kernel carries
//! (spec fastdp.md).
//!
//! * [`Fastdp`]: the transport, for the router's list of overlays.
//! * [`Engine`], [`Tunnel`]: what a way of having the kernel do it implements.
//! * [`LinkMachine`]: which of the two directions of a link get frames through.
//! * [`odp`]: the engine over the kernel's Open vSwitch datapath.
//! * [`ipsec`]: how tunnels are sealed.
//! * [`heartbeat`], [`hearing`], [`Vni`]: what neighbours say to each other.
//!
//! Between the hosts is what Weave Net 2.x has there:
//!
//! ```text
//! │ IPv4, DF, TTL 64 │ UDP to port 6784, no checksum │ VXLAN, Vni │ Ethernet frame │
//! ```

mod engine;
pub mod hearing;
pub mod heartbeat;
pub mod ipsec;
mod link;
pub mod odp;
mod overlay;
mod sys;
mod vni;
pub mod vxlan;

pub use engine::{Engine, EngineFlow, EnginePort, EngineStatus, Inbox, Tunnel, TunnelParams};
pub use link::{LinkMachine, Transmit};
pub use overlay::{Clock, Fastdp};
pub use vni::Vni;
