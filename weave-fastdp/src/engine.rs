//! What holds the tunnels.
//!
//! An [`Engine`] is one per router, a [`Tunnel`] one per connection to a neighbour. The transport
//! above it, [`Fastdp`](crate::Fastdp), finds out by heartbeats which tunnels work, and tells the
//! engine whose unicast the kernel may carry by itself.
//!
//! ```text
//!        Fastdp, Link ── open, carry, send_special, forward ──▶ Engine, Tunnel
//!                     ◀───────── Inbox: special, failed ───────
//!
//!        Switch       ◀── captured, received, relay_only ────── threads of the engine
//! ```
//!
//! No method waits for the kernel longer than a system call takes: an engine that has to set
//! something up does so on a thread of its own, and tells the [`Inbox`] if it never will.

use std::net::Ipv4Addr;
use std::sync::Arc;

use weave_core::mesh::{ConnectionId, PeerName, ShortIdTable};
use weave_core::switch::Forwarder;

/// A way to have the kernel carry VXLAN between peers.
pub trait Engine: Send + Sync {
    /// What the kernel does it with, e.g. `vxlan` or `openvswitch`.
    fn name(&self) -> &'static str;

    /// The largest IP packet of the local bridge, in bytes.
    fn mtu(&self) -> usize;

    /// The UDP port on which this router receives VXLAN.
    fn port(&self) -> u16;

    /// Sets up the tunnel of a connection that is about to be confirmed. It takes frames as soon
    /// as it can; the kernel carries nothing by itself until [`Tunnel::carry`]. A tunnel of the
    /// same neighbour that is there already is replaced: of its handle nothing has an effect any
    /// more, not even dropping it.
    fn open(&self, params: TunnelParams, inbox: Arc<dyn Inbox>) -> Arc<dyn Tunnel>;

    /// This is what short ids stand for from now on. Tunnels whose ids changed follow.
    fn handle_short_ids(&self, ids: &Arc<ShortIdTable>);

    /// Routes changed or stations moved: what was derived from decisions of the switch is
    /// forgotten or derived anew.
    fn invalidate_routes(&self);

    /// For report and metrics, with at most so many flows listed: there may be as many as stations.
    fn status(&self, most_flows: usize) -> EngineStatus;
}

/// The two ends of a tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelParams {
    /// Whose tunnel it is.
    pub connection: ConnectionId,
    /// The neighbour.
    pub remote: PeerName,
    /// This end of the connection.
    pub local_address: Ipv4Addr,
    /// The other end.
    pub remote_address: Ipv4Addr,
    /// The UDP port that both ends use for this connection.
    pub port: u16,
    /// What leaves is sealed between these two addresses, and between no others: the tunnel stays
    /// where it is.
    pub sealed: bool,
}

/// One tunnel. Dropping the last handle closes it.
///
/// As a [`Forwarder`] it takes what the router itself sends; it refuses what it cannot carry, so
/// that the next transport gets it.
pub trait Tunnel: Forwarder {
    /// Sends a special frame from this peer to the neighbour; one that cannot be sent is counted.
    fn send_special(&self, frame: &[u8]);

    /// Whether the kernel may carry unicast of this neighbour by itself: the tunnel works in both
    /// directions and is in use. Not at first. If not any more, what is in the kernel for it is
    /// taken back at once.
    fn carry(&self, carry: bool);

    /// The connection has come to its end, and the neighbour may be back in a moment. An engine
    /// may let the kernel go on for so long.
    fn connection_ended(&self) {}

    /// What the tunnel waits for, for the operator; it comes by itself when that is mended.
    fn problem(&self) -> Option<String> {
        None
    }

    /// By name, e.g. `("tx_frames", 17)`; names are unique and never change.
    fn counters(&self) -> Vec<(&'static str, u64)>;

    /// This tunnel as a data half.
    fn forwarder(self: Arc<Self>) -> Arc<dyn Forwarder>;
}

/// Where a tunnel tells what happens. Called from any thread; must not block.
pub trait Inbox: Send + Sync {
    /// A special frame arrived that says it is of the neighbour. Whether it is one of this
    /// connection, whose number nobody else knows.
    fn special(&self, frame: &[u8]) -> bool;

    /// The tunnel cannot be set up, or broke; why, in one line for the log.
    fn failed(&self, reason: String);
}

/// What an engine knows of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EngineStatus {
    /// Its devices.
    pub ports: Vec<EnginePort>,
    /// What the kernel carries by itself, as much of it as was asked for.
    pub flows: Vec<EngineFlow>,
    /// How many of them there are.
    pub flow_count: usize,
    /// Counters by name.
    pub counters: Vec<(&'static str, u64)>,
}

/// A device of an engine, as the original's report has it (spec router.md, section 13).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnginePort {
    /// Its number.
    pub id: u32,
    /// What it is called.
    pub name: String,
    /// E.g. `vxlan`.
    pub kind: String,
}

/// Something that the kernel carries by itself, as the original's report has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineFlow {
    /// Which frames.
    pub keys: Vec<String>,
    /// What becomes of them.
    pub actions: Vec<String>,
    /// How many there were, if the kernel counts them.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Time since the last one, in milliseconds, if the kernel knows.
    pub used: Option<u64>,
}
