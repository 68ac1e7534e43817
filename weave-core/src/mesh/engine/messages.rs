//! What neighbours say (spec mesh.md, sections 8 and 9).
//!
//! The connection ends with what only the neighbour itself can have made. What it may have relayed
//! for others is dropped: see [`refusals`](super::refusals).

use std::sync::Arc;

use bytes::Bytes;

use super::{Audience, Mesh, TcpSide};
use crate::mesh::connection::{Connection, Phase};
use crate::mesh::error::ConnectionError;
use crate::mesh::gossip::sender::{Pending, Reply};
use crate::mesh::gossip::surrogate::Surrogate;
use crate::mesh::gossip::sync::{self, SyncMessage};
use crate::mesh::gossip::{Channel, GossipError, Outbox, TOPOLOGY, hops};
use crate::mesh::notice::Notice;
use crate::mesh::output::{Control, Output};
use crate::mesh::{ConnectionId, Gossip, LegacyControl, Message, PeerName, Unicast};

/// Channels that are only relayed. There are three in the original, and each takes memory.
const MAX_SURROGATES: usize = 64;

impl Mesh {
    pub(super) fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.heard(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let early = connection.takes_early(bytes.len());
        match &mut connection.phase {
            Phase::Dialling | Phase::Parting(_) => {}
            Phase::Handshaking { .. } => self.continue_handshake(id, bytes),
            Phase::Peered(peered) if peered.is_registered() => {
                peered.session.handle_bytes(bytes);
                connection.progress(self.now, bytes.len());
                self.read_messages(id);
            }
            Phase::Peered(peered) if early => {
                peered.session.handle_bytes(bytes);
                self.read_early(id);
            }
            Phase::Peered(_) => {
                let error = ConnectionError::Link("not made in time".to_owned());
                self.end(id, error, TcpSide::Open);
            }
        }
        self.count_partial(id);
    }

    pub(super) fn handle_message(
        &mut self,
        id: ConnectionId,
        bytes: &Bytes,
    ) -> Result<(), ConnectionError> {
        let Some(peered) = self.connections.get(&id).and_then(Connection::peered) else {
            return Ok(());
        };
        let (peer, switched, digests) = (peered.peer, peered.switched, peered.digests);
        let (notices, hops) = (peered.notices, peered.hops);
        let mut control = |control| self.outputs.push_back(Output::Control { id, control });
        match Message::decode(bytes) {
            Some(Message::Heartbeat) => {}
            Some(Message::LegacyControl(message, _)) if !switched => {
                let (message, data) = (message.number(), bytes.slice(1..));
                control(Control::Legacy { message, data });
            }
            Some(Message::Control(_)) if switched => control(Control::Switched(bytes.slice(1..))),
            Some(Message::Gossip(payload)) => {
                self.counters.gossip_received += 1;
                match Gossip::decode(payload) {
                    Ok(gossip) => self.handle_gossip(peer, gossip)?,
                    Err(error) if error.is_relayed() => self.drop_malformed(peer, &error),
                    Err(error) => return Err(malformed(error)),
                }
            }
            Some(Message::Broadcast(payload)) => {
                self.counters.gossip_received += 1;
                match Gossip::decode(payload) {
                    Ok(gossip) => self.handle_broadcast(peer, gossip)?,
                    Err(error) if error.is_relayed() => self.drop_malformed(peer, &error),
                    Err(error) => return Err(malformed(error)),
                }
            }
            Some(Message::Unicast(payload)) => {
                self.counters.gossip_received += 1;
                self.receive_unicast(peer, None, payload)?;
            }
            Some(Message::Unknown { tag: hops::TAG, payload }) if hops => {
                self.counters.gossip_received += 1;
                if let Some((relays, unicast)) = hops::decode(payload) {
                    self.receive_unicast(peer, Some(relays), unicast)?;
                }
            }
            Some(Message::Unknown { tag: sync::TAG, payload }) if digests => {
                let message = SyncMessage::decode(payload).map_err(malformed)?;
                message.into_iter().for_each(|message| self.handle_sync(id, message));
            }
            Some(Message::Unknown { tag: Notice::TAG, payload }) if notices => {
                match Notice::decode(payload) {
                    Some(Notice::Probe) => self.owe(id, Reply::InUse),
                    Some(Notice::Answer { in_use: Some(in_use) }) => self.answered(id, in_use),
                    Some(Notice::Refusal(refusal)) => {
                        return Err(ConnectionError::Refused(refusal));
                    }
                    Some(Notice::Answer { in_use: None }) | None => {}
                }
            }
            _ => self.counters.messages_ignored += 1,
        }
        Ok(())
    }

    /// `relays` is how often it may still be relayed, if it says so.
    fn receive_unicast(
        &mut self,
        from: PeerName,
        relays: Option<u8>,
        payload: &[u8],
    ) -> Result<(), ConnectionError> {
        match Unicast::decode(payload) {
            Ok(Unicast { channel, source, .. }) if self.is_forged(from, channel, source) => {
                self.drop_forged(from, channel, source);
            }
            Ok(unicast) if unicast.destination == self.config.name => {
                self.handle_unicast(from, unicast)?;
            }
            Ok(unicast) => self.relay_unicast(from, unicast, relays, payload),
            Err(error) => self.drop_malformed(from, &error),
        }
        Ok(())
    }

