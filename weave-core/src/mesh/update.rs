//! The payload of the `topology` channel (spec mesh.md, section 11): for every peer two gob
//! values, its summary and the list of its connections.
//!
//! ```text
//!   peerSummary        NameByte (6 bytes), NickName, UID, Version, ShortID, HasShortID
//!   []connectionSummary  each NameByte, RemoteTCPAddr, Outbound, Established
//! ```
//!
//! Routers pass on the records of others, so what the original lets pass must not break a
//! connection here: the peer at its other end may only have passed it on. What is odd but
//! harmless is put right ([`decode`]); an error is what the original refuses or never passes on,
//! or what would cost more memory than a mesh can need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::peer::{Contents, Peer, PeerAddress, PeerConnection, clean_nickname};
use super::{PeerName, ShortId, Uid};
use crate::gob_struct;
use crate::wire::gob::{self, Decoder, Encoder, Text};

/// Connections of one peer. The limit routers set themselves is 200 by default.
pub const MAX_CONNECTIONS: usize = 4096;
/// Bytes of an address that are kept: an IPv6 address with the name of an interface has up to 70.
const MAX_ADDRESS_LEN: usize = 80;

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct PeerSummary<'a> as "peerSummary" {
        name: &'a [u8] = "NameByte",
        nickname: Text<'a> = "NickName",
        uid: u64 = "UID",
        version: u64 = "Version",
        short_id: u16 = "ShortID",
        has_short_id: bool = "HasShortID",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct ConnectionSummary<'a> as "connectionSummary" {
        name: &'a [u8] = "NameByte",
        address: Text<'a> = "RemoteTCPAddr",
        outbound: bool = "Outbound",
        established: bool = "Established",
    }
}

/// Why an update is refused as a whole.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The bytes are not the values that belong there.
    #[error("topology update: {0}")]
    Malformed(#[from] gob::Error),
}

/// What an update says.
#[derive(Debug, Default)]
pub(super) struct Update {
    /// The peers it has records of.
    pub names: BTreeSet<PeerName>,
    /// The records that are news, the newest one of each peer.
    pub records: BTreeMap<PeerName, Peer>,
    /// How many records were left out: they have more connections than a peer can have, or the
    /// update has more than fit a table.
    pub dropped: usize,
}

/// What follows the summary of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Connections {
    Listed,
    TooMany,
    /// The update ends.
    Missing,
}

/// Reads an update. `may_be_news` is shown each record without its connections: what it does not
/// want is passed over, however long. So an outdated record does not leave placeholders either,
/// which the original makes and collects a second later. `is_news` is shown the others as they are
/// kept.
///
/// Short ids above 4095 count as none; nicknames are cleaned ([`clean_nickname`]); addresses that
/// are longer than [`MAX_ADDRESS_LEN`] or have control characters are emptied; a peer with a name
/// that is not six bytes long or zero, which means "unknown", and connections to it are left out.
/// Of two connections to one peer the later one counts. A record with more than [`MAX_CONNECTIONS`]
/// or whose list of connections is missing at the end is dropped.
pub(super) fn decode(
    payload: &[u8],
    limits: Limits,
    may_be_news: impl Fn(&Peer) -> bool,
    is_news: impl Fn(&Peer) -> bool,
) -> Result<Update, UpdateError> {
    let mut update = Update::default();
    let mut links = 0;
    let mut decoder = Decoder::new(payload);
    while let Some(summary) = decoder.next_value::<PeerSummary<'_>>()? {
        let mut peer = Peer::from_summary(&summary);
        let newest = update.records.get(&peer.name).is_none_or(|r| peer.edition() >= r.edition());
        let wanted = peer.name != PeerName::UNKNOWN && newest && may_be_news(&peer);
        let found = if wanted {
            read_connections(&mut decoder, &mut peer)?
        } else if decoder.skip_value()? {
            Connections::Listed
        } else {
            Connections::Missing
        };
        match found {
            Connections::Listed => {}
            Connections::TooMany => {
                update.dropped += 1;
                continue;
            }
            Connections::Missing => break,
        }
        if peer.name != PeerName::UNKNOWN {
            update.names.insert(peer.name);
        }
        if wanted {
            keep_later_of_each(&mut peer.connections);
            let wins = |other: &Peer| wins_over(&peer, other);
            if !is_news(&peer) || !update.records.get(&peer.name).is_none_or(wins) {
                continue;
            }
            let fits = update.records.len() < limits.peers
                && links + peer.connections.len() <= limits.links;
            if !fits {
                update.dropped += 1;
                continue;
            }
            links += peer.connections.len();
            // It stays as it is until the next version comes.
            peer.connections.shrink_to_fit();
            update.records.insert(peer.name, peer);
        }
    }
    Ok(update)
}

