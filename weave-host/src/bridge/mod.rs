//! The bridge that containers are attached to, and its ports (spec router.md, sections 4 and 6).
//!
//! ```text
//!   prepare, capture, datapath ──▶ port: an interface on the bridge, or a datapath in its place
//!   condition, mend            ──▶ port_fault: what somebody did to a port
//!   reset, remove, half_made   ──▶ taking devices away
//! ```

mod capture;
mod claim;
mod condition;
mod config;
mod datapath;
mod half_made;
mod host_addresses;
mod layout;
mod mend;
mod port;
mod port_fault;
mod port_note;
mod prepare;
mod remove;
mod reset;

pub use capture::prepare_capture_pair;
pub use claim::BridgeClaim;
pub use condition::{Condition, condition};
pub use config::{BridgeConfig, Origin};
pub use datapath::{
    prepare_datapath_pair, prepare_fastdp, raise_datapath, raise_port, remove_datapath,
};
pub use host_addresses::{bridge_addresses, expose, hide};
pub use layout::{Layout, detect_layout};
pub use mend::{MendedPort, Ports, mend_ports};
pub use port::join;
pub(crate) use port::{is_orphan_of, is_stray_of, make_port};
pub use port_fault::PortFault;
pub(crate) use port_fault::{faults, mend};
pub(crate) use port_note::PortNote;
pub use prepare::{prepare_bridge, prepare_bridge_of_datapath};
pub use remove::{remove_bridge, remove_capture_pair};
pub use reset::reset;
