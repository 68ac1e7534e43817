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
//! The upper half of the crate does no I/O: [`request`] makes bytes of typed requests,
//! [`message`] takes datagrams apart, and each type decodes itself from the payload of its
//! family. [`Client`] and its companions add sockets, sequence numbers, and the repetition of
//! dumps that changed while they were read.
//!
//! What a message looks like (`linux/netlink.h`, `linux/genetlink.h`, `linux/openvswitch.h`);
//! integers are in the byte order of the host unless a type says otherwise:
//!
//! ```text
//!   nlmsghdr     | u32 length | u16 family | u16 flags | u32 sequence | u32 port id |
//!   genlmsghdr   | u8 command | u8 version | u16 0 |
//!   ovs_header   | i32 ifindex of the datapath |
//!   attributes   | u16 length with these 4 bytes | u16 type | value | padding to 4 | ...
//! ```
#![forbid(unsafe_code)]

mod action;
mod attribute;
mod client;
mod datapath;
mod error;
mod events;
mod family;
mod flow;
mod key;
pub mod message;
mod packet;
pub mod request;
mod socket;
mod tunnel;
mod upcalls;
mod vport;

pub use action::Action;
pub use client::{Client, Error, FlowDump, Transport};
pub use datapath::{Datapath, DatapathId, DatapathStats};
pub use error::{DecodeError, TooLong};
pub use events::{VportEvent, VportEvents};
pub use family::{FAMILIES, Families, Family, FamilyId};
pub use flow::{DumpedFlow, Flow, FlowStats};
pub use key::{Ethernet, FlowKey, FlowMatch, Masked, OtherKey};
pub use nix::errno::Errno;
pub use packet::Upcall;
pub use socket::Socket;
pub use tunnel::Tunnel;
pub use upcalls::Upcalls;
pub use vport::{PortNumber, Vport, VportKind, VportStats};
