//! Comparing the topology with neighbours that understand digests, and fetching what is new.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Mesh;
use crate::mesh::connection::Connection;
use crate::mesh::gossip::TOPOLOGY;
use crate::mesh::gossip::sender::{Pending, Reply};
use crate::mesh::gossip::sync::{self, Inventory, SyncMessage};
use crate::mesh::{ConnectionId, Gossip, Message, Peer, PeerName, Peers, RecordId, Uid};
use crate::time::Instant;

/// A record that was asked for and has not come after this time is asked of the next neighbour
/// that offers it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Records that are asked for at one time: as many as there can be peers.
const MAX_ASKED: usize = crate::mesh::MAX_PEERS;

/// A record that a neighbour was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    record: RecordId,
    at: Instant,
}

/// What is known, as it is compared with neighbours.
pub(super) struct Summary {
    /// The changes of the table, and the own record as it was announced.
    of: (u64, RecordId),
    inventory: Arc<Inventory>,
    digest: [u8; 32],
}

/// The own record as others were last told of it.
///
/// While a mesh forms the own record changes many times a second. If everybody who asks got the
/// latest one, each would have another one to pass on; so between announcements all get the same.
pub(super) struct Announced {
    record: RecordId,
    payloads: Vec<Bytes>,
}

impl Announced {
    pub(super) fn new(peers: &Peers) -> Self {
        let own = peers.own().name;
        let record = peers.record_id(own).expect("the own peer is never removed");
        Self { record, payloads: peers.encode(&BTreeSet::from([own])) }
    }
}

impl Mesh {
    pub(super) fn handle_sync(&mut self, id: ConnectionId, message: SyncMessage) {
        match message {
            SyncMessage::Digest(theirs) => {
                if theirs != self.digest() {
                    self.charge_inventory(id);
                    self.owe(id, Reply::Ask);
                }
            }
            SyncMessage::Ask(theirs) => self.compare(id, &theirs, true),
            SyncMessage::Answer(theirs) => self.compare(id, &theirs, false),
            SyncMessage::Offer(theirs) => self.handle_offer(id, &theirs),
            SyncMessage::Want(names) => self.send_records(id, names),
        }
    }

    /// Sends what the neighbour lacks, and lets it send what we lack.
    fn compare(&mut self, id: ConnectionId, theirs: &Inventory, may_answer: bool) {
        let ours = self.inventory();
        let difference = ours.compare(theirs);
        if !difference.to_send.is_empty() {
            self.send_records(id, difference.to_send);
        }
        if difference.to_fetch && may_answer {
            self.charge_inventory(id);
            self.owe(id, Reply::Answer);
        }
    }

    fn handle_offer(&mut self, id: ConnectionId, theirs: &Inventory) {
        let now = self.now;
        let mut wanted = BTreeSet::new();
        for (name, record) in &theirs.0 {
            if self.peers.record_id(*name).is_some_and(|known| known >= *record) {
                continue;
            }
            let under_way = |asked: &Asked| {
                asked.record >= *record && now.saturating_since(asked.at) < PATIENCE
            };
            if !self.asked.get(name).is_some_and(under_way) {
                wanted.insert(*name);
                self.asked.insert(*name, Asked { record: *record, at: now });
            }
        }
        if self.asked.len() > MAX_ASKED {
            self.asked.clear();
        }
        let peered = self.connections.get_mut(&id).and_then(Connection::peered_mut);
        if let Some(peered) = peered.filter(|_| !wanted.is_empty()) {
            peered.buckets.want(wanted);
            self.ready.insert(id);
        }
    }

    /// Records came: they need not be asked for any more.
    pub(super) fn stop_asking(&mut self, names: &BTreeSet<PeerName>) {
        for name in names {
            self.asked.remove(name);
        }
    }

    fn send_records(&mut self, id: ConnectionId, mut names: BTreeSet<PeerName>) {
        self.charge_records(id, names.len());
        if names.remove(&self.config.name) {
            self.owe(id, Reply::OwnRecord);
        }
        if names.is_empty() {
            return;
        }
        self.enqueue(id, &TOPOLOGY.into(), None, Pending::Records(Arc::new(names)));
    }

    pub(super) fn send_own_record(&mut self, id: ConnectionId) {
        let source = self.config.name;
        let payloads = self.announced.payloads.clone();
        for data in payloads {
            let payload = Gossip { channel: TOPOLOGY, source, data: &data }.encode();
            if self.connections.get(&id).is_some_and(|c| c.takes_unicast(payload.len())) {
                self.counters.gossip_sent += 1;
                self.transmit(id, &Message::Gossip(&payload));
            } else {
                self.counters.dropped_backlog += 1;
            }
        }
    }

    /// The offer of these records, as they are now.
    pub(super) fn offer(&self, names: &BTreeSet<PeerName>) -> SyncMessage {
        let records = names.iter().filter_map(|name| self.peers.get(*name));
        SyncMessage::Offer(self.inventory_of(records))
    }

    /// The records that are known here, but for placeholders. Made when something has changed.
    pub(super) fn inventory(&mut self) -> Arc<Inventory> {
        Arc::clone(&self.summary().inventory)
    }

    /// The digest of the inventory.
    pub(super) fn digest(&mut self) -> [u8; 32] {
        self.summary().digest
    }

    fn summary(&mut self) -> &Summary {
        let of = (self.peers.changes(), self.announced.record);
        let current = self.summary.take().filter(|summary| summary.of == of);
        let summary = current.unwrap_or_else(|| {
            let inventory = self.inventory_of(self.peers.iter());
            Summary { of, digest: inventory.digest(), inventory: Arc::new(inventory) }
        });
        self.summary.insert(summary)
    }

    fn inventory_of<'a>(&self, records: impl Iterator<Item = &'a Peer>) -> Inventory {
        let known = records.filter(|peer| peer.uid != Uid(0));
        let ids = known.filter_map(|peer| {
            let own = peer.name == self.config.name;
            let id = if own { self.announced.record } else { self.peers.record_id(peer.name)? };
            Some((peer.name, id))
        });
        Inventory(ids.collect())
    }

    pub(super) fn transmit_sync(&mut self, id: ConnectionId, message: &SyncMessage) {
        let Some(connection) = self.connections.get(&id) else { return };
        let payload = message.encode();
        // A peer that does not take even this much will be told when it reads again.
        if connection.takes_unicast(payload.len()) {
            self.counters.gossip_sent += 1;
            self.transmit(id, &Message::Unknown { tag: sync::TAG, payload: &payload });
        } else {
            self.counters.dropped_backlog += 1;
        }
    }
}
