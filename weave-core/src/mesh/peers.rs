//! The topology: what is known of every peer in the mesh (spec mesh.md, sections 10 to 14).
//!
//! Each peer keeps the record of itself and tells its neighbours when it changes; they copy it and
//! tell theirs. Of two copies the newer one wins everywhere, so all tables become equal, in
//! whatever order the news comes. Of two copies of one edition, which only a peer that lies can
//! bring about, the one with the greater contents does. A peer of which others tell what it did not
//! say says it again in a later version. What nobody has a connection to any more is collected.
//!
//! A peer that restarts begins at version 0. Its old record comes back to it from the others,
//! and it goes on one above: [`Effects::announce_own`].

mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::features::Features;
use super::graph::{Graph, View};
use super::peer::{Contents, Peer, PeerAddress, PeerConnection, RecordId, clean_nickname};
use super::short_ids::{Change, ShortIds};
use super::update::{self, Limits, UpdateError};
use super::{PeerName, Random, ShortId, Uid};

/// Peers in the table: as many as there are short ids. What is told beyond that goes, and who goes
/// is decided in `room`.
pub const MAX_PEERS: usize = 4096;
/// Connections in the table, counted at both ends: a full mesh of 1,024 peers. With their encoded
/// form that is 100 MB, and 250 MB if somebody makes them as long as possible.
pub const MAX_LINKS: usize = 1 << 20;

/// Longest payload made of several records. Receivers take 10 MiB; in smaller pieces other
/// messages get their turn in between.
const MAX_PAYLOAD_LEN: usize = 1 << 20;

/// The table of all known peers. The own peer is always in it.
#[derive(Debug)]
pub struct Peers {
    own: PeerName,
    limits: Limits,
    entries: BTreeMap<PeerName, Entry>,
    short_ids: ShortIds,
    /// Connections in all records.
    links: usize,
    /// The links as of the last time somebody asked, and the records that changed since. None if
    /// peers came or went.
    graph: Option<Arc<Graph>>,
    changed: BTreeSet<PeerName>,
    /// How often a record came, went or changed.
    changes: u64,
    /// The incarnation of the own name that was outlived last, and how often.
    outlived: Option<(Uid, u32)>,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    /// Connections of this process to the peer, registered or about to be. While there are any
    /// the peer is not collected. The own peer has one for ever.
    references: usize,
    /// The record as it is sent, made when first needed.
    encoded: OnceLock<Bytes>,
    /// Tells it from other copies of its edition, made when first needed.
    contents: OnceLock<Contents>,
}

impl Entry {
    const fn new(peer: Peer, references: usize) -> Self {
        Self { peer, references, encoded: OnceLock::new(), contents: OnceLock::new() }
    }

    fn encoded(&self) -> &Bytes {
        self.encoded.get_or_init(|| update::encode(&self.peer))
    }

    fn id(&self) -> RecordId {
        let contents = *self.contents.get_or_init(|| update::contents(self.encoded()));
        RecordId { edition: self.peer.edition(), contents }
    }

    /// The record is about to change.
    fn change(&mut self) -> &mut Peer {
        self.encoded = OnceLock::new();
        self.contents = OnceLock::new();
        &mut self.peer
    }
}

/// What the router must do after a change of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Effects {
    /// The own record changed for a reason other than a connection: schedule an update.
    pub announce_own: bool,
    /// A short id stands for another peer than it once did: transports forget what they derived
    /// from short ids.
    pub short_ids_changed: bool,
    /// The own short id was lost to a peer with a lower name, and this is the new one.
    pub new_short_id: Option<ShortId>,
}

/// Records of another incarnation of the own name, each newer than ours that answered the one
/// before, that tell that it is alive. One that stopped leaves a record behind, and one or two
/// more can be on their way.
const SIGNS_OF_LIFE: u32 = 4;

/// What an update brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Applied {
    /// The peers it was about: what is passed on if it was a broadcast.
    pub names: BTreeSet<PeerName>,
    /// Those of which it brought news: what is passed on if it was gossip. If there are any,
    /// routes and connections to make have to be looked at again.
    pub delta: BTreeSet<PeerName>,
    /// Another router that goes on making records of the own peer: its incarnation and what
    /// people call it.
    pub duplicate_self: Option<(Uid, String)>,
    /// Records that were left out for want of room, or since no peer can have so many connections.
    pub dropped: usize,
    /// Peers that made room for these.
    pub removed: Vec<Peer>,
    /// What else must be done.
    pub effects: Effects,
}

