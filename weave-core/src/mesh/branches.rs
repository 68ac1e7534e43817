//! Behind whom a peer is, as far as the topology shows it: a tree of shortest ways.
//!
//! A member can invent peers and their connections, and connections to peers that exist, but no
//! record of another router that confirms them: invented peers are all behind those who invent
//! them. So what is shared by many (room in the table, attempts to connect) is shared by branch,
//! and in each branch by the branches in it. However many peers a member invents, they take from
//! its own share.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PeerName;
use super::graph::Graph;

/// A peer and those before it, down to the neighbour it is behind, with their distances.
pub(super) type Branch = Arc<[(PeerName, u32)]>;

/// The tree of shortest ways from one peer over links that both ends list.
#[derive(Debug)]
pub(super) struct Branches<'g> {
    graph: &'g Graph,
    /// In the order of distance; the first one is the root.
    order: Vec<usize>,
    parents: Vec<Option<usize>>,
    depths: Vec<u32>,
}

impl<'g> Branches<'g> {
    /// The tree as `root` sees it, whose own links need not be confirmed.
    pub(super) fn of(graph: &'g Graph, root: PeerName) -> Self {
        let size = graph.names().len();
        let mut branches =
            Self { graph, order: Vec::new(), parents: vec![None; size], depths: vec![0; size] };
        let Some(root) = graph.index(root) else { return branches };
        let mut found = vec![false; size];
        found[root] = true;
        let mut level = vec![root];
        for depth in 1.. {
            branches.order.extend_from_slice(&level);
            let mut next = Vec::new();
            for &from in &level {
                for to in graph.listed_by(from) {
                    if found[to] || (from != root && !graph.lists(to, from)) {
                        continue;
                    }
                    // Of several ways the one by the peer with the fewest connections: a member
                    // that invents thousands does not draw real peers into its branch.
                    match &mut branches.parents[to] {
                        Some(parent) => {
                            if graph.degree(from) < graph.degree(*parent) {
                                *parent = from;
                            }
                        }
                        parent => {
                            *parent = Some(from);
                            next.push(to);
                        }
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            for &to in &next {
                found[to] = true;
                branches.depths[to] = depth;
            }
            next.sort_unstable();
            level = next;
        }
        branches
    }

    /// Positions in the graph, in the order of their distance, the root first.
    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    /// The peer before the one at this position.
    pub(super) fn parent(&self, at: usize) -> Option<usize> {
        self.parents[at]
    }

    /// How far a peer is: 1 for neighbours. `None` if no confirmed link leads to it.
    pub(super) fn depth(&self, peer: PeerName) -> Option<u32> {
        let at = self.graph.index(peer)?;
        (self.parents[at].is_some()).then(|| self.depths[at])
    }

    /// The branch that a peer is the end of. All that no confirmed link leads to are in one.
    pub(super) fn branch(&self, peer: PeerName) -> Branch {
        let mut next = self.graph.index(peer);
        let found = std::iter::from_fn(|| {
            let at = next?;
            // The root has none, and is not part of the way.
            next = Some(self.parents[at]?);
            Some((self.graph.names()[at], self.depths[at]))
        });
        let steps: Vec<_> = found.collect();
        if steps.is_empty() {
            [(PeerName::UNKNOWN, UNCONFIRMED_DEPTH)].into()
        } else {
            steps.into()
        }
    }
}

/// What no confirmed link leads to has the share of one branch at this distance.
const UNCONFIRMED_DEPTH: u32 = 2;

/// A number of things, shared by branch: each peer and those behind it get half of what the peer
/// before it gets. So half of it is left whatever one branch wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    total: usize,
    used: usize,
    by_branch: BTreeMap<PeerName, usize>,
}

impl Shares {
    /// So many, none of which is taken.
    pub(super) fn of(total: usize) -> Self {
        Self { total, ..Self::default() }
    }

    /// Takes one for something at the end of this branch, unless its share or that of a branch it
    /// is in is used up.
    pub(super) fn take(&mut self, branch: &Branch) -> bool {
        let is_left = |(peer, depth): &(PeerName, u32)| {
            let share = self.total.checked_shr(*depth).unwrap_or(0).max(1);
            self.by_branch.get(peer).is_none_or(|used| *used < share)
        };
        let takes = self.used < self.total && branch.iter().all(is_left);
        if takes {
            self.count(branch);
        }
        takes
    }

    /// Counts one that was taken before.
    pub(super) fn count(&mut self, branch: &Branch) {
        self.used += 1;
        for (peer, _) in branch.iter() {
            *self.by_branch.entry(*peer).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> PeerName {
        PeerName::from_u64(number).unwrap()
    }

    fn graph(lists: &[(u64, &[u64])]) -> Graph {
        Graph::new(lists.iter().map(|(from, list)| {
            (name(*from), list.iter().map(|to| (name(*to), false)).collect::<Vec<_>>())
        }))
    }

    fn branch(branches: &Branches<'_>, peer: u64) -> Vec<u64> {
        branches.branch(name(peer)).iter().map(|(name, _)| name.to_u64()).collect()
    }

    #[test]
    fn a_way_leads_over_links_that_both_ends_list() {
        let graph =
            graph(&[(1, &[2, 3]), (2, &[4, 5]), (3, &[1, 5]), (4, &[2]), (5, &[3]), (6, &[])]);
        let branches = Branches::of(&graph, name(1));
        assert_eq!(branch(&branches, 4), [4, 2]);
        assert_eq!(branch(&branches, 5), [5, 3], "2 claims a link to it that it does not have");
        assert_eq!(branches.depth(name(2)), Some(1), "our own link needs no confirmation");
        assert_eq!((branches.depth(name(6)), branch(&branches, 6)), (None, vec![0]));
        assert_eq!(branches.depth(name(1)), None);
        assert_eq!(branches.order().len(), 5);
    }

    #[test]
    fn one_branch_leaves_half_to_the_others() {
        let mut shares = Shares::of(64);
        let branch = |peers: &[u64]| -> Branch {
            let depths = (1..=u32::try_from(peers.len()).unwrap()).rev();
            peers.iter().map(|peer| name(*peer)).zip(depths).collect()
        };
        let mut take = |peers: &[u64]| (0..100).filter(|_| shares.take(&branch(peers))).count();
        // Peers that 4 invents behind 3, which is behind 2.
        assert_eq!(take(&[5, 4, 3, 2]), 4);
        assert_eq!(take(&[6, 4, 3, 2]), 4);
        assert_eq!(take(&[7, 4, 3, 2]), 0, "4 has no more than 8");
        assert_eq!(take(&[2]), 24, "what 2 itself tells");
        assert_eq!(take(&[9]), 32);
        assert_eq!(take(&[10]), 0, "all are taken");
    }

    #[test]
    fn a_peer_with_thousands_of_links_draws_nobody_into_its_branch() {
        let invented: Vec<u64> = (100..200).collect();
        let liar: Vec<u64> = [1, 9].iter().chain(&invented).copied().collect();
        let mut lists: Vec<(u64, &[u64])> =
            vec![(1, &[2, 3]), (2, &liar), (3, &[1, 9]), (9, &[2, 3])];
        lists.extend(invented.iter().map(|number| (*number, &[2][..])));
        let graph = graph(&lists);
        let branches = Branches::of(&graph, name(1));
        assert_eq!(branch(&branches, 9), [9, 3]);
        assert_eq!(branch(&branches, 150), [150, 2]);
    }
}