    fn handle_gossip(&mut self, from: PeerName, gossip: Gossip<'_>) -> Result<(), ConnectionError> {
        let Gossip { channel, data, .. } = gossip;
        let except = Some(from);
        if channel == TOPOLOGY {
            let applied = self.update_topology(data).map(Some);
            let applied = self.accept_or_drop(from, None, channel, applied)?;
            if let Some(applied) = applied.filter(|applied| !applied.delta.is_empty()) {
                let content = Pending::Records(Arc::new(applied.delta));
                self.spread(channel.into(), Audience::Neighbours { except }, content);
            }
            return Ok(());
        }
        let now = self.now;
        let result =
            self.with_channel(channel, |channel, out| channel.handle_gossip(now, data, out));
        let news = self.accept_or_drop(from, None, channel, result)?;
        if let Some(news) = news.flatten() {
            self.spread(channel.into(), Audience::Neighbours { except }, Pending::Data(news));
        }
        Ok(())
    }

    fn handle_broadcast(
        &mut self,
        from: PeerName,
        gossip: Gossip<'_>,
    ) -> Result<(), ConnectionError> {
        let Gossip { channel, source, data } = gossip;
        if source == self.config.name {
            // Sent round in a circle while routes differ: once was enough.
            self.counters.messages_ignored += 1;
            return Ok(());
        }
        if self.is_forged(from, channel, source) {
            self.drop_forged(from, channel, source);
            return Ok(());
        }
        // Routers that take no part in a channel pass on whatever they get.
        if self.circles.sees_too_often(self.now, &[channel.as_bytes(), &source.to_bytes(), data]) {
            self.counters.gossip_circled += 1;
            return Ok(());
        }
        let audience = Audience::Broadcast { source };
        if channel == TOPOLOGY {
            let applied = self.update_topology(data).map(Some);
            let applied = self.accept_or_drop(from, Some(source), channel, applied)?;
            if let Some(applied) = applied.filter(|applied| !applied.names.is_empty()) {
                self.spread(channel.into(), audience, Pending::Records(Arc::new(applied.names)));
            }
            return Ok(());
        }
        let now = self.now;
        let result = self
            .with_channel(channel, |channel, out| channel.handle_broadcast(now, source, data, out));
        let news = self.accept_or_drop(from, Some(source), channel, result)?;
        if let Some(news) = news.flatten() {
            self.spread(channel.into(), audience, Pending::Data(news));
        }
        Ok(())
    }

    fn handle_unicast(
        &mut self,
        from: PeerName,
        unicast: Unicast<'_>,
    ) -> Result<(), ConnectionError> {
        let Unicast { channel, source, data, .. } = unicast;
        if channel == TOPOLOGY && source == self.config.name {
            // The answer to a probe of ours.
            return Ok(());
        }
        let now = self.now;
        let result = if channel == TOPOLOGY {
            Err(GossipError::Content("the topology is never sent to one peer alone".to_owned()))
        } else {
            self.with_channel(channel, |channel, out| {
                channel.handle_unicast(now, source, data, out)
            })
        };
        self.accept_or_drop(from, Some(source), channel, result)?;
        Ok(())
    }

    /// Calls a channel, made up if no channel of that name was added, and does what it wants done.
    /// `None` if there are too many channels already.
    fn with_channel<T>(
        &mut self,
        name: &str,
        call: impl FnOnce(&mut dyn Channel, &mut Outbox) -> Result<T, GossipError>,
    ) -> Result<Option<T>, GossipError> {
        if !self.channels.contains_key(name) {
            if self.surrogates >= MAX_SURROGATES {
                self.counters.messages_ignored += 1;
                return Ok(None);
            }
            self.surrogates += 1;
            self.channels.insert(name.into(), Box::<Surrogate>::default());
        }
        let Some(channel) = self.channels.get_mut(name) else { return Ok(None) };
        let mut out = Outbox::default();
        let result = call(&mut **channel, &mut out);
        self.fulfil(name, out);
        result.map(Some)
    }

    pub(super) fn replace_channel(&mut self, name: &str, channel: Box<dyn Channel>) {
        self.channels.insert(name.into(), channel);
    }

    /// What the transports say to those of the neighbour.
    pub(super) fn transmit_control(&mut self, id: ConnectionId, control: &Control) {
        let Some(connection) = self.connections.get(&id) else { return };
        let Some(peered) = connection.registered() else { return };
        let message = match control {
            Control::Switched(payload) if peered.switched => Message::Control(payload),
            Control::Legacy { message, data } if !peered.switched => {
                let Some(message) = LegacyControl::from_number(*message) else { return };
                Message::LegacyControl(message, data)
            }
            Control::Switched(_) | Control::Legacy { .. } => return,
        };
        self.transmit(id, &message);
    }

    /// Seals a message and sends it.
    pub(super) fn transmit(&mut self, id: ConnectionId, message: &Message<'_>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(peered) = connection.peered_mut() else { return };
        match peered.session.seal(message) {
            Ok(frame) => {
                self.counters.messages_sent += 1;
                self.counters.bytes_sent += frame.len() as u64;
                self.send(id, frame);
            }
            Err(_) => self.counters.dropped_too_long += 1,
        }
    }
}

fn malformed(error: impl std::error::Error) -> ConnectionError {
    ConnectionError::Malformed(error.to_string())
}
