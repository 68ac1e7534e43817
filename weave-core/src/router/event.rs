//! What an operator may want to know.

use crate::mesh::{self, ConnectionId, PeerName};
use crate::wire::MacAddress;

/// Something worth a line in the log. All of them are changes; none comes once per frame.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The control plane has news.
    Mesh(mesh::Event),
    /// Another transport carries the frames of a connection now.
    OverlayInUse {
        /// The connection.
        id: ConnectionId,
        /// The neighbour.
        peer: PeerName,
        /// What people call it.
        nickname: String,
        /// The transport before; none at first.
        from: Option<&'static str>,
        /// The transport now.
        to: &'static str,
        /// What brought it about.
        reason: String,
    },
    /// A transport of a connection that was not in use came to its end.
    OverlayLost {
        /// The connection.
        id: ConnectionId,
        /// The neighbour.
        peer: PeerName,
        /// What people call it.
        nickname: String,
        /// The transport.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// Stations turned up behind other peers than before. Told at most once a minute.
    StationsMoved {
        /// How often since the last time.
        count: u64,
        /// One of them.
        mac: MacAddress,
        /// Where it was.
        from: PeerName,
        /// Where it is.
        to: PeerName,
    },
    /// The places of idle stations came into dispute: they moved, or somebody makes up frames.
    /// Frames for them go to all peers until they answer. Told at most once a minute.
    StationsDisputed {
        /// How often since the last time.
        count: u64,
        /// One of them.
        mac: MacAddress,
        /// Where it was.
        from: PeerName,
        /// Where a frame of it came from.
        to: PeerName,
    },
    /// Frames were captured here whose source was just heard behind another peer: an address is
    /// used twice, or the bridge sends back what is injected. Told at most once a minute.
    StationConflicts {
        /// How many frames since the last time.
        count: u64,
        /// One of the sources.
        mac: MacAddress,
        /// The peer it is behind.
        known: PeerName,
    },
    /// Frames were received whose source is attached here, or speaks behind another peer: an
    /// address is used twice, or somebody makes up frames. Told at most once a minute.
    StationsContested {
        /// How many frames since the last time.
        count: u64,
        /// One of the sources.
        mac: MacAddress,
        /// The peer it is behind.
        known: PeerName,
        /// The peer that the frame came from.
        from: PeerName,
    },
}
