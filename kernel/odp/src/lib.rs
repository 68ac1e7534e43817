//! A client of the kernel's Open vSwitch datapath (`openvswitch.ko`) over generic netlink, without
//! `ovs-vswitchd`.
//!
//! A datapath is a switch in the kernel that applies flows. A packet that matches no flow is passed
//! to the program that owns the datapath, which answers with the actions for this packet and, in
//! most cases, with a flow for the packets that follow.
//!
//! ```text
//!             Client                      VportEvents              Upcalls
//!   datapaths, vports, flows, execute    vports come and go    packets without a flow
//!            ▲  │ requests                      │ multicast         │
//!  ──────────┼──▼───────────────────────────────┼───────────────────┼─────── netlink
//!       ovs_datapath  ovs_vport  ovs_flow   ovs_vport           ovs_packet
//! ```
//!
//! The upper half of the crate does no I/O: [`request`] encodes typed requests, and each type
//! decodes itself from the payload of a message of its family. [`Client`], [`VportEvents`] and
//! [`Upcalls`] add sockets.
//!
//! Between the netlink header and the attributes of a message are two structures
//! (`linux/genetlink.h`, `linux/openvswitch.h`). Integers are in the byte order of the host unless
//! a type says otherwise:
//!
//! ```text
//!   genlmsghdr   | u8 command | u8 version | u16 0 |
//!   ovs_header   | i32 ifindex of the datapath |
//! ```
//!
//! # Example
//!
//! A datapath that floods all packets between two ports, one flow per direction and pair of
//! addresses:
//!
//! ```no_run
//! use weave_odp::{Action, Client, Ethernet, Flow, FlowMatch, Masked, Upcalls, VportKind};
//!
//! # fn wait_until_readable(_: &Upcalls) {}
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut client = Client::open()?;
//!     let datapath = client.create_datapath("patch")?.id;
//!     let mut upcalls = Upcalls::open(client.families())?;
//!     let mut ports = Vec::new();
//!     for name in ["eth1", "eth2"] {
//!         let port = client.create_vport(datapath, name, VportKind::Netdev)?.number;
//!         client.set_upcalls(datapath, port, &[upcalls.port_id()])?;
//!         ports.push(port);
//!     }
//!     loop {
//!         wait_until_readable(&upcalls);
//!         upcalls.drain(64, |upcall| {
//!             let Ok(upcall) = upcall else { return };
//!             let ethernet = Masked::<Ethernet>::exact(upcall.key.ethernet);
//!             let matches = FlowMatch::new(upcall.key.in_port, ethernet);
//!             let others = ports.iter().filter(|port| **port != upcall.key.in_port);
//!             let flow = Flow { matches, actions: others.copied().map(Action::Output).collect() };
//!             if let Err(error) = client.put_flow_and_execute(datapath, &flow, upcall.packet) {
//!                 eprintln!("{error}");
//!             }
//!         })?;
//!     }
//! }
//! ```
//!
//! The netlink socket and the matching of answers to requests are in
//! [`weave-netlink`](weave_netlink).
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
