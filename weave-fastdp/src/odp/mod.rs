//! The engine over the kernel's Open vSwitch datapath (spec fastdp.md, sections 2 to 6, and 8).
//!
//! ```text
//!                ┌────────────────── user space ──────────────────┐
//!   misses ─────▶│ upcall handlers ──▶ Planner ──▶ Plan           │──▶ this packet: execute
//!                │        bridge, switch, tunnel ports ▲          │──▶ the next ones: a flow
//!   vport events │ Revalidator ── revalidate, maintain ┴─▶ FlowTable
//!                └────────────────────────────────────────────────┘
//!   ──────────────────────────── kernel ─────────────────────────────────
//!   vethwe-datapath ──▶ flows ──▶ vxlan-6784 ──▶ the other hosts, and back
//! ```
//!
//! * Decisions, which know no kernel: `bridge`, `local_ports`, `tunnel_ports`, `plan`,
//!   `flow_table`, `unicast_flow`.
//! * State of the threads: `shared`, `state` (the locks and their order), `signals`,
//!   `counters`.
//! * Threads: `upcall` (misses) and `revalidator` (ports and flows).
//! * Requests to the kernel: `setup`, `vports`, `handover`, `execute`,
//!   `worker_clients`, `segment`, `report`.
//! * Interface: `engine`, `tunnel`, `config`.

mod bridge;
mod config;
mod counters;
mod engine;
mod execute;
mod flow_table;
mod handover;
mod local_ports;
mod plan;
mod report;
mod revalidator;
mod segment;
mod setup;
mod shared;
mod signals;
mod state;
mod tunnel;
mod tunnel_ports;
mod unicast_flow;
mod upcall;
mod vports;
mod worker_clients;

pub use config::{OdpConfig, OdpFailure, StartError};
pub use engine::OdpEngine;
