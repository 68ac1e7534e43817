//! The configuration of the engine, and the reasons why it does not start.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

/// The configuration of the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VxlanConfig {
    /// Bridge with the local stations.
    pub bridge: String,
    /// Names that the router's own port on the bridge may have; it must be isolated.
    pub router_ports: Vec<String>,
    /// Largest IP packet of the bridge, in bytes.
    pub mtu: usize,
    /// UDP port for VXLAN.
    pub port: u16,
    /// Whether devices that an earlier router left behind go on. They send in clear.
    pub adopt: bool,
}

/// The ends of the tunnels. The kernel's VXLAN devices take packets from any address, so that it
/// is up to a firewall to let only these through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VxlanEnds {
    /// UDP ports of this host.
    pub ports: BTreeSet<u16>,
    /// Addresses of the neighbours.
    pub neighbours: BTreeSet<Ipv4Addr>,
}

/// Reasons why the engine does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VxlanError {
    /// The kernel refuses a request that tunnels need.
    #[error("{what}: {source}{}", advice(.source))]
    Kernel {
        /// Request that was refused.
        what: &'static str,
        /// Reason given by the kernel.
        source: io::Error,
    },
    /// There are too many data threads.
    #[error("{0}")]
    Threads(#[from] weave_core::switch::TooManyWorkers),
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => " (the kernel lacks the module vxlan)",
        Some(libc::EPERM | libc::EACCES) => " (run as root or with CAP_NET_ADMIN and CAP_NET_RAW)",
        _ => "",
    }
}
