//! The interface between the transport and the engines that hold the tunnels.
//!
//! An [`Engine`] is one per router, a [`Tunnel`] one per connection to a neighbour. The transport
//! above it, [`Fastdp`](crate::Fastdp), finds out by heartbeats which tunnels work, and tells the
//! engine whose unicast the kernel may carry by itself.
//!
//! ```text
//!        Fastdp, Link ── open, set_offload, send_special, forward ──▶ Engine, Tunnel
//!                     ◀───────────── Inbox: special, failed ────────
//!
//!        Switch       ◀── captured, received, relay_only ──────────── threads of the engine
//! ```
//!
//! No method waits for the kernel longer than a system call takes: an engine that has to set
//! something up does so on a thread of its own, and tells the [`Inbox`] if that is impossible.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use weave_core::mesh::{ConnectionId, PeerName, ShortIdTable};
use weave_core::metric::Reading;
use weave_core::switch::Forwarder;

use crate::error::TunnelError;

/// How long the kernel continues to carry unicast of a connection that has ended, or that a router
/// before this one had: as long as the engines of containers wait at most before they restart one
/// that crashes (`MaxContainerBackOff` of kubelet). A neighbour that is gone for good is sent packets
/// in the meantime, which otherwise would be dropped here.
pub(crate) const GRACE: Duration = Duration::from_secs(300);

/// An engine has the kernel carry VXLAN between peers.
pub trait Engine: Send + Sync {
    /// Returns the name of the kernel feature that the engine uses, e.g. `vxlan` or `openvswitch`.
    fn name(&self) -> &'static str;

    /// Returns the largest IP packet of the local bridge, in bytes.
    fn mtu(&self) -> usize;

    /// Returns the UDP port on which this router receives VXLAN.
    fn port(&self) -> u16;

    /// Sets up the tunnel of a connection that is about to be confirmed. The tunnel takes frames as
    /// soon as it can; the kernel carries nothing by itself until [`Tunnel::set_offload`]. A tunnel
    /// of another connection to the same neighbour is replaced: its handle has no effect any more,
    /// not even when it is dropped.
    fn open(&self, params: TunnelParams, inbox: Arc<dyn Inbox>) -> Arc<dyn Tunnel>;

    /// Updates the short ids of peers. Tunnels whose ids changed follow.
    fn handle_short_ids(&self, ids: &Arc<ShortIdTable>);

    /// Invalidates what was derived from decisions of the switch, since routes changed or stations
    /// moved.
    fn invalidate_routes(&self);

    /// Returns the state of the engine for report and metrics, with at most so many flows listed,
    /// since there may be as many as stations.
    fn status(&self, most_flows: usize) -> EngineStatus;
}

/// The parameters of a tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelParams {
    /// Connection that the tunnel belongs to.
    pub connection: ConnectionId,
    /// Name of the neighbour.
    pub remote: PeerName,
    /// Address of this end of the connection.
    pub local_address: Ipv4Addr,
    /// Address of the other end of the connection.
    pub remote_address: Ipv4Addr,
    /// UDP port that both ends use for this connection.
    pub port: u16,
    /// Whether packets are encrypted between these two addresses, and between no others, so that
    /// the tunnel must not move.
    pub encrypted: bool,
}

/// A tunnel to a neighbour. Dropping the last handle closes it.
///
/// As a [`Forwarder`] it takes what the router itself sends; it refuses what it cannot carry, so
/// that the next transport gets it.
pub trait Tunnel: Forwarder {
    /// Sends a special frame from this peer to the neighbour. A failure is counted.
    fn send_special(&self, frame: &[u8]);

    /// Sets whether the kernel may carry unicast of this neighbour by itself, which requires that
    /// the tunnel works in both directions and is in use. A new tunnel does not. When this is
    /// switched off, the kernel stops at once.
    fn set_offload(&self, offload: bool);

    /// Says that the connection has ended, and that the neighbour may be back in a moment. An
    /// engine may let the kernel continue for that time.
    fn connection_ended(&self) {}

    /// Returns what the tunnel waits for, for the operator. It comes up by itself when that is
    /// mended.
    fn problem(&self) -> Option<String> {
        None
    }

    /// Returns what is counted. Names are unique and never change.
    fn counters(&self) -> Vec<Reading>;

    /// Returns this tunnel as the data half of a link.
    fn forwarder(self: Arc<Self>) -> Arc<dyn Forwarder>;
}

/// An inbox takes the events of a tunnel, from any thread and without blocking.
pub trait Inbox: Send + Sync {
    /// Takes a special frame that claims to be from the neighbour. Returns whether it belongs to
    /// this connection, whose number no other peer knows.
    fn special(&self, frame: &[u8]) -> bool;

    /// Takes the reason why the tunnel cannot be set up, or why it broke.
    fn failed(&self, error: TunnelError);
}

/// The state of an engine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EngineStatus {
    /// Devices of the engine.
    pub ports: Vec<EnginePort>,
    /// Flows that the kernel carries by itself, as many as were asked for.
    pub flows: Vec<EngineFlow>,
    /// Number of flows.
    pub flow_count: usize,
    /// What is counted.
    pub counters: Vec<Reading>,
}

impl EngineStatus {
    /// Returns the numbers that rise and fall.
    pub fn gauges(&self) -> [Reading; 1] {
        [Reading::gauge("flows", "Number of FastDP flows.", self.flow_count as u64)]
    }
}

/// A device of an engine, as in the original's report (spec router.md, section 13).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnginePort {
    /// Number of the device.
    pub id: u32,
    /// Name of the device.
    pub name: String,
    /// Kind of the device, e.g. `vxlan`.
    pub kind: String,
}

/// A flow that the kernel carries by itself, as in the original's report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineFlow {
    /// Frames that belong to the flow.
    pub keys: Vec<String>,
    /// Actions for these frames.
    pub actions: Vec<String>,
    /// Number of frames, if the kernel counts them.
    pub packets: u64,
    /// Number of bytes, if the kernel counts them.
    pub bytes: u64,
    /// Time since the last frame in milliseconds, if the kernel knows it.
    pub used: Option<u64>,
}
