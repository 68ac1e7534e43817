//! Gossip on its way out (spec mesh.md, sections 9.1 and 9.2).
//!
//! Gossip and broadcasts wait until the routes are up to date, then in the buckets of each
//! connection they go to, and are encoded when that connection has nothing more to write.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Mesh;
use crate::mesh::connection::Connection;
use crate::mesh::gossip::TOPOLOGY;
use crate::mesh::gossip::channel::Wish;
use crate::mesh::gossip::sender::{Parcel, Pending, Reply};
use crate::mesh::gossip::sync::SyncMessage;
use crate::mesh::gossip::{Outbox, hops};
use crate::mesh::{ConnectionId, Gossip, Message, PeerName, Unicast};

/// Whom gossip goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Audience {
    /// Some neighbours, drawn at random.
    Neighbours { except: Option<PeerName> },
    /// Those who have it from us, of all that `source` tells.
    Broadcast { source: PeerName },
}

/// What waits for the routes, merged, with bounds.
#[derive(Default)]
pub(super) struct Deferred {
    waiting: BTreeMap<(Arc<str>, Audience), Pending>,
    bytes: usize,
}

impl Deferred {
    /// Ways and channels that wait at most.
    const MAX_WAITING: usize = 4096;
    /// Bytes that wait at most, as the channels count them.
    const MAX_BYTES: usize = 32 << 20;

    /// Returns false if there was no room.
    fn push(&mut self, channel: Arc<str>, audience: Audience, content: Pending) -> bool {
        let full = self.waiting.len() >= Self::MAX_WAITING || self.bytes >= Self::MAX_BYTES;
        let key = (channel, audience);
        let mut slot = self.waiting.remove(&key);
        if full && slot.is_none() {
            return false;
        }
        self.bytes -= slot.as_ref().map_or(0, Pending::size);
        Pending::merge(&mut slot, content);
        self.bytes += slot.as_ref().map_or(0, Pending::size);
        slot.into_iter().for_each(|slot| drop(self.waiting.insert(key.clone(), slot)));
        true
    }
}

/// What was encoded for one neighbour and is likely to go to the next one as well.
#[derive(Default)]
pub(super) struct Encoded(Vec<(Parcel, Vec<Bytes>)>);

impl Encoded {
    /// Different things remembered: a few neighbours are served in turn with the same.
    const MAX: usize = 8;

    fn get(&self, parcel: &Parcel) -> Option<&Vec<Bytes>> {
        self.0.iter().find(|(known, _)| known.is_same(parcel)).map(|(_, messages)| messages)
    }

    fn insert(&mut self, parcel: Parcel, messages: Vec<Bytes>) {
        if self.0.len() >= Self::MAX {
            self.0.remove(0);
        }
        self.0.push((parcel, messages));
    }

    /// Records may change from here on.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Mesh {
    /// Sends to an audience, or keeps it until the routes are known.
    pub(super) fn spread(&mut self, channel: Arc<str>, audience: Audience, content: Pending) {
        if self.deadlines.routes.is_none() {
            self.dispatch(&channel, audience, &content);
        } else if !self.deferred.push(channel, audience, content) {
            self.counters.dropped_backlog += 1;
        }
    }

    /// The routes are there.
    pub(super) fn dispatch_deferred(&mut self) {
        let Deferred { waiting, .. } = std::mem::take(&mut self.deferred);
        for ((channel, audience), content) in waiting {
            self.dispatch(&channel, audience, &content);
        }
    }

    fn dispatch(&mut self, channel: &Arc<str>, audience: Audience, content: &Pending) {
        let routes = Arc::clone(&self.routes);
        let (source, hops) = match audience {
            Audience::Neighbours { except } => {
                (None, routes.random_neighbours(except, &mut self.random))
            }
            Audience::Broadcast { source } => (Some(source), routes.broadcast_all(source).to_vec()),
        };
        for hop in hops {
            if let Some(id) = self.by_peer.get(&hop).copied() {
                self.enqueue_or_offer(id, channel, source, content);
            }
        }
    }

    /// Records are offered to neighbours who know how to ask for them, and sent to others.
    fn enqueue_or_offer(
        &mut self,
        id: ConnectionId,
        channel: &Arc<str>,
        source: Option<PeerName>,
        content: &Pending,
    ) {
        let peered = self.connections.get_mut(&id).and_then(Connection::peered_mut);
        match (peered, content) {
            (Some(peered), Pending::Records(names)) if peered.digests => {
                peered.buckets.offer(names);
                self.ready.insert(id);
            }
            _ => self.enqueue(id, channel, source, content.clone()),
        }
    }

