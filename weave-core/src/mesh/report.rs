//! The state of the control plane as plain data, for status pages, metrics and tests.

use std::net::SocketAddr;
use std::time::Duration;

use super::name_conflict::NameConflict;
use super::{ConnectionId, PeerName, ShortId, Uid};
use crate::Cidr;
use crate::metric::Reading;
use crate::time::Instant;

/// A snapshot of one [`Mesh`](super::Mesh).
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// This peer.
    pub name: PeerName,
    /// What people call it.
    pub nickname: String,
    /// Its incarnation.
    pub uid: Uid,
    /// Its short id.
    pub short_id: ShortId,
    /// The TCP port.
    pub port: u16,
    /// Whether there is a password.
    pub encrypted: bool,
    /// Whether peers of peers are connected to by themselves.
    pub discovery: bool,
    /// Lowest and highest protocol version.
    pub protocol_versions: (u8, u8),
    /// All known peers, this one included, by name.
    pub peers: Vec<PeerReport>,
    /// Destination and next hop; the next hop to oneself is unknown (zero).
    pub unicast_routes: Vec<(PeerName, PeerName)>,
    /// Source, and who gets its broadcasts from here; of the sources asked for so far.
    pub broadcast_routes: Vec<(PeerName, Vec<PeerName>)>,
    /// The connections that passed the handshake.
    pub connections: Vec<ConnectionReport>,
    /// The addresses that are not connected but tried.
    pub targets: Vec<TargetReport>,
    /// The targets given by the user, as given.
    pub direct_peers: Vec<String>,
    /// Routers that were refused of late since another one has their name.
    pub name_conflicts: Vec<NameConflict>,
    /// Networks that are trusted.
    pub trusted_subnets: Vec<Cidr>,
    /// What has been counted since the start.
    pub counters: Counters,
}

/// One peer as this one knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerReport {
    /// Its name.
    pub name: PeerName,
    /// What people call it.
    pub nickname: String,
    /// Its incarnation; 0 while only its name is known.
    pub uid: Uid,
    /// Its short id, if known.
    pub short_id: Option<ShortId>,
    /// How often its record changed.
    pub version: u64,
    /// The connections it says it has.
    pub connections: Vec<PeerConnectionReport>,
}

/// One connection in the record of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerConnectionReport {
    /// The other end.
    pub name: PeerName,
    /// What people call it; empty if unknown.
    pub nickname: String,
    /// The address of the other end, as text.
    pub address: String,
    /// Whether the peer whose record this is dialled.
    pub outbound: bool,
    /// Whether frames get through.
    pub established: bool,
}

/// One connection of this peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionReport {
    /// The connection.
    pub id: ConnectionId,
    /// The neighbour.
    pub peer: PeerName,
    /// What people call it.
    pub nickname: String,
    /// The other end.
    pub address: SocketAddr,
    /// Whether this side dialled.
    pub outbound: bool,
    /// Whether frames get through.
    pub established: bool,
    /// Whether both ends trust each other's address.
    pub trusted: bool,
    /// Protocol version in use.
    pub version: u8,
    /// Bytes handed out to be written and not yet written.
    pub unsent: usize,
    /// The round-trip time of the TCP connection, if the driver measures it.
    pub round_trip: Option<Duration>,
    /// When it was registered.
    pub since: Instant,
}

/// An address that is being tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetReport {
    /// The address, or the host name as given while it has no address.
    pub address: String,
    /// Whether the user asked for it.
    pub direct: bool,
    /// How far it is.
    pub state: TargetState,
    /// Why the last attempt failed; none before the first one.
    pub last_error: Option<String>,
}

/// How far the attempts at a target are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetState {
    /// The next attempt is at this time; `None`: never, unless asked for again.
    Waiting {
        /// The time.
        until: Option<Instant>,
    },
    /// The address turned out to be one of this router; it is not tried again unless asked for
    /// again.
    Itself,
    /// An attempt is under way.
    Attempting,
    /// It is connected, under this or another address.
    Connected,
}

