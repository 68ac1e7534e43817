//! Why a connection ended, by who is to blame.

use std::time::Duration;

use super::name_conflict::NameConflict;
use super::notice::Refusal;
use super::{HandshakeError, PeerName, RegisterError, Uid};

/// Why a connection, or the attempt to make one, ended. Only the first reason counts.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// TCP could not be opened. Look at the address, the route, and whether a router listens.
    #[error("cannot connect: {0}")]
    Dial(String),
    /// TCP ended: the other side closed it or the network lost it.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The two sides cannot agree: other protocol, other password, other kind of names.
    #[error("handshake failed: {0}")]
    Handshake(#[source] HandshakeError),
    /// The handshake did not get done in time. Something else than a router may be listening.
    #[error("handshake took longer than {} s", .0.as_secs())]
    HandshakeTimeout(Duration),
    /// The peer sent what no router sends.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The peer said what no router says on this gossip channel and none relays.
    #[error("gossip on channel {channel:?} refused: {reason}")]
    Gossip {
        /// The channel.
        channel: String,
        /// What the channel said.
        reason: String,
    },
    /// Nothing was heard for this long. The path is dead or the peer hangs.
    #[error("nothing heard for {} s", .0.as_secs())]
    ReadTimeout(Duration),
    /// The peer did not take what was sent for this long.
    #[error("peer has not been reading for {} s", .0.as_secs())]
    WriteStall(Duration),
    /// More was waiting to be sent than a connection may hold.
    #[error("peer reads too slowly: {0} bytes wait to be sent")]
    Backlog(usize),
    /// It kept most of the memory for incomplete messages of all connections, and that ran out.
    #[error(
        "incomplete messages of all connections exceed {budget} bytes, and this one holds {held}"
    )]
    Reassembly {
        /// What it held.
        held: usize,
        /// What all may hold.
        budget: usize,
    },
    /// It held most of the memory for what waits for the peers of all connections, and that ran
    /// out.
    #[error(
        "what waits for the peers of all connections exceeds {budget} bytes, and {held} of them wait \
         for this one to read"
    )]
    BacklogBudget {
        /// What waited for it.
        held: usize,
        /// What may wait for all.
        budget: usize,
    },
    /// No transport works with this neighbour.
    #[error("no working transport: {0}")]
    Link(String),
    /// Another peer of this name exists. Give one of them another name.
    #[error(
        "name collision: {address} says it is {name} as well (incarnation {theirs:?}, ours \
         {ours:?}); give one of the two machines another peer name",
        theirs = .theirs.0, ours = .ours.0
    )]
    NameCollision {
        /// The name both have.
        name: PeerName,
        /// Where the other one is.
        address: std::net::SocketAddr,
        /// This peer's incarnation.
        ours: Uid,
        /// The other one's.
        theirs: Uid,
    },
    /// Another peer of this name is connected and answers. Give one of them another name.
    #[error("{0}")]
    NameTaken(Box<NameConflict>),
    /// The peer does not want this connection, and says why.
    #[error("refused by the peer: {0}")]
    Refused(Refusal),
    /// The address is one of our own.
    #[error("connected to self")]
    ConnectedToSelf,
    /// A connection to this peer exists, and wins.
    #[error("multiple connections to {0}: another one is kept")]
    Duplicate(PeerName),
    /// A newer connection to the same peer took over.
    #[error("multiple connections to {0}: replaced by another one")]
    Replaced(PeerName),
    /// A newer connection to the same peer took over, since this one did not answer.
    #[error("multiple connections to {0}: this one does not answer, and another one replaces it")]
    Superseded(PeerName),
    /// There are as many connections as are allowed.
    #[error("connection limit of {0} reached")]
    Limit(usize),
    /// There are as many connections from one host, or one network behind an address, as are
    /// allowed: others must not be kept out.
    #[error("limit of {0} connections from one address reached")]
    LimitOfSource(usize),
    /// The peer is not in the topology and may not enter it.
    #[error(transparent)]
    Register(RegisterError),
    /// Too many connections were in the middle of their handshake; the oldest make room.
    #[error("crowded out by newer connections during the handshake")]
    CrowdedOut,
}

/// A target that was refused, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{target:?} is not a target: {reason}")]
pub struct TargetError {
    /// As it was given.
    pub target: String,
    /// What is wrong with it.
    pub reason: &'static str,
}
