//! The engine over the kernel's own VXLAN devices. It needs no module but `vxlan`, and no flows:
//! the forwarding table of the bridge is the flow table.
//!
//! ```text
//!   containers ─── bridge weave ───┬── vethwe-tap      isolated      router, sleeve
//!                                  ├── vxwe-abc123     isolated ──▶  VXLAN to one neighbour
//!                                  └── vxwe-def123     isolated ──▶  VXLAN to another one
//! ```
//!
//! There is a device for each neighbour, all on one UDP port. It receives the VNI of frames from
//! that neighbour to this peer and sends that of the other direction, so that both ends see the
//! bytes that Weave Net sends. Its port on the bridge is isolated, and neither unicast nor
//! multicast (snooping is off) nor broadcast is flooded to it; the port of the router is isolated
//! too.
//!
//! # Why there is no loop
//!
//! The ports that lead to other hosts are the device ports and the router's. All of them are
//! isolated, and a bridge passes nothing between isolated ports. So the kernel never sends a frame
//! from one host to another: only the router does, by its one
//! [decision](weave_core::switch::decision) and its spanning trees.
//!
//! Since this depends on the settings of the ports, they are checked each second, and a device that
//! another program changed is recreated.
//!
//! # Why there is no duplicate
//!
//! *Sending.* A frame of a local station either has an entry in the bridge's table and leaves by
//! that one port, or is flooded. Then, of the ports that lead to other hosts, only the router's
//! gets it, and the router sends it once to each neighbour that the decision names, through a
//! packet socket on the device, which the bridge does not see.
//!
//! *Receiving.* By its VNI a packet belongs to a device or it does not. If it does, the kernel
//! delivers it to the local stations, and the router, which sees a copy of some packets, only
//! learns from it and relays it ([`Pass::relay_only`](weave_core::switch::Pass::relay_only)). If it
//! does not, the kernel does not deliver it, and the router takes it from the underlay by a filter
//! that excludes exactly the VNIs of the devices.
//!
//! # What the router sees
//!
//! Of the frames that a device delivers, the router sees special frames and frames for groups, from
//! which it learns and which it relays. If this peer relays floods of the neighbour, it also sees
//! unicast for stations that are not local, since that may have been flooded. While the device is
//! not in use it sees everything, since the bridge does not learn from it then. The switch also
//! learns from the bridge where stations are whose frames only the bridge sees.
//!
//! The bridge believes every frame. If it has learned something that the switch knows to be wrong,
//! the port is flushed and learns nothing for a minute: meanwhile the router alone announces where
//! stations are. When stations move, the bridge is made to forget those that it knows elsewhere.
//!
//! Frames between other pairs of peers have no device. The router receives the frames that a
//! neighbour relays to or through this peer; frames that this peer relays are left to the next
//! transport.
//!
//! # Without a router
//!
//! When a connection ends, the device through which the kernel carried frames is retained for a
//! while, and when a router ends, its devices stay. They continue with unicast for the stations that
//! the bridge knows behind them, in both directions, and with nothing else: floods need the router.
//! The next router finds them on its bridge, asks the mesh for the short id that is in their VNIs, and
//! uses them again when the same peers are back. Until the heartbeats of the new connection get
//! through, the kernel goes on. Devices that nobody asks for are deleted when something replaces
//! them, or their time is over: see `retained`.
//!
//! # Files
//!
//! * Threads: `controller` (devices), driven by `command`, and `receive` (frames).
//! * State of the threads: `shared`, with the order of the locks; `tunnel`, `busy_ports`, `retained`.
//! * Requests to the kernel: `kernel`, `devices`, `filter`, `setup`.
//! * Interface: `engine`, `tunnel_handle`, `config`.

mod busy_ports;
mod command;
mod config;
mod controller;
mod devices;
mod engine;
mod filter;
mod kernel;
mod receive;
mod retained;
mod setup;
mod shared;
mod tunnel;
mod tunnel_handle;

pub use config::{VxlanConfig, VxlanEnds, VxlanError};
pub use engine::VxlanEngine;
pub use setup::remove_leftovers;
