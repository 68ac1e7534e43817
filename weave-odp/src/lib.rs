//! The kernel's Open vSwitch datapath (`openvswitch.ko`) by generic netlink, without `ovs-vswitchd`.
//!
//! A datapath is a switch in the kernel that does what its flows say. A packet without a flow
//! goes up to the program that owns the datapath, which answers with what to do with this packet
//! and, mostly, a flow for those that follow.
//!
//! ```text
//!             Client                      VportEvents              Upcalls
//!   datapaths, vports, flows, execute    vports come and go    packets without a flow
//!            ▲  │ requests                      │ multicast         │
//!  ──────────┼──▼───────────────────────────────┼───────────────────┼─────── netlink
//!       ovs_datapath  ovs_vport  ovs_flow   ovs_vport           ovs_packet
//! ```
//!
//! The upper half of the crate does no I/O: [`request`] makes bytes of typed requests, and each
//! type decodes itself from the payload of its family. [`Client`] and its companions add sockets.
//!
//! What lies between the netlink header and the attributes of a message (`linux/genetlink.h`,
//! `linux/openvswitch.h`); integers are in the byte order of the host unless a type says
//! otherwise:
//!
//! ```text
//!   genlmsghdr   | u8 command | u8 version | u16 0 |
//!   ovs_header   | i32 ifindex of the datapath |
//! ```
#![forbid(unsafe_code)]

mod action;
mod attribute;
mod client;
mod datapath;
mod events;
mod family;
mod flow;
mod generic;
mod key;
mod packet;
pub mod request;
mod tunnel;
mod upcalls;
mod vport;

pub use action::Action;
pub use client::{Client, FlowDump};
pub use datapath::{Datapath, DatapathId, DatapathStats, FEATURES};
pub use events::{VportEvent, VportEvents};
pub use family::{FAMILIES, Families, Family, FamilyId};
pub use flow::{DumpedFlow, Flow, FlowStats};
pub use generic::Generic;
pub use key::{Ethernet, FlowKey, FlowMatch, Masked, OtherKey};
pub use packet::Upcall;
pub use tunnel::Tunnel;
pub use upcalls::Upcalls;
pub use vport::{PortNumber, Vport, VportKind, VportStats};
pub use weave_netlink::{DecodeError, Errno, Error, Socket, TooLong, Transport};
