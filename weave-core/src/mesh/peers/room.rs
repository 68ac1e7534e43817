//! Who stays when there is no room for all.
//!
//! Neighbours of this process always do. What is left of the room goes to the peers that a chain of
//! confirmed links leads to, shared by branch ([`Branches`]): each branch gets what it needs or an
//! equal share, if that is less, and so on in each branch. What then is left goes to the rest:
//! peers that somebody claims to have a link to, and placeholders.
//!
//! The same is done with connections: of a few peers with thousands each, those go.

use std::collections::BTreeSet;

use super::{Effects, Entry, Peers};
use crate::mesh::branches::Branches;
use crate::mesh::graph::Graph;
use crate::mesh::peer::Peer;
use crate::mesh::{PeerName, Uid};

/// What is measured: how many peers there are, or how many connections they list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Measure {
    Peers,
    Links,
}

impl Peers {
    /// Has less room than a router has, so that the simulator need not fill it.
    #[cfg(any(test, feature = "sim"))]
    pub(in crate::mesh) const fn set_room(&mut self, peers: usize, links: usize) {
        (self.limits.peers, self.limits.links) = (peers, links);
    }

    /// Removes what there is no room for. Of equals those stay that are not `fresh`.
    pub(super) fn make_room(
        &mut self,
        fresh: &BTreeSet<PeerName>,
        effects: &mut Effects,
    ) -> Vec<Peer> {
        let mut removed = Vec::new();
        for measure in [Measure::Peers, Measure::Links] {
            let (used, limit) = match measure {
                Measure::Peers => (self.entries.len(), self.limits.peers),
                Measure::Links => (self.links, self.limits.links),
            };
            if used <= limit {
                continue;
            }
            let graph = self.graph();
            let surplus = self.surplus(&graph, measure, limit, fresh);
            removed.extend(surplus.into_iter().filter_map(|name| self.remove(name, effects)));
        }
        removed
    }

    fn surplus(
        &self,
        graph: &Graph,
        measure: Measure,
        limit: usize,
        fresh: &BTreeSet<PeerName>,
    ) -> Vec<PeerName> {
        let needs = |entry: &Entry| match measure {
            Measure::Peers => 1,
            Measure::Links => entry.peer.connections.len(),
        };
        let is_held = |entry: &Entry| entry.references > 0;
        let held: usize = self.entries.values().filter(|entry| is_held(entry)).map(needs).sum();
        let mut room = limit.saturating_sub(held);

        let names = graph.names();
        let need = |at: usize| {
            let entry = names.get(at).and_then(|name| self.entries.get(name));
            entry.filter(|entry| !is_held(entry)).map_or(0, needs)
        };
        let branches = Branches::of(graph, self.own);
        let dropped = share_out(names, &branches, room, need, fresh);
        let kept = branches.order().iter().filter(|at| !dropped.contains(*at));
        room = room.saturating_sub(kept.map(|at| need(*at)).sum());
        let mut surplus: Vec<PeerName> = dropped.iter().map(|at| names[*at]).collect();

        let in_tree: BTreeSet<PeerName> = branches.order().iter().map(|at| names[*at]).collect();
        let others =
            self.entries.values().filter(|e| !is_held(e) && !in_tree.contains(&e.peer.name));
        let mut others: Vec<(bool, bool, usize, PeerName)> = others
            .map(|entry| {
                let Peer { name, uid, .. } = entry.peer;
                (uid == Uid(0), fresh.contains(&name), needs(entry), name)
            })
            .collect();
        others.sort_unstable();
        for (.., need, name) in others {
            if need > room {
                surplus.push(name);
            }
            room = room.saturating_sub(need);
        }
        surplus
    }
}

/// Shares `room` out among the peers of a tree. The answer is those that get none.
fn share_out(
    names: &[PeerName],
    branches: &Branches<'_>,
    room: usize,
    need: impl Fn(usize) -> usize,
    fresh: &BTreeSet<PeerName>,
) -> BTreeSet<usize> {
    // What a peer and those behind it need, from the farthest peers inwards.
    let mut needs = vec![0; names.len()];
    let mut children = vec![Vec::new(); names.len()];
    for &at in branches.order().iter().rev() {
        needs[at] += need(at);
        if let Some(parent) = branches.parent(at) {
            needs[parent] += needs[at];
            children[parent].push(at);
        }
    }
    let mut shares = vec![0; names.len()];
    branches.order().first().into_iter().for_each(|root| shares[*root] = room);
    let mut dropped = BTreeSet::new();
    for &at in branches.order() {
        let gone = branches.parent(at).is_some_and(|parent| dropped.contains(&parent));
        if gone || need(at) > shares[at] {
            // A neighbour needs nothing: it stays whatever its share is.
            dropped.insert(at);
            continue;
        }
        let mut left = shares[at] - need(at);
        let mut waiting = std::mem::take(&mut children[at]);
        waiting.sort_unstable_by_key(|child| {
            let name = names[*child];
            (needs[*child], fresh.contains(&name), name)
        });
        let count = waiting.len();
        for (served, child) in waiting.into_iter().enumerate() {
            shares[child] = needs[child].min(left.div_ceil(count - served));
            left -= shares[child];
        }
    }
    dropped
}