/// Things counted since the start. They only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that ended, but for those to oneself.
    pub connections_ended: u64,
    /// Messages received on registered connections.
    pub messages_received: u64,
    /// Messages sent on registered connections.
    pub messages_sent: u64,
    /// Bytes of messages received.
    pub bytes_received: u64,
    /// Bytes of messages sent.
    pub bytes_sent: u64,
    /// Messages that carried gossip of any kind, received.
    pub gossip_received: u64,
    /// Messages that carried gossip of any kind, sent.
    pub gossip_sent: u64,
    /// Unicasts passed on for others.
    pub unicasts_relayed: u64,
    /// Unicasts dropped because no route leads to their destination.
    pub unicasts_unroutable: u64,
    /// Messages dropped since their channel refused what they say.
    pub gossip_refused: u64,
    /// Messages that are malformed where relays do not look, dropped.
    pub gossip_malformed: u64,
    /// Unicasts and broadcasts dropped since they go round in a circle.
    pub gossip_circled: u64,
    /// Records of peers dropped: there is no room, or no peer can have so many connections.
    pub records_dropped: u64,
    /// Unicasts and gossip dropped because a neighbour reads too slowly.
    pub dropped_backlog: u64,
    /// Messages not sent because they are longer than peers accept.
    pub dropped_too_long: u64,
    /// Messages that mean nothing to this router, ignored.
    pub messages_ignored: u64,
    /// Times the routes were calculated.
    pub route_calculations: u64,
    /// Connections ended during the handshake to make room for newer ones.
    pub crowded_out: u64,
    /// Connections closed before the handshake since too many waited for theirs.
    pub turned_away: u64,
    /// Handshakes that failed, timeouts aside.
    pub handshakes_failed: u64,
    /// Those of them that failed since the passwords differ, or only one side has one.
    pub passwords_differed: u64,
    /// Connections ended since incomplete messages took too much memory in all.
    pub reassembly_exhausted: u64,
    /// Connections ended since what waited for peers to read took too much memory in all.
    pub backlog_exhausted: u64,
    /// Times that a connection had used up its share of the router's time, so that its messages had
    /// to wait.
    pub messages_delayed: u64,
}

impl Counters {
    /// Returns what is counted, with its names in the metrics. Ended connections have a number of
    /// their own in the report.
    pub fn readings(&self) -> Vec<Reading> {
        vec![
            Reading::counter(
                "mesh_messages_received",
                "Messages received on TCP connections to neighbours.",
                self.messages_received,
            ),
            Reading::counter(
                "mesh_messages_sent",
                "Messages sent on TCP connections to neighbours.",
                self.messages_sent,
            ),
            Reading::counter(
                "mesh_bytes_received",
                "Bytes of messages received on TCP connections to neighbours.",
                self.bytes_received,
            ),
            Reading::counter(
                "mesh_bytes_sent",
                "Bytes of messages sent on TCP connections to neighbours.",
                self.bytes_sent,
            ),
            Reading::counter(
                "gossip_messages_received",
                "Messages received that carried gossip of any kind.",
                self.gossip_received,
            ),
            Reading::counter(
                "gossip_messages_sent",
                "Messages sent that carried gossip of any kind.",
                self.gossip_sent,
            ),
            Reading::counter(
                "unicasts_relayed",
                "Gossip unicasts passed on for other peers.",
                self.unicasts_relayed,
            ),
            Reading::counter(
                "unicasts_unroutable",
                "Gossip unicasts dropped because there was no route.",
                self.unicasts_unroutable,
            ),
            Reading::counter(
                "gossip_dropped_backlog",
                "Gossip and unicasts dropped for neighbours that read too slowly.",
                self.dropped_backlog,
            ),
            Reading::counter(
                "gossip_dropped_refused",
                "Gossip of any kind dropped since its channel refused it.",
                self.gossip_refused,
            ),
            Reading::counter(
                "gossip_dropped_malformed",
                "Gossip of any kind dropped since it is malformed.",
                self.gossip_malformed,
            ),
            Reading::counter(
                "gossip_dropped_circled",
                "Gossip unicasts and broadcasts dropped since they went round in a circle.",
                self.gossip_circled,
            ),
            Reading::counter(
                "topology_records_dropped",
                "Records of peers dropped: no room, or more connections than a peer can have.",
                self.records_dropped,
            ),
            Reading::counter(
                "mesh_messages_ignored",
                "Messages received that mean nothing to this router.",
                self.messages_ignored,
            ),
            Reading::counter(
                "route_calculations",
                "Calculations of the routes.",
                self.route_calculations,
            ),
            Reading::counter(
                "mesh_messages_too_long",
                "Messages not sent since they are longer than peers accept.",
                self.dropped_too_long,
            ),
            Reading::counter(
                "handshakes_crowded_out",
                "Connections closed in their handshake to make room for others.",
                self.crowded_out,
            ),
            Reading::counter(
                "handshakes_turned_away",
                "Connections closed before the handshake since too many waited.",
                self.turned_away,
            ),
            Reading::counter(
                "handshakes_failed",
                "Handshakes that failed, timeouts aside.",
                self.handshakes_failed,
            ),
            Reading::counter(
                "passwords_differed",
                "Handshakes that failed since the passwords of both sides differ.",
                self.passwords_differed,
            ),
            Reading::counter(
                "reassembly_exhausted",
                "Connections closed since incomplete messages took too much memory in all.",
                self.reassembly_exhausted,
            ),
            Reading::counter(
                "backlog_exhausted",
                "Connections closed since what waited for peers to read took too much memory in \
                 all.",
                self.backlog_exhausted,
            ),
            Reading::counter(
                "mesh_messages_delayed",
                "Times that a neighbour had used up its share of the router's time and had to \
                 wait.",
                self.messages_delayed,
            ),
        ]
    }
}