    pub(super) fn enqueue(
        &mut self,
        id: ConnectionId,
        channel: &Arc<str>,
        broadcast_source: Option<PeerName>,
        content: Pending,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(peered) = connection.peered_mut() else { return };
        let channel = Arc::clone(channel);
        if !peered.buckets.push(Parcel { channel, broadcast_source, content }) {
            self.counters.dropped_backlog += 1;
        }
        self.ready.insert(id);
        self.count_held(id);
    }

    /// Owes the neighbour this, if it is not owed yet.
    pub(super) fn owe(&mut self, id: ConnectionId, reply: Reply) {
        let peered = self.connections.get_mut(&id).and_then(Connection::peered_mut);
        if let Some(peered) = peered {
            peered.buckets.owe(reply);
            self.ready.insert(id);
        }
    }

    fn reply(&mut self, id: ConnectionId, reply: Reply) {
        match reply {
            Reply::InUse => self.answer_probe(id),
            Reply::Digest => {
                let digest = self.digest();
                self.transmit_sync(id, &SyncMessage::Digest(digest));
            }
            Reply::Ask => {
                let inventory = self.inventory();
                self.transmit_sync(id, &SyncMessage::Ask((*inventory).clone()));
            }
            Reply::Answer => {
                let inventory = self.inventory();
                self.transmit_sync(id, &SyncMessage::Answer((*inventory).clone()));
            }
            Reply::OwnRecord => self.send_own_record(id),
        }
    }