/// A neighbour was registered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Registered {
    /// What was known is of an earlier incarnation, or nothing but the name: it may lack all that
    /// was gossiped before.
    pub restarted: bool,
    /// Peers that made room for it.
    pub removed: Vec<Peer>,
    /// What else must be done.
    pub effects: Effects,
}

/// A neighbour that cannot be registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegisterError {
    /// A discovered address turned out to belong to a peer nobody has told of.
    #[error("unknown remote name {0} at a discovered address")]
    Unknown(PeerName),
    /// There is no room for another neighbour.
    #[error("there are {MAX_PEERS} neighbours, and {0} is not among them")]
    Full(PeerName),
}

/// The peers that were collected.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Collected {
    /// Ascending.
    pub removed: Vec<Peer>,
    /// What else must be done.
    pub effects: Effects,
}

impl Peers {
    /// The table of a router that knows only itself.
    pub fn new(name: PeerName, nickname: String, uid: Uid, short_id: ShortId) -> Self {
        let nickname = clean_nickname(&nickname);
        let own = Peer { nickname, uid, short_id: Some(short_id), ..Peer::placeholder(name) };
        let mut peers = Self {
            own: name,
            limits: Limits { peers: MAX_PEERS, links: MAX_LINKS },
            entries: BTreeMap::new(),
            short_ids: ShortIds::default(),
            links: 0,
            graph: None,
            changed: BTreeSet::new(),
            changes: 0,
            outlived: None,
        };
        let _ = peers.insert(own, 1);
        peers
    }

    /// The record of this router.
    pub fn own(&self) -> &Peer {
        &self.entries.get(&self.own).expect("the own peer is never removed").peer
    }

    /// The record of a peer.
    pub fn get(&self, name: PeerName) -> Option<&Peer> {
        self.entries.get(&name).map(|entry| &entry.peer)
    }

    /// What tells the record of a peer from other copies.
    pub fn record_id(&self, name: PeerName) -> Option<RecordId> {
        self.entries.get(&name).map(Entry::id)
    }

