//! What is known of the mesh, and what follows from its changes (spec mesh.md, sections 10 to
//! 14 and 17).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::duplicate::CONFLICT_MEMORY;
use super::sync::Announced;
use super::{Audience, Mesh};
use crate::mesh::branches::{Branch, Branches};
use crate::mesh::connector::Candidates;
use crate::mesh::gossip::TOPOLOGY;
use crate::mesh::gossip::sender::Pending;
use crate::mesh::gossip::{Channel, GossipError, Outbox};
use crate::mesh::output::{Event, Output};
use crate::mesh::{Applied, Effects, Peer, PeerName, Routes, Uid, UpdateError};
use crate::time::Instant;

impl Mesh {
    /// Applies what a neighbour tells about peers.
    pub(super) fn update_topology(&mut self, payload: &[u8]) -> Result<Applied, GossipError> {
        // Every router takes part in this channel, and encodes the records that it passes on.
        let neighbour = |error: UpdateError| GossipError::Neighbour(error.to_string());
        let mut applied = self.peers.apply_update(payload, &mut self.random).map_err(neighbour)?;
        self.counters.records_dropped += applied.dropped as u64;
        if let Some((uid, nickname)) = &applied.duplicate_self
            && self
                .duplicate_self_reported_at
                .is_none_or(|at| self.now.saturating_since(at) >= CONFLICT_MEMORY)
        {
            self.duplicate_self_reported_at = Some(self.now);
            let (name, nickname) = (self.config.name, nickname.clone());
            self.event(Event::DuplicateSelf { name, nickname, uid: *uid });
        }
        self.have_effects(applied.effects);
        self.stop_asking(&applied.names);
        let removed = std::mem::take(&mut applied.removed);
        let made_room = !removed.is_empty();
        self.forget_peers(removed);
        if made_room || !applied.delta.is_empty() {
            self.encoded.clear();
            self.deadlines.routes_soon(self.now);
            self.deadlines.check_soon(self.now);
            self.deadlines.collect_soon(self.now);
            self.watch_gaps();
            self.compare_soon();
        }
        Ok(applied)
    }

    pub(super) fn have_effects(&mut self, effects: Effects) {
        if effects.announce_own {
            self.own_record_changed(None);
        }
        let edition = self.peers.short_ids().edition();
        if std::mem::replace(&mut self.short_ids_told, edition) != edition {
            self.outputs.push_back(Output::ShortIdsChanged);
        }
        if let Some(short_id) = effects.new_short_id {
            self.event(Event::ShortIdReassigned { short_id });
        }
    }

    /// The own record is another one: routes follow, and the others have to know. So do they of
    /// a new neighbour, of whom they may not have heard.
    pub(super) fn own_record_changed(&mut self, neighbour: Option<PeerName>) {
        self.encoded.clear();
        self.unannounced.extend(neighbour);
        self.deadlines.routes_soon(self.now);
        self.deadlines.announce_soon(self.now);
    }

    /// Tells of the own record, and with it of all that can be reached since the last time.
    ///
    /// Their records went out when they came, but from whom had no link to them yet they are gone
    /// again: they were collected, and the original asks nobody for them.
    pub(super) fn announce_changes(&mut self) {
        if self.deadlines.routes.is_some() {
            self.calculate_routes();
        }
        let reachable: BTreeSet<PeerName> =
            self.routes.unicast_all_table().map(|(name, _)| name).collect();
        let mut names = std::mem::take(&mut self.unannounced);
        names.insert(self.config.name);
        names.extend(reachable.difference(&self.reached));
        self.reached = reachable;
        self.announced = Announced::new(&self.peers);
        let content = Pending::Records(Arc::new(names));
        self.spread(TOPOLOGY.into(), Audience::Neighbours { except: None }, content);
    }

    pub(super) fn calculate_routes(&mut self) {
        self.deadlines.routes = None;
        self.counters.route_calculations += 1;
        let routes = Routes::new(self.peers.graph(), self.config.name);
        if routes != *self.routes {
            self.routes = Arc::new(routes);
            self.tell_channels(|channel, now, routes, out| {
                channel.routes_changed(now, routes, out)
            });
            self.outputs.push_back(Output::RoutesChanged(Arc::clone(&self.routes)));
        }
        self.dispatch_deferred();
    }

    /// Forgets peers to which no chain of connections leads.
    pub(super) fn collect_garbage(&mut self) {
        self.deadlines.collection = None;
        let collected = self.peers.collect_garbage(&mut self.random);
        self.have_effects(collected.effects);
        self.forget_peers(collected.removed);
    }

    /// Tells everybody of peers that are not in the table any more.
    pub(super) fn forget_peers(&mut self, removed: Vec<Peer>) {
        if removed.is_empty() {
            return;
        }
        self.encoded.clear();
        self.deadlines.routes_soon(self.now);
        let names: Vec<PeerName> = removed.iter().map(|peer| peer.name).collect();
        for peer in removed {
            // Placeholders were never more than hearsay.
            if peer.uid != Uid(0) {
                self.event(Event::PeerRemoved { peer: peer.name, nickname: peer.nickname });
            }
        }
        self.tell_channels(|channel, now, _, out| channel.peers_removed(now, &names, out));
        self.outputs.push_back(Output::PeersRemoved(names));
    }

    fn tell_channels(&mut self, tell: impl Fn(&mut dyn Channel, Instant, &Routes, &mut Outbox)) {
        let routes = Arc::clone(&self.routes);
        let channels: Vec<Arc<str>> = self.channels.keys().cloned().collect();
        for channel in channels {
            let mut out = Outbox::default();
            if let Some(handler) = self.channels.get_mut(&channel) {
                tell(&mut **handler, self.now, &routes, &mut out);
            }
            self.fulfil(&channel, out);
        }
    }

    /// Where peers that are not connected may be reached, as others tell.
    pub(super) fn candidates(&mut self) -> Candidates {
        let mut candidates = Candidates::default();
        let own = self.config.name;
        let missing: Vec<PeerName> = self
            .peers
            .names()
            .filter(|name| *name != own && !self.by_peer.contains_key(name))
            .collect();
        if missing.is_empty() {
            return candidates;
        }
        let port = self.config.port;
        let graph = self.peers.graph();
        let branches = Branches::of(&graph, own);
        let mut by_depth: BTreeMap<u32, Vec<(&Peer, Branch)>> = BTreeMap::new();
        for teller in self.peers.iter().filter(|peer| peer.name != own) {
            let depth = branches.depth(teller.name).unwrap_or(u32::MAX);
            by_depth.entry(depth).or_default().push((teller, branches.branch(teller.name)));
        }
        // Those near tell before those far away, and addresses that somebody did reach go before
        // those that are guessed.
        for (tellers, outbound) in
            by_depth.values().flat_map(|tellers| [(tellers, true), (tellers, false)])
        {
            for (teller, branch) in tellers {
                // Both lists ascend.
                let mut missing = missing.iter().peekable();
                for connection in &teller.connections {
                    while missing.next_if(|name| **name < connection.remote).is_some() {}
                    if connection.outbound == outbound
                        && missing.peek().is_some_and(|name| **name == connection.remote)
                        && let Some(address) = connection.address.socket()
                    {
                        candidates.offer(connection.remote, address, outbound, port, branch);
                    }
                }
            }
        }
        candidates
    }

    /// What people call a peer.
    pub(super) fn nicknames(&self) -> BTreeMap<PeerName, &str> {
        self.peers.iter().map(|peer| (peer.name, peer.nickname.as_str())).collect()
    }
}
