//! The engine over the kernel's Open vSwitch datapath (spec fastdp.md, sections 2 to 6, and 8).
//!
//! ```text
//!                 ┌────────────── user space ──────────────┐
//!   misses ──────▶│ Planner: bridge, switch, roads ──▶ Plan │──▶ this packet: execute
//!                 │            ▲                       │    │──▶ the next ones: flow, Book
//!   vport events ─│─ keeper ───┴── revise, maintain ◀──┘    │
//!                 └─────────────────────────────────────────┘
//!   ──────────────────────────── kernel ─────────────────────────────────
//!   vethwe-datapath ──▶ flows ──▶ vxlan-6784 ──▶ the other hosts, and back
//! ```
//!
//! * `bridge`, `ground`, `plan`, `book`, `roads`, `mile`: what is decided; they know no kernel.
//! * `state`: which of it is under which lock.
//! * `start`, `engine`, `misses`, `keeper`, `tunnel`: what carries it out.

mod book;
mod bridge;
mod engine;
mod ground;
mod keeper;
mod mile;
mod misses;
mod plan;
mod roads;
mod start;
mod state;
mod text;
mod tunnel;

pub use engine::OdpEngine;
pub use start::{OdpConfig, StartError};
pub use tunnel::{Cut, CutError};
