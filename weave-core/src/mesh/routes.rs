//! Next hops and broadcast sets (spec mesh.md, section 17).
//!
//! Every peer computes its tables from its own copy of the topology, and since the search is
//! deterministic they fit together: a packet follows a shortest path, and a broadcast reaches
//! every peer once. While copies differ, packets may be lost or come twice.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::graph::{Graph, View};
use super::{PeerName, Random};

/// The routing tables of one peer, as of one calculation. Never changes; share it in an `Arc`.
///
/// The unicast tables are there from the start. The broadcast set of a source is computed when
/// it is first asked for, by whichever thread asks, and kept: afterwards reading it takes no lock.
pub struct Routes {
    graph: Arc<Graph>,
    own: PeerName,
    established: Tables,
    all: Tables,
    /// For each neighbour, to how many peers it is the next hop in the table of all links.
    weights: Vec<(PeerName, u64)>,
}

/// The tables over one view of the links. Indexed as the graph is.
struct Tables {
    /// The first peer on the way there: `None` for what is out of reach, oneself for oneself.
    next_hops: Vec<Option<PeerName>>,
    /// How many hops it takes; 0 for oneself and what is out of reach.
    distances: Vec<usize>,
    broadcasts: Vec<OnceLock<Box<[PeerName]>>>,
}

impl Routes {
    /// The tables of `own` in that graph.
    pub fn new(graph: Arc<Graph>, own: PeerName) -> Self {
        let established = Tables::new(&graph, View::Established, own);
        let all = Tables::new(&graph, View::All, own);
        let mut hops: Vec<PeerName> =
            all.next_hops.iter().flatten().copied().filter(|hop| *hop != own).collect();
        hops.sort_unstable();
        let weights =
            hops.chunk_by(|a, b| a == b).map(|hops| (hops[0], hops.len() as u64)).collect();
        let routes = Self { graph, own, established, all, weights };
        // What this peer itself sends comes first and often.
        routes.broadcast(own);
        routes.broadcast_all(own);
        routes
    }

    /// The tables of a peer that knows of no other.
    pub fn alone(own: PeerName) -> Self {
        Self::new(Arc::new(Graph::new([(own, [])])), own)
    }

    /// Whose tables these are.
    pub fn own(&self) -> PeerName {
        self.own
    }

    /// The neighbour to which a frame for `to` goes; `None` for oneself and what is out of reach.
    pub fn unicast(&self, to: PeerName) -> Option<PeerName> {
        self.next_hop(&self.established, to)
    }

    /// The neighbour to which a gossip message for `to` goes; `None` for oneself and what is out
    /// of reach.
    pub fn unicast_all(&self, to: PeerName) -> Option<PeerName> {
        self.next_hop(&self.all, to)
    }

    /// The number of hops that a gossip message for `to` takes; `None` for oneself and what is out
    /// of reach.
    pub fn distance_all(&self, to: PeerName) -> Option<usize> {
        let distance = *self.all.distances.get(self.graph.index(to)?)?;
        Some(distance).filter(|distance| *distance > 0)
    }

    /// The neighbours to which this peer passes on a frame that `source` broadcasts.
    pub fn broadcast(&self, source: PeerName) -> &[PeerName] {
        self.broadcast_set(&self.established, View::Established, source)
    }

    /// The neighbours to which this peer passes on a gossip message that `source` broadcasts.
    pub fn broadcast_all(&self, source: PeerName) -> &[PeerName] {
        self.broadcast_set(&self.all, View::All, source)
    }

    /// The neighbour from which this peer gets what `source` broadcasts in frames, the one that has
    /// it in its broadcast set; `None` for itself and what is out of reach.
    pub fn broadcast_parent(&self, source: PeerName) -> Option<PeerName> {
        let (source, own) = self.graph.index(source).zip(self.graph.index(self.own))?;
        let mut parent = None;
        self.graph.reach(View::Established, source, Some(own), |from, found| {
            if found == own {
                parent = Some(from);
            }
        });
        self.graph.names().get(parent?).copied()
    }

    /// The peers that are no farther from `to` than this peer is: none of them sends frames for it
    /// this way, unless it knows another topology. Ascending.
    pub fn no_farther(&self, to: PeerName) -> Vec<PeerName> {
        let ends = self.graph.index(to).zip(self.graph.index(self.own));
        let Some((start, own)) = ends else { return Vec::new() };
        let mut distances = vec![None; self.graph.names().len()];
        distances[start] = Some(0_usize);
        self.graph.reach(View::Established, start, None, |from, found| {
            distances[found] = distances[from].map(|distance| distance + 1);
        });
        let Some(limit) = distances[own] else { return Vec::new() };
        let near = |(name, distance): (&PeerName, &Option<usize>)| {
            (*distance)?.le(&limit).then_some(*name)
        };
        self.graph.names().iter().zip(&distances).filter_map(near).collect()
    }