    /// Encodes what waits for a connection, while that has little else to write.
    pub(super) fn send_waiting(&mut self, id: ConnectionId) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            if !connection.wants_gossip() {
                return;
            }
            let Some(peered) = connection.peered_mut() else { return };
            if let Some(reply) = peered.buckets.pop_reply() {
                self.reply(id, reply);
                continue;
            }
            if let Some(names) = peered.buckets.pop_wanted() {
                self.transmit_sync(id, &SyncMessage::Want(names));
                continue;
            }
            if let Some(names) = peered.buckets.pop_offers() {
                let offer = self.offer(&names);
                self.transmit_sync(id, &offer);
                continue;
            }
            let Some(mut parcel) = peered.buckets.pop() else { return };
            self.postpone_most(id, &mut parcel);
            let broadcast = parcel.broadcast_source.is_some();
            for payload in self.encode(parcel) {
                self.counters.gossip_sent += 1;
                if broadcast {
                    self.transmit(id, &Message::Broadcast(&payload));
                } else {
                    self.transmit(id, &Message::Gossip(&payload));
                }
            }
        }
    }

    /// Of records that are too many for one message the others wait: all of them at once can be
    /// more than a connection may hold, if somebody makes the topology large.
    fn postpone_most(&mut self, id: ConnectionId, parcel: &mut Parcel) {
        let Pending::Records(names) = &parcel.content else { return };
        let (first, rest) = self.peers.first_payload(names);
        if rest.is_empty() {
            return;
        }
        let (channel, broadcast_source) = (Arc::clone(&parcel.channel), parcel.broadcast_source);
        self.enqueue(id, &channel, broadcast_source, Pending::Records(Arc::new(rest)));
        parcel.content = Pending::Records(Arc::new(first));
    }

    fn encode(&mut self, parcel: Parcel) -> Vec<Bytes> {
        if let Some(messages) = self.encoded.get(&parcel) {
            return messages.clone();
        }
        let payloads = match &parcel.content {
            Pending::Records(names) => self.peers.encode(names),
            Pending::Data(data) => data.encode(),
        };
        let channel = &*parcel.channel;
        let source = parcel.broadcast_source.unwrap_or(self.config.name);
        let message = |data: &Bytes| Bytes::from(Gossip { channel, source, data }.encode());
        let messages: Vec<Bytes> = payloads.iter().map(message).collect();
        self.encoded.insert(parcel, messages.clone());
        messages
    }

    /// Does what a channel wants done.
    pub(super) fn fulfil(&mut self, channel: &str, out: Outbox) {
        for wish in out.wishes {
            match wish {
                Wish::Unicast(to, payload) => self.send_unicast(channel, to, &payload),
                Wish::Broadcast(data) => {
                    let audience = Audience::Broadcast { source: self.config.name };
                    self.spread(channel.into(), audience, Pending::Data(data));
                }
                Wish::Gossip(data) => {
                    let audience = Audience::Neighbours { except: None };
                    self.spread(channel.into(), audience, Pending::Data(data));
                }
            }
        }
    }

    pub(super) fn send_unicast(&mut self, channel: &str, to: PeerName, data: &[u8]) {
        let source = self.config.name;
        let payload = Unicast { channel, source, destination: to, data }.encode();
        self.transmit_unicast(None, to, None, &payload);
    }

    /// Passes on a unicast for another peer, as it is.
    pub(super) fn relay_unicast(
        &mut self,
        from: PeerName,
        unicast: Unicast<'_>,
        relays: Option<u8>,
        payload: &[u8],
    ) {
        if unicast.channel == TOPOLOGY {
            // The original would close the connection over which it gets that.
            self.counters.gossip_refused += 1;
            return;
        }
        let relays_left = match relays {
            Some(relays) => relays.checked_sub(1),
            None => Some(u8::MAX),
        };
        let circles = relays.is_none() && self.circles.sees_too_often(self.now, &[payload]);
        let Some(relays_left) = relays_left.filter(|_| !circles) else {
            self.counters.gossip_circled += 1;
            return;
        };
        let to = unicast.destination;
        if self.transmit_unicast(Some(from), to, Some(relays_left), payload) {
            self.counters.unicasts_relayed += 1;
        }
    }

    fn transmit_unicast(
        &mut self,
        from: Option<PeerName>,
        to: PeerName,
        relays: Option<u8>,
        payload: &[u8],
    ) -> bool {
        // Back to where it came from: routes differ at the moment, and it would circle.
        let hop = self.routes.unicast_all(to).filter(|hop| Some(*hop) != from);
        let Some(id) = hop.and_then(|hop| self.by_peer.get(&hop).copied()) else {
            self.counters.unicasts_unroutable += 1;
            return false;
        };
        let takes = |connection: &Connection| match from {
            Some(_) => connection.takes_relayed_unicast(payload.len()),
            None => connection.takes_unicast(payload.len()),
        };
        let Some(connection) = self.connections.get(&id).filter(|c| takes(c)) else {
            self.counters.dropped_backlog += 1;
            return false;
        };
        self.counters.gossip_sent += 1;
        if connection.peered().is_some_and(|peered| peered.hops) {
            let distance = self.routes.distance_all(to).unwrap_or(1);
            let payload = hops::encode(hops::allowance(distance, relays), payload);
            self.transmit(id, &Message::Unknown { tag: hops::TAG, payload: &payload });
        } else {
            self.transmit(id, &Message::Unicast(payload));
        }
        true
    }

    /// To a new neighbour: all that is known, on every channel.
    pub(super) fn send_complete_states(&mut self, id: ConnectionId) {
        if self.connections.get(&id).and_then(Connection::peered).is_some_and(|p| p.digests) {
            self.owe(id, Reply::Ask);
        } else {
            let names = Pending::Records(Arc::new(self.peers.names().collect()));
            self.enqueue(id, &TOPOLOGY.into(), None, names);
        }
        for (channel, state) in self.complete_states() {
            self.enqueue(id, &channel, None, state);
        }
    }

    /// To some neighbours, from time to time: all that is known, on every channel.
    pub(super) fn gossip_complete_states(&mut self) {
        if self.deadlines.routes.is_some() {
            self.calculate_routes();
        }
        self.gossip_topology();
        for (channel, state) in self.complete_states() {
            self.spread(channel, Audience::Neighbours { except: None }, state);
        }
    }

    /// As the original does, but to those who understand it only the digest.
    fn gossip_topology(&mut self) {
        let routes = Arc::clone(&self.routes);
        let mut names = None;
        for hop in routes.random_neighbours(None, &mut self.random) {
            let Some(id) = self.by_peer.get(&hop).copied() else { continue };
            let peered = self.connections.get(&id).and_then(Connection::peered);
            if peered.is_some_and(|peered| peered.digests) {
                self.owe(id, Reply::Digest);
            } else {
                let all = names.get_or_insert_with(|| {
                    Pending::Records(Arc::new(self.peers.names().collect()))
                });
                let all = all.clone();
                self.enqueue(id, &TOPOLOGY.into(), None, all);
            }
        }
    }

    fn complete_states(&mut self) -> Vec<(Arc<str>, Pending)> {
        let now = self.now;
        let states = self.channels.iter_mut().filter_map(|(name, channel)| {
            Some((Arc::clone(name), Pending::Data(channel.complete_state(now)?)))
        });
        states.collect()
    }
}
