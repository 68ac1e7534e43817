//! What is known of one peer (spec mesh.md, sections 1 and 11).

use std::fmt;
use std::net::SocketAddr;

use super::{PeerName, ShortId, Uid};

/// Bytes of a nickname that are kept; host names have at most 253.
pub(super) const MAX_NICKNAME_LEN: usize = 1024;

/// The record that a peer keeps of itself and everybody else copies.
///
/// Of two copies the one with the greater [`Peer::edition`] is the newer one. A peer makes but one
/// of each edition; if there are others, the one with the greater [`Contents`] wins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its name.
    pub name: PeerName,
    /// What people call it.
    pub nickname: String,
    /// Its incarnation; zero for a placeholder.
    pub uid: Uid,
    /// How often it changed the record, in all its incarnations. Zero for a placeholder and for
    /// a neighbour of which nothing but its features is known yet.
    pub version: u64,
    /// Its short id. Placeholders and very old peers have none.
    pub short_id: Option<ShortId>,
    /// The connections it has, by the name of the other end, ascending, one for each.
    pub connections: Vec<PeerConnection>,
}

/// One connection in the record of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerConnection {
    /// The peer at the other end.
    pub remote: PeerName,
    /// Where the peer whose record this is sees the other end.
    pub address: PeerAddress,
    /// Whether the peer whose record this is dialled.
    pub outbound: bool,
    /// Whether frames get through.
    pub established: bool,
}

/// A TCP address in the record of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerAddress {
    /// IP address and port.
    Socket(SocketAddr),
    /// Something else. It cannot be dialled, but is passed on.
    Text(Box<str>),
}

/// Tells copies of one peer's record apart; greater is newer (spec mesh.md, section 12.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Edition {
    /// The version.
    pub version: u64,
    /// The incarnation.
    pub uid: Uid,
    /// Whether the short id is known: the first copy may come by a peer that cannot tell.
    pub has_short_id: bool,
}

/// Tells what is in two copies of one edition apart: the end of the SHA-256 of the encoded
/// record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Contents(pub [u8; 16]);

/// Tells copies of a peer's record apart, also those that somebody made under one edition; greater
/// wins everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RecordId {
    /// Which copy it says it is.
    pub edition: Edition,
    /// What is in it.
    pub contents: Contents,
}

/// What is kept of a nickname: its beginning, with replacement characters for what could take
/// hold of the terminal or the log it is shown on.
pub(super) fn clean_nickname(nickname: &str) -> String {
    clean_text(nickname, MAX_NICKNAME_LEN)
}

/// The same for any text of a peer.
pub(super) fn clean_text(text: &str, max_len: usize) -> String {
    let shown = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let mut text: String = shown.collect();
    text.truncate(text.floor_char_boundary(max_len));
    text
}

impl Peer {
    /// A peer of which nothing but the name is known, since others have connections to it.
    pub(super) const fn placeholder(name: PeerName) -> Self {
        Self {
            name,
            nickname: String::new(),
            uid: Uid(0),
            version: 0,
            short_id: None,
            connections: Vec::new(),
        }
    }

    /// Which copy of the record this is.
    pub const fn edition(&self) -> Edition {
        let has_short_id = self.short_id.is_some();
        Edition { version: self.version, uid: self.uid, has_short_id }
    }

    /// The connection to that peer.
    pub fn connection(&self, remote: PeerName) -> Option<&PeerConnection> {
        let at = self.connections.binary_search_by_key(&remote, |connection| connection.remote);
        at.ok().map(|at| &self.connections[at])
    }

    /// Remote peers, and whether the connection is established.
    pub(super) fn links(&self) -> impl Iterator<Item = (PeerName, bool)> + '_ {
        self.connections.iter().map(|connection| (connection.remote, connection.established))
    }
}

impl PeerAddress {
    /// The address, if it can be dialled.
    pub const fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Text(_) => None,
        }
    }
}

impl From<&str> for PeerAddress {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Text(text.into()), Self::Socket)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => fmt::Display::fmt(address, f),
            Self::Text(text) => f.write_str(text),
        }
    }
}