    /// All records, by name. Those with [`Uid`] 0 are placeholders.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.entries.values().map(|entry| &entry.peer)
    }

    /// All names, ascending.
    pub fn names(&self) -> impl Iterator<Item = PeerName> + '_ {
        self.entries.keys().copied()
    }

    /// How many there are, the own one and placeholders included.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// A number that grows when any record comes, goes or changes.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// How many connections of this process hold the record of a peer.
    pub fn references(&self, name: PeerName) -> usize {
        self.entries.get(&name).map_or(0, |entry| entry.references)
    }

    /// Which peer a short id stands for.
    pub const fn short_ids(&self) -> &ShortIds {
        &self.short_ids
    }

    /// The links between all peers as they are now; for [`Routes`](super::Routes). What has not
    /// changed since the last call is not computed again.
    pub fn graph(&mut self) -> Arc<Graph> {
        let changed = std::mem::take(&mut self.changed);
        let graph = match self.graph.take() {
            Some(mut graph) => {
                for name in changed {
                    if let Some(entry) = self.entries.get(&name) {
                        Arc::make_mut(&mut graph).replace(name, entry.peer.links());
                    }
                }
                graph
            }
            None => Arc::new(Graph::new(self.iter().map(|peer| (peer.name, peer.links())))),
        };
        self.graph = Some(Arc::clone(&graph));
        graph
    }

    /// A connection passed the handshake: makes sure of a record of the peer at its other end,
    /// and holds it until [`Self::release`] (spec mesh.md, steps 7.3 and 7.5). A record that
    /// exists is not changed.
    ///
    /// # Errors
    /// When there is no record and none may be made. Nothing is held then.
    pub fn register(
        &mut self,
        features: &Features,
        accept_unknown: bool,
        random: &mut Random,
    ) -> Result<Registered, RegisterError> {
        if let Some(entry) = self.entries.get_mut(&features.name) {
            entry.references += 1;
            let restarted = entry.peer.uid != features.uid;
            let effects = Effects::default();
            return Ok(Registered { restarted, removed: Vec::new(), effects });
        }
        if !accept_unknown {
            return Err(RegisterError::Unknown(features.name));
        }
        let held = || self.entries.values().filter(|entry| entry.references > 0).count();
        if self.entries.len() >= self.limits.peers && held() >= self.limits.peers {
            return Err(RegisterError::Full(features.name));
        }
        let change = self.insert(
            Peer {
                nickname: features.nickname.clone(),
                uid: features.uid,
                short_id: features.short_id,
                ..Peer::placeholder(features.name)
            },
            1,
        );
        let mut effects = Effects::default();
        effects.note(change);
        let removed = self.make_room(&BTreeSet::new(), &mut effects);
        self.keep_own_short_id(&mut effects, random);
        Ok(Registered { restarted: false, removed, effects })
    }

    /// A connection that was registered ended: the record may be collected when nothing else
    /// holds it.
    pub fn release(&mut self, name: PeerName) {
        if let Some(entry) = self.entries.get_mut(&name).filter(|entry| entry.references > 0) {
            entry.references -= 1;
        }
    }

    /// Adds a connection to the own record (spec mesh.md, step 7.7), in place of another one to
    /// the same peer. Schedule an update, and recalculate routes.
    pub fn add_connection(&mut self, connection: PeerConnection) {
        let connections = self.change_own();
        match connections.binary_search_by_key(&connection.remote, |known| known.remote) {
            Ok(at) => connections[at] = connection,
            Err(at) => {
                connections.insert(at, connection);
                self.links += 1;
            }
        }
    }

    /// Marks a connection in the own record as established (spec mesh.md, step 7.11). Says
    /// whether there was something to change; if so schedule an update, and recalculate routes.
    pub fn establish_connection(&mut self, remote: PeerName) -> bool {
        let established = self.own().connection(remote).is_none_or(|known| known.established);
        if established {
            return false;
        }
        let own = self.change_own().iter_mut().filter(|known| known.remote == remote);
        own.for_each(|known| known.established = true);
        true
    }

    /// Removes a connection from the own record (spec mesh.md, step 7.12). Says whether there
    /// was one; if so collect garbage at once, schedule an update, and recalculate routes.
    pub fn remove_connection(&mut self, remote: PeerName) -> bool {
        if self.own().connection(remote).is_none() {
            return false;
        }
        self.change_own().retain(|known| known.remote != remote);
        self.links -= 1;
        true
    }

    /// Applies the payload of a gossip message (spec mesh.md, section 12). Collect garbage a
    /// second later.
    ///
    /// # Errors
    /// The bytes make no sense, and nothing was applied. Routers make such payloads themselves,
    /// also of what they pass on: close the connection it came from.
    pub fn apply_update(
        &mut self,
        payload: &[u8],
        random: &mut Random,
    ) -> Result<Applied, UpdateError> {
        let may_be_news = |peer: &Peer| self.may_be_news(peer);
        let is_news = |peer: &Peer| self.is_news(peer);
        let update = update::decode(payload, self.limits, may_be_news, is_news)?;
        let placeholders = self.unknown_remotes(&update.records);
        let mut fresh = BTreeSet::new();
        let mut applied =
            Applied { names: update.names, dropped: update.dropped, ..Applied::default() };
        let effects = &mut applied.effects;
        for (name, record) in update.records {
            if name == self.own {
                if self.outlive(&record) {
                    applied.duplicate_self = Some((record.uid, record.nickname));
                }
                effects.announce_own = true;
                continue;
            }
            match self.entries.get_mut(&name) {
                None => {
                    fresh.insert(name);
                    effects.note(self.insert(record, 0));
                }
                Some(_) => self.replace(record, effects),
            }
            applied.delta.insert(name);
        }
        let room = self.limits.peers.saturating_sub(self.entries.len());
        for name in placeholders.into_iter().take(room) {
            effects.note(self.insert(Peer::placeholder(name), 0));
        }
        for peer in self.make_room(&fresh, effects) {
            applied.delta.remove(&peer.name);
            applied.names.remove(&peer.name);
            if fresh.contains(&peer.name) {
                applied.dropped += 1;
            } else {
                applied.removed.push(peer);
            }
        }
        self.keep_own_short_id(effects, random);
        Ok(applied)
    }

    /// Removes every peer that neither a chain of connections leads to nor a connection of this
    /// process holds (spec mesh.md, section 14).
    pub fn collect_garbage(&mut self, random: &mut Random) -> Collected {
        let graph = self.graph();
        let own = graph.index(self.own).expect("the own peer is never removed");
        let mut reachable = BTreeSet::from([self.own]);
        graph.reach(View::All, own, None, |_, found| {
            reachable.insert(graph.names()[found]);
        });
        let garbage: Vec<PeerName> = self
            .entries
            .values()
            .filter(|entry| entry.references == 0 && !reachable.contains(&entry.peer.name))
            .map(|entry| entry.peer.name)
            .collect();

        let mut collected = Collected::default();
        for name in garbage {
            collected.removed.extend(self.remove(name, &mut collected.effects));
        }
        if !collected.removed.is_empty() {
            self.keep_own_short_id(&mut collected.effects, random);
        }
        collected
    }

    /// The present records of those of these peers that are known, as payloads of the `topology`
    /// channel. Each record is encoded once for all who get it.
    pub fn encode(&self, names: &BTreeSet<PeerName>) -> Vec<Bytes> {
        payloads(names.iter().filter_map(|name| self.entries.get(name)))
    }

    /// Divides these peers into those whose records fill one payload, at least one, and the others.
    pub fn first_payload(
        &self,
        names: &BTreeSet<PeerName>,
    ) -> (BTreeSet<PeerName>, BTreeSet<PeerName>) {
        let mut len = 0;
        let mut beyond = names.iter().skip_while(|name| {
            let entry = self.entries.get(name);
            let first = len == 0;
            len += entry.map_or(0, |e| e.encoded.get_or_init(|| update::encode(&e.peer)).len());
            first || len <= MAX_PAYLOAD_LEN
        });
        let Some(beyond) = beyond.next().copied() else {
            return (names.clone(), BTreeSet::new());
        };
        let mut first = names.clone();
        let rest = first.split_off(&beyond);
        (first, rest)
    }

    /// The present records of all peers.
    pub fn encode_all(&self) -> Vec<Bytes> {
        payloads(self.entries.values())
    }

    /// Whether an update may have something to say with this record, whose connections have not
    /// been looked at.
    fn may_be_news(&self, peer: &Peer) -> bool {
        match self.get(peer.name) {
            None => true,
            // Nothing is known of a placeholder, whoever tells of it.
            Some(known) if known.uid == Uid(0) => peer.edition() > known.edition(),
            // There is no version after the last one.
            Some(own) if peer.name == self.own => {
                peer.version >= own.version && own.version < u64::MAX
            }
            Some(known) => peer.edition() >= known.edition(),
        }
    }

    /// Whether an update has something to say with this record.
    fn is_news(&self, peer: &Peer) -> bool {
        let Some(entry) = self.entries.get(&peer.name) else { return true };
        let known = &entry.peer;
        if peer.edition() == known.edition() && *peer == *known {
            return false;
        }
        if peer.name == self.own {
            return remembers_another(peer, known) || contradicts(peer, entry);
        }
        peer.edition() > known.edition()
            || (peer.edition() == known.edition()
                && update::contents(&update::encode(peer)) > entry.id().contents)
    }

    /// The peers that these records have connections to and nothing is known of.
    fn unknown_remotes(&self, records: &BTreeMap<PeerName, Peer>) -> BTreeSet<PeerName> {
        let others = records.values().filter(|record| record.name != self.own);
        others
            .flat_map(|record| &record.connections)
            .map(|connection| connection.remote)
            .filter(|name| !self.entries.contains_key(name) && !records.contains_key(name))
            .collect()
    }

    /// Goes on above what the mesh has of the own peer: from a former incarnation, or because
    /// somebody made it up. Whether that one must be alive: it has outlived ours again and again.
    fn outlive(&mut self, remembered: &Peer) -> bool {
        self.change_own();
        self.own_entry().change().version = remembered.version.saturating_add(1);
        let before = self.outlived.filter(|(uid, _)| *uid == remembered.uid);
        let times = before.map_or(1, |(_, times)| times.saturating_add(1));
        self.outlived = Some((remembered.uid, times));
        times >= SIGNS_OF_LIFE
    }

    fn insert(&mut self, peer: Peer, references: usize) -> Change {
        let name = peer.name;
        let change = peer.short_id.map_or(Change::None, |id| self.short_ids.register(id, name));
        self.links += peer.connections.len();
        self.entries.insert(name, Entry::new(peer, references));
        self.graph = None;
        self.changes += 1;
        change
    }

    fn remove(&mut self, name: PeerName, effects: &mut Effects) -> Option<Peer> {
        let Entry { peer, .. } = self.entries.remove(&name)?;
        self.graph = None;
        self.changes += 1;
        self.links -= peer.connections.len();
        if let Some(id) = peer.short_id {
            effects.note(self.short_ids.unregister(id, name));
        }
        Some(peer)
    }

    /// Takes over a newer record of a known peer.
    fn replace(&mut self, record: Peer, effects: &mut Effects) {
        let Some(entry) = self.entries.get_mut(&record.name) else { return };
        let name = record.name;
        let (old, new) = (entry.peer.short_id, record.short_id);
        self.links += record.connections.len();
        self.links -= entry.peer.connections.len();
        *entry.change() = record;
        self.changed.insert(name);
        self.changes += 1;
        if old != new {
            if let Some(old) = old {
                effects.note(self.short_ids.unregister(old, name));
            }
            if let Some(new) = new {
                effects.note(self.short_ids.register(new, name));
            }
        }
    }

    /// Makes a new version of the own record, of which the connections are about to change.
    fn change_own(&mut self) -> &mut Vec<PeerConnection> {
        self.changed.insert(self.own);
        self.changes += 1;
        let own = self.own_entry().change();
        own.version = own.version.saturating_add(1);
        &mut own.connections
    }

    fn own_entry(&mut self) -> &mut Entry {
        self.entries.get_mut(&self.own).expect("the own peer is never removed")
    }

    /// If the own short id belongs to another peer, moves to one that is free. If none is, the
    /// next collection may bring one.
    fn keep_own_short_id(&mut self, effects: &mut Effects, random: &mut Random) {
        let own = self.own;
        let Some(old) = self.own().short_id else { return };
        if self.short_ids.owner(old) == Some(own) {
            return;
        }
        let Some(new) = self.short_ids.draw_free(random) else { return };
        effects.note(self.short_ids.unregister(old, own));
        effects.note(self.short_ids.register(new, own));
        self.change_own();
        self.own_entry().change().short_id = Some(new);
        effects.announce_own = true;
        effects.new_short_id = Some(new);
    }
}