    /// Destinations and next hops of frames, ascending. The next hop to oneself is
    /// [`PeerName::UNKNOWN`], the way status pages show it.
    pub fn unicast_table(&self) -> impl Iterator<Item = (PeerName, PeerName)> + '_ {
        self.table(&self.established)
    }

    /// Destinations and next hops of gossip messages, ascending. The next hop to oneself is
    /// [`PeerName::UNKNOWN`].
    pub fn unicast_all_table(&self) -> impl Iterator<Item = (PeerName, PeerName)> + '_ {
        self.table(&self.all)
    }

    /// Sources of frames, ascending, and the neighbours to which this peer passes them on; of the
    /// sources that were asked for so far.
    pub fn broadcast_table(&self) -> impl Iterator<Item = (PeerName, &[PeerName])> + '_ {
        let sources = self.graph.names().iter().zip(&self.established.broadcasts);
        sources.filter_map(|(source, set)| Some((*source, &**set.get()?)))
    }

    /// Every peer in the topology the tables were computed from, ascending.
    pub fn peers(&self) -> &[PeerName] {
        self.graph.names()
    }

    /// Draws the neighbours that the next round of gossip goes to (spec mesh.md, section 17.4):
    /// about twice the logarithm of the number of peers, never `except`, and those that are the
    /// way to many peers more likely than others.
    pub fn random_neighbours(
        &self,
        except: Option<PeerName>,
        random: &mut Random,
    ) -> Vec<PeerName> {
        let mut candidates: Vec<(PeerName, u64)> =
            self.weights.iter().copied().filter(|(hop, _)| Some(*hop) != except).collect();
        // floor(2 log2(n)) = floor(log2(n * n))
        let known = self.all.next_hops.iter().flatten().count() as u64;
        let wanted = known.pow(2).checked_ilog2().unwrap_or(0) as usize;

        let mut drawn = Vec::with_capacity(wanted.min(candidates.len()));
        while drawn.len() < wanted && !candidates.is_empty() {
            let total = candidates.iter().map(|(_, weight)| weight).sum();
            let mut ticket = random.below(total);
            let winner = candidates.iter().position(|(_, weight)| {
                let wins = ticket < *weight;
                ticket = ticket.saturating_sub(*weight);
                wins
            });
            let Some(winner) = winner else { break };
            drawn.push(candidates.swap_remove(winner).0);
        }
        drawn
    }

    fn next_hop(&self, tables: &Tables, to: PeerName) -> Option<PeerName> {
        let hop = *tables.next_hops.get(self.graph.index(to)?)?;
        hop.filter(|hop| *hop != self.own)
    }

    fn broadcast_set<'a>(
        &'a self,
        tables: &'a Tables,
        view: View,
        source: PeerName,
    ) -> &'a [PeerName] {
        let set = self.graph.index(source).and_then(|at| Some((at, tables.broadcasts.get(at)?)));
        let Some((source, set)) = set else { return &[] };
        set.get_or_init(|| {
            let Some(own) = self.graph.index(self.own) else { return Box::default() };
            let (found, reached) = self.graph.reach(view, source, Some(own), |_, _| ());
            if !found {
                return Box::default();
            }
            self.graph.neighbours_outside(view, own, &reached).into_boxed_slice()
        })
    }

    fn table<'a>(&'a self, tables: &'a Tables) -> impl Iterator<Item = (PeerName, PeerName)> + 'a {
        let rows = self.graph.names().iter().zip(&tables.next_hops);
        rows.filter_map(|(to, hop)| {
            let hop = (*hop)?;
            Some((*to, if hop == self.own { PeerName::UNKNOWN } else { hop }))
        })
    }
}

impl Tables {
    fn new(graph: &Graph, view: View, own: PeerName) -> Self {
        let names = graph.names();
        let mut next_hops = vec![None; names.len()];
        let mut distances = vec![0; names.len()];
        if let Some(start) = graph.index(own) {
            next_hops[start] = Some(own);
            graph.reach(view, start, None, |from, to| {
                distances[to] = distances[from] + 1;
                next_hops[to] = if from == start { Some(names[to]) } else { next_hops[from] };
            });
        }
        Self {
            next_hops,
            distances,
            broadcasts: (0..names.len()).map(|_| OnceLock::new()).collect(),
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("own", &self.own)
            .field("unicast", &self.unicast_table().collect::<Vec<_>>())
            .field("unicast_all", &self.unicast_all_table().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Routes {
    /// Whether both give the same answers: the same peer among the same links.
    fn eq(&self, other: &Self) -> bool {
        self.own == other.own && self.graph.has_the_links_of(&other.graph)
    }
}

impl Eq for Routes {}

#[cfg(test)]
mod tests;