/// The second value of a record.
fn read_connections(
    decoder: &mut Decoder<'_>,
    peer: &mut Peer,
) -> Result<Connections, UpdateError> {
    let mut count = 0;
    let found = decoder.next_elements(|summary: ConnectionSummary<'_>| {
        count += 1;
        let connection = PeerConnection::from_summary(&summary);
        if count <= MAX_CONNECTIONS && connection.remote != PeerName::UNKNOWN {
            peer.connections.push(connection);
        }
        Ok::<(), UpdateError>(())
    })?;
    Ok(match found {
        true if count > MAX_CONNECTIONS => Connections::TooMany,
        true => Connections::Listed,
        false => Connections::Missing,
    })
}

/// How large a mesh may get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Peers.
    pub peers: usize,
    /// Connections, each counted at both ends.
    pub links: usize,
}

/// Whether a copy of a record is the one that everybody keeps.
pub(super) fn wins_over(copy: &Peer, other: &Peer) -> bool {
    copy.edition() > other.edition()
        || (copy.edition() == other.edition()
            && copy != other
            && contents(&encode(copy)) > contents(&encode(other)))
}

/// What tells this encoded record from others of the same edition.
pub(super) fn contents(encoded: &[u8]) -> Contents {
    let hash = Sha256::digest(encoded);
    Contents(hash.last_chunk().copied().unwrap_or_default())
}

/// The definitions of both types. Whatever records follow, a stream begins with them.
pub(super) fn definitions() -> &'static [u8] {
    static DEFINITIONS: OnceLock<Vec<u8>> = OnceLock::new();
    DEFINITIONS.get_or_init(|| encoder().finish())
}

/// A record as it stands in a stream that begins with [`definitions`].
pub(super) fn encode(peer: &Peer) -> Bytes {
    let mut encoder = encoder();
    let name = peer.name.to_bytes();
    encoder.value(&PeerSummary {
        name: &name,
        nickname: Text::from(peer.nickname.as_str()),
        uid: peer.uid.0,
        version: peer.version,
        short_id: peer.short_id.map_or(0, ShortId::get),
        has_short_id: peer.short_id.is_some(),
    });
    let texts: Vec<([u8; 6], String)> = peer
        .connections
        .iter()
        .map(|connection| (connection.remote.to_bytes(), connection.address.to_string()))
        .collect();
    let connections: Vec<ConnectionSummary<'_>> = peer
        .connections
        .iter()
        .zip(&texts)
        .map(|(connection, (name, address))| ConnectionSummary {
            name,
            address: Text::from(address.as_str()),
            outbound: connection.outbound,
            established: connection.established,
        })
        .collect();
    encoder.value(&connections);
    Bytes::from(encoder.finish()).slice(definitions().len()..)
}

fn encoder() -> Encoder {
    let mut encoder = Encoder::new();
    encoder.announce::<PeerSummary<'_>>();
    encoder.announce::<[ConnectionSummary<'_>]>();
    encoder
}

impl Peer {
    fn from_summary(summary: &PeerSummary<'_>) -> Self {
        Self {
            name: name(summary.name),
            nickname: clean_nickname(&summary.nickname.to_lossy()),
            uid: Uid(summary.uid),
            version: summary.version,
            short_id: ShortId::new(summary.short_id).filter(|_| summary.has_short_id),
            connections: Vec::new(),
        }
    }
}

impl PeerConnection {
    fn from_summary(summary: &ConnectionSummary<'_>) -> Self {
        let address = summary.address.to_lossy();
        let odd = address.len() > MAX_ADDRESS_LEN || address.contains(char::is_control);
        let address = if odd { "" } else { &*address };
        Self {
            remote: name(summary.name),
            address: PeerAddress::from(address),
            outbound: summary.outbound,
            established: summary.established,
        }
    }
}

/// The original passes on names of any length.
fn name(bytes: &[u8]) -> PeerName {
    bytes.try_into().map_or(PeerName::UNKNOWN, PeerName::from_bytes)
}

/// Sorts by the remote peer and keeps the last one of each.
fn keep_later_of_each(connections: &mut Vec<PeerConnection>) {
    if connections.is_sorted_by(|a, b| a.remote < b.remote) {
        return;
    }
    // Sorting is stable: reversed, the last one comes first and is kept.
    connections.reverse();
    connections.sort_by_key(|connection| connection.remote);
    connections.dedup_by_key(|connection| connection.remote);
}