impl Effects {
    fn note(&mut self, change: Change) {
        self.short_ids_changed |= change == Change::Invalidation;
    }
}

impl PeerConnection {
    /// A connection of this process, as it goes into the own record.
    pub const fn new(remote: PeerName, address: std::net::SocketAddr, outbound: bool) -> Self {
        let address = PeerAddress::Socket(address);
        Self { remote, address, outbound, established: false }
    }
}

/// Whether a record of the own peer is of another incarnation, which the mesh would go on to
/// prefer to `own`.
fn remembers_another(record: &Peer, own: &Peer) -> bool {
    record.uid != own.uid && record.version >= own.version
}

/// Whether somebody tells of this incarnation what it did not.
fn contradicts(record: &Peer, own: &Entry) -> bool {
    let same = record.uid == own.peer.uid;
    let forged = record.version == own.peer.version && update::encode(record) != *own.encoded();
    same && (record.version > own.peer.version || forged)
}

/// Strings records together, in payloads of about [`MAX_PAYLOAD_LEN`].
fn payloads<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Bytes> {
    let definitions = update::definitions();
    let records: Vec<&[u8]> = entries.map(|entry| &**entry.encoded()).collect();
    let mut payloads = Vec::new();
    let mut rest = records.as_slice();
    while !rest.is_empty() {
        let mut len = definitions.len();
        let fitting = rest.iter().take_while(|record| {
            len += record.len();
            len <= MAX_PAYLOAD_LEN
        });
        let (records, later) = rest.split_at(fitting.count().max(1));
        let parts = std::iter::once(&definitions).chain(records).copied();
        payloads.push(parts.collect::<Vec<_>>().concat().into());
        rest = later;
    }
    payloads
}
