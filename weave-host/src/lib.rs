//! What the weave switch does to its host: the bridge, the capture port, the interfaces of
//! containers, the rules of the firewall.
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
//! Without TUN support the port is a veth pair, `vethwe-bridge` on the bridge and `vethwe-pcap` for
//! the router. Where the kernel has Open vSwitch, a datapath is beside the bridge, or in its place.
//! Another bridge than `weave` has ports of other names ([`PortNames`]). Names and settings are
//! those of Weave Net 2.x, so that its scripts and its CNI plugin find what they expect (spec
//! router.md, section 6; cni.md, sections 5 and 6).
//!
//! * [`prepare_bridge`], [`mend_ports`], [`reset`]: the bridge and its ports (`bridge/`).
//! * [`attach`], [`detach`], [`inspect`], [`endpoints`]: containers, found by [`Namespace`]
//!   (`endpoint/`); [`create_pair`] for runtimes that move an interface by themselves.
//! * [`expose`], [`hide`]: addresses of the host on the bridge.
//! * [`Firewall`], [`SealFirewall`]: the rules of a [`Policy`], which
//!   [`weave_firewall`] makes in whatever the host uses.
//!
//! All functions block, on one netlink socket for each network namespace they work in and without
//! threads of their own. Where another namespace has to be entered, the caller's thread enters it
//! and is back before the function returns. What exists already is adopted, so all of them can be
//! repeated.
//!
//! # Example
//!
//! A container on a bridge of its own, which needs root:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use weave_host::{Attachment, BridgeConfig, HostError, Namespace, attach, prepare_bridge};
//!
//! fn main() -> Result<(), HostError> {
//!     let mac = weave_host::MacAddress([0x7a, 0x9f, 0xeb, 0xb6, 0x0c, 0x6e]);
//!     prepare_bridge(&BridgeConfig { name: "weave".to_owned(), mac, mtu: 1376 })?;
//!     // By process id, by the name in `ip netns`, or by path.
//!     let container = Namespace::find("blue", Path::new("/proc"))?;
//!     let address = "10.32.0.1/12".parse().expect("an address with its prefix length");
//!     let attachment = Attachment { addresses: vec![address], ..Attachment::new("weave") };
//!     let changes = attach(&container, &attachment)?;
//!     println!("{} has {:?}", changes.container_end.name, changes.added);
//!     Ok(())
//! }
//! ```
//!
//! What needs no root, addresses and names:
//!
//! ```
//! use weave_host::{Cidr, PortNames};
//!
//! let range = Cidr::network("10.32.0.0/12").expect("a network");
//! let cidr: Cidr = "10.33.0.1/12".parse()?;
//! assert!(range.contains(cidr.address()));
//! assert_eq!(PortNames::of("weave").tap, "vethwe-tap");
//! # Ok::<(), weave_host::CidrError>(())
//! ```
//!
//! The kernel is spoken to by [`weave_rtnl`], [`weave_odp`] and [`weave_firewall`];
//! [`weave-cni`](https://docs.rs/weave-cni) is built on this crate.

mod arp;
mod bridge;
mod containerd;
mod endpoint;
mod error;
mod firewall;
mod forwarding;
mod links;
mod lock;
mod names;
mod namespace;
mod overlap;
mod peer_name;
mod route;
#[allow(unsafe_code, reason = "system calls")]
mod sys;
mod sysctl;
mod underlay;

pub use arp::{Claimants, PROBE_TIME, holder_of};
pub use bridge::{
    BridgeClaim, BridgeConfig, Condition, Layout, MendedPort, Origin, PortFault, Ports,
    bridge_addresses, condition, detect_layout, expose, hide, join, mend_ports, prepare_bridge,
    prepare_bridge_of_datapath, prepare_capture_pair, prepare_datapath_pair, prepare_fastdp,
    raise_datapath, raise_port, remove_bridge, remove_capture_pair, remove_datapath, reset,
};
pub use containerd::{ContainerdError, containerd_process};
pub use endpoint::{
    AttachChanges, Attachment, BehindPort, ContainerInterface, DetachChanges, End, Endpoint,
    VethPair, addresses_behind_ports, attach, attached_ids, create_pair, detach, endpoints,
    inspect, remove_port_of, remove_unnoted_port, routes_beside,
};
pub use error::HostError;
pub use firewall::{
    Backend, BackendError, ClosedPorts, Firewall, FirewallError, Generation, HostAddress, Outcome,
    Policy, SealFirewall, SealPolicy, SealedState, SealedTunnel, VxlanSenders,
    original_policies_stand, remove_original_rules, remove_policies, remove_rules,
    remove_seal_rules,
};
pub use forwarding::{Forwarding, forwarding};
pub use names::{BRIDGE_NAME, CONTAINER_INTERFACE, PortNames};
pub use namespace::Namespace;
pub use overlap::{HostRoute, overlapping_route};
pub use peer_name::{derive_peer_name, interface_peer_name};
pub use route::Route;
pub use underlay::automatic_mtu;
pub use weave_core::wire::MacAddress;
pub use weave_core::{Cidr, CidrError};
