//! The configuration of the engine, and the reasons why it does not start or stops.

use std::io;

use weave_odp::Error;

/// The configuration of the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OdpConfig {
    /// Name of the datapath.
    pub datapath: String,
    /// UDP port on which this router receives VXLAN.
    pub port: u16,
    /// Largest IP packet of the local bridge, in bytes.
    pub mtu: usize,
    /// Number of threads that answer misses of local ports; one more answers those of tunnels.
    pub threads: usize,
    /// Name of the interface through which the other transports exchange packets with the
    /// datapath once it is attached: see [`OdpEngine::attach`](super::OdpEngine::attach).
    pub own_port: String,
    /// Whether flows of an earlier router may go on for a moment: not if this router encrypts, or
    /// the earlier one did.
    pub adopt: bool,
}

/// Reasons why the engine does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel has no Open vSwitch datapath.
    #[error("this kernel lacks the module openvswitch")]
    NoDatapaths,
    /// The Open vSwitch datapath of the kernel does not support VXLAN.
    #[error("this kernel lacks VXLAN for openvswitch (module vport-vxlan)")]
    NoVxlan,
    /// Another program uses the UDP port.
    #[error("another program uses UDP port {0}, which VXLAN needs")]
    PortTaken(u16),
    /// The kernel refused a request.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// A thread, a socket or an event descriptor cannot be created.
    #[error("{0}")]
    Resources(#[from] io::Error),
    /// There are too many data threads.
    #[error(transparent)]
    Workers(#[from] weave_core::switch::TooManyWorkers),
}

/// Reasons why a running engine stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OdpFailure {
    /// Another program deleted the datapath.
    #[error("another program deleted the datapath")]
    DatapathDeleted,
    /// The kernel refused a request.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// A socket for misses failed.
    #[error("cannot receive misses: {0}")]
    Upcalls(io::Error),
    /// Waiting for events failed.
    #[error("cannot wait for events: {0}")]
    Wait(io::Error),
}
