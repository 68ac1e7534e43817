//! What the weave switch does to its host: the bridge, the capture port, containers.
//!
//! ```text
//!   container netns            host netns
//!  ┌────────────────┐   ┌──────────────────────────────────────────┐
//!  │ ethwe ─────────┼───┼─ vethwepl… ┐                             │
//!  └────────────────┘   │            ├─ weave (Linux bridge)       │
//!  ┌────────────────┐   │            │    │                        │
//!  │ ethwe ─────────┼───┼─ vethwepl… ┘    └─ vethwe-tap ── router  │
//!  └────────────────┘   └──────────────────────────────────────────┘
//! ```
//!
//! Without TUN support the port is a veth pair, `vethwe-bridge` on the bridge and `vethwe-pcap`
//! for the router. Where the kernel has Open vSwitch, a datapath is beside the bridge, or in its place.
//! Another bridge than `weave` has ports of other names ([`PortNames`]). Names and settings are
//! those of Weave Net 2.x, so that its scripts and its CNI plugin find what they expect (spec
//! router.md, section 6; cni.md, sections 5 and 6).
//!
//! All functions block. Each opens a netlink socket of its own, on a thread of its own where
//! another network namespace is entered; none changes the caller's thread. What exists already
//! is adopted, so all of them can be repeated.

mod address;
mod announce;
mod attach;
mod bridge;
mod claim;
mod datapath;
mod detach;
mod error;
mod exposure;
mod firewall;
mod forwarding;
mod inhabitants;
mod inspect;
mod layout;
mod lock;
mod names;
mod namespace;
mod netlink;
mod note;
mod overlap;
mod peer_name;
mod plug;
mod ports;
mod probe;
mod reset;
mod sys;
mod sysctl;
mod underlay;

pub use address::{Cidr, CidrError};
pub use attach::{Attached, Attachment, CONTAINER_INTERFACE, End, Route, attach};
pub use bridge::{
    BridgeConfig, Condition, Origin, condition, join, prepare_bridge, prepare_bridge_of_datapath,
    prepare_capture_pair, remove_bridge, remove_capture_pair,
};
pub use claim::BridgeClaim;
pub use datapath::{
    prepare_datapath_pair, prepare_fastdp, raise_datapath, raise_port, remove_datapath,
};
pub use detach::{Detached, detach, remove_port_of, remove_unnoted_port};
pub use error::HostError;
pub use exposure::{bridge_addresses, expose, hide};
pub use firewall::{
    Backend, BackendError, ClosedPorts, Exposed, Firewall, Generation, Outcome, Policy,
    SealFirewall, SealPolicy, SealedState, SealedTunnel, VxlanSenders, remove_rules,
    remove_seal_rules,
};
pub use forwarding::{Forwarding, forwarding};
pub use inhabitants::{Inhabitant, inhabitants, plugged};
pub use inspect::{Inspected, inspect, routes_beside};
pub use layout::{Layout, detect_layout};
pub use names::{BRIDGE_NAME, PortNames};
pub use namespace::Namespace;
pub use overlap::{HostRoute, overlapping_route};
pub use peer_name::{derive_peer_name, interface_peer_name};
pub use ports::{MendedPort, PortFault, Ports, mend_ports};
pub use probe::{PROBE_TIME, holder_of};
pub use reset::reset;
pub use underlay::automatic_mtu;
pub use weave_core::wire::MacAddress;
