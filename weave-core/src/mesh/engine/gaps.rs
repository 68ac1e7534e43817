//! News that did not get here.
//!
//! Gossip goes to some neighbours, drawn at random, so once in a while it misses somebody. A few
//! seconds after a change each router compares its records with those of one neighbour.
//!
//! A record may come before that of the peer it is connected to. Nobody can be reached through it
//! then, so it is collected, and passed on no more when the missing link comes. What is left is a
//! placeholder, that the original fills when somebody next tells all he knows, up to half a minute
//! later. Here the neighbour on the way to it is asked.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Mesh;
use crate::mesh::connection::Connection;
use crate::mesh::gossip::sender::Reply;
use crate::mesh::{ConnectionId, PeerName};

/// Time for the record to come by itself: an announcement is deferred by a second.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// Nobody has it, it seems. This is how often the complete state is told anyway.
const MAX_INTERVAL: Duration = Duration::from_secs(30);

/// From a change of the topology to the comparison: news takes a second to be announced, and a
/// tenth for each hop.
const COMPARISON_DEFERRAL: Duration = Duration::from_secs(3);

impl Mesh {
    /// The topology changed: has anything been missed?
    pub(super) fn compare_soon(&mut self) {
        self.deadlines.comparison.get_or_insert(self.now + COMPARISON_DEFERRAL);
    }

    /// Sends one neighbour the digest of what is known; if it knows anything else, it asks.
    pub(super) fn compare_with_one(&mut self) {
        let able = |id: &ConnectionId| {
            let connection: Option<&Connection> = self.connections.get(id);
            connection.and_then(Connection::peered).is_some_and(|peered| peered.digests)
        };
        let ids: Vec<ConnectionId> = self.by_peer.values().copied().filter(able).collect();
        let drawn = self.random.below(ids.len().max(1) as u64);
        if let Some(id) = usize::try_from(drawn).ok().and_then(|drawn| ids.get(drawn).copied()) {
            self.owe(id, Reply::Digest);
        }
    }

    /// The topology changed: if there are gaps now, they are looked at in a moment.
    pub(super) fn watch_gaps(&mut self) {
        if self.deadlines.gaps.is_none() && self.gaps().next().is_some() {
            self.gap_interval = FIRST_INTERVAL;
            self.deadlines.gaps = Some(self.now + FIRST_INTERVAL);
        }
    }

    /// Asks the neighbours through which the unknown peers are reached, less and less often.
    pub(super) fn ask_for_gaps(&mut self) {
        let hops: BTreeSet<PeerName> =
            self.gaps().filter_map(|gap| self.routes.unicast_all(gap)).collect();
        if self.gaps().next().is_none() {
            return;
        }
        let ids: Vec<ConnectionId> =
            hops.iter().filter_map(|hop| self.by_peer.get(hop).copied()).collect();
        for id in ids {
            if self.connections.get(&id).and_then(Connection::peered).is_some_and(|p| p.digests) {
                self.owe(id, Reply::Ask);
            }
        }
        self.gap_interval = (self.gap_interval * 2).min(MAX_INTERVAL);
        self.deadlines.gaps = Some(self.now + self.gap_interval);
    }

    /// Placeholders, and neighbours of which only the handshake told.
    fn gaps(&self) -> impl Iterator<Item = PeerName> {
        let own = self.config.name;
        let gaps = self.peers.iter().filter(move |peer| peer.version == 0 && peer.name != own);
        gaps.map(|peer| peer.name)
    }
}
