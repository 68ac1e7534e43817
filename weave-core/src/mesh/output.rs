//! What a [`Mesh`](super::Mesh) asks of those who run it, and what it tells them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::error::ConnectionError;
use super::name_conflict::NameConflict;
use super::{ConnectionId, ConnectionUid, PeerName, Routes, SessionKey, ShortId, Uid};

/// Something to do, in the order given.
#[derive(Clone, Debug)]
pub enum Output {
    /// Open a TCP connection; answer with [`Mesh::handle_dialled`](super::Mesh::handle_dialled)
    /// or [`Mesh::handle_dial_failed`](super::Mesh::handle_dial_failed).
    Dial {
        /// Names the connection from here on.
        id: ConnectionId,
        /// Where to.
        address: SocketAddr,
    },
    /// Look up the addresses of a host; answer with
    /// [`Mesh::handle_resolved`](super::Mesh::handle_resolved). Names are looked up anew for
    /// each attempt to connect.
    Resolve {
        /// The target as the user gave it: to be handed back.
        target: String,
        /// The host in it.
        host: String,
    },
    /// Write to the TCP connection.
    Send {
        /// The connection.
        id: ConnectionId,
        /// What to write.
        bytes: Bytes,
    },
    /// Drop the TCP connection at once, with a reset. Nothing more is said about this id, and
    /// nothing about it need be reported.
    Close {
        /// The connection.
        id: ConnectionId,
    },
    /// The handshake is done: make the (still passive) link. Answer with
    /// [`Mesh::link_prepared`](super::Mesh::link_prepared) or
    /// [`Mesh::link_failed`](super::Mesh::link_failed).
    Prepare(Box<LinkRequest>),
    /// The connection is registered: its link may send.
    Confirm {
        /// The connection.
        id: ConnectionId,
    },
    /// The neighbour's transports say something.
    Control {
        /// The connection.
        id: ConnectionId,
        /// What they say.
        control: Control,
    },
    /// The connection is gone: drop its link. Said once for each that was prepared.
    Stop {
        /// The connection.
        id: ConnectionId,
    },
    /// The routes were calculated anew.
    RoutesChanged(Arc<Routes>),
    /// These peers left the mesh.
    PeersRemoved(Vec<PeerName>),
    /// Short ids changed their owners: what was derived from the former ones has to follow.
    ShortIdsChanged,
    /// Something an operator may want to know.
    Event(Event),
}

/// What the transports need to know to make a link.
#[derive(Clone, Debug)]
pub struct LinkRequest {
    /// The connection.
    pub id: ConnectionId,
    /// This router.
    pub own: PeerName,
    /// The neighbour.
    pub remote: PeerName,
    /// Equal on both sides.
    pub connection_uid: ConnectionUid,
    /// Whether this side dialled.
    pub outbound: bool,
    /// This end of the TCP connection.
    pub local_address: SocketAddr,
    /// The other end of the TCP connection.
    pub remote_address: SocketAddr,
    /// Seal with this key; none on trusted networks and without a password.
    pub session_key: Option<SessionKey>,
    /// The transports the neighbour has, in its order of preference. None: it does not know
    /// about choosing, and uses the legacy UDP encapsulation alone.
    pub overlays: Option<Vec<String>>,
    /// All that the neighbour announced about itself, also of what its transports can do beyond
    /// the original.
    pub remote_features: BTreeMap<String, String>,
}

/// A message between the transports of two neighbours, carried by the mesh connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// Tag 7, with a peer that can choose among transports: index of the transport, its own
    /// message number, data.
    Switched(Bytes),
    /// Tags 1 to 3, with a peer that cannot.
    Legacy {
        /// 1, 2 or 3; others cannot be sent.
        message: u8,
        /// What follows the tag.
        data: Bytes,
    },
}

/// Something an operator may want to know. All of them are changes, none is repeated per
/// message.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A neighbour passed the handshake and the connection is registered.
    ConnectionAdded {
        /// The connection.
        id: ConnectionId,
        /// The neighbour.
        peer: PeerName,
        /// What people call it.
        nickname: String,
        /// The other end.
        address: SocketAddr,
        /// Whether this side dialled.
        outbound: bool,
        /// The protocol version in use.
        version: u8,
    },
    /// Its transport carries frames.
    ConnectionEstablished {
        /// The connection.
        id: ConnectionId,
        /// The neighbour.
        peer: PeerName,
        /// What people call it.
        nickname: String,
        /// The other end.
        address: SocketAddr,
    },
    /// A connection or an attempt at one ended.
    ConnectionEnded {
        /// The connection.
        id: ConnectionId,
        /// The neighbour, if it got as far as telling its name.
        peer: Option<PeerName>,
        /// What people call it; empty as long as it has no name.
        nickname: String,
        /// The other end.
        address: SocketAddr,
        /// Whether this side dialled.
        outbound: bool,
        /// Why.
        error: ConnectionError,
    },
    /// The name of a target could not be looked up.
    ResolveFailed {
        /// The target as the user gave it.
        target: String,
        /// Why.
        error: String,
    },
    /// Two machines use one name, ours or that of a neighbour: give one of them another name.
    /// Told once for each incarnation that comes too late, and while that lasts every ten
    /// minutes.
    NameCollision(Box<NameConflict>),
    /// Another router, which this one has no connection to, goes on saying that it is this one.
    /// Neither gets all of its frames: give one of them another name. Told every ten minutes
    /// while that lasts.
    DuplicateSelf {
        /// The name of both.
        name: PeerName,
        /// What people call the other one.
        nickname: String,
        /// Its incarnation.
        uid: Uid,
    },
    /// Messages that a neighbour may only have relayed were dropped, since their content is wrong.
    /// Told at most once a minute for each neighbour.
    GossipDropped {
        /// The neighbour they came from.
        peer: PeerName,
        /// What people call it.
        nickname: String,
        /// The channel of the last one; empty if it could not be read.
        channel: String,
        /// The peer that the last one says it was made by, if it says so.
        source: Option<PeerName>,
        /// What is wrong with the last one.
        reason: String,
        /// How many there were since this was last told.
        count: u64,
    },
    /// A peer left the mesh: no chain of connections leads to it any more.
    PeerRemoved {
        /// The peer.
        peer: PeerName,
        /// What people called it.
        nickname: String,
    },
    /// The short id of this peer was taken by a peer with a lower name: it has another one now.
    ShortIdReassigned {
        /// The new one.
        short_id: ShortId,
    },
}
