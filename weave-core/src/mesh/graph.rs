//! Who lists whom: the links between peers as bit matrices.
//!
//! Peers are numbered in the order of their names, so walking a bit set from its lowest bit up is
//! walking peers in the order that spec mesh.md, section 17.2 demands. One level of a search is a
//! few word operations a peer, whatever the number of links: in a full mesh of 1,000 peers a
//! search looks at a million links in 16,000 words.

use super::PeerName;

/// Which links count (spec mesh.md, section 17.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// Every connection a peer lists. Gossip goes this way.
    All,
    /// Those that both ends list as established. Frames go this way.
    Established,
}

/// The links among a set of peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Graph {
    /// Ascending. The position of a name is the peer's row and column below.
    names: Vec<PeerName>,
    /// `from` lists a connection to `to`.
    listed: Matrix,
    /// `from` lists it as established.
    claimed: Matrix,
    /// Both list it as established. Symmetric.
    mutual: Matrix,
}

impl Graph {
    /// The graph of these peers and the connections (remote peer, established) each of them
    /// lists. Connections to peers that are not among them are left out.
    pub fn new<C>(peers: impl IntoIterator<Item = (PeerName, C)>) -> Self
    where
        C: IntoIterator<Item = (PeerName, bool)>,
    {
        let mut peers: Vec<(PeerName, C)> = peers.into_iter().collect();
        peers.sort_by_key(|(name, _)| *name);
        peers.dedup_by_key(|(name, _)| *name);
        let names: Vec<PeerName> = peers.iter().map(|(name, _)| *name).collect();

        let mut listed = Matrix::new(names.len());
        let mut claimed = Matrix::new(names.len());
        let mut claimed_by = Matrix::new(names.len());
        for (from, (_, connections)) in peers.into_iter().enumerate() {
            for (to, established) in numbered(&names, connections) {
                set(listed.row_mut(from), to);
                if established {
                    set(claimed.row_mut(from), to);
                    set(claimed_by.row_mut(to), from);
                }
            }
        }
        let mut mutual = claimed_by;
        mutual.bits.iter_mut().zip(&claimed.bits).for_each(|(word, claimed)| *word &= claimed);
        Self { names, listed, claimed, mutual }
    }

    /// Replaces the connections one peer lists. Does nothing for a peer that is not in the graph.
    pub fn replace(
        &mut self,
        peer: PeerName,
        connections: impl IntoIterator<Item = (PeerName, bool)>,
    ) {
        let Some(from) = self.index(peer) else { return };
        let before = self.claimed.row(from).to_vec();
        self.listed.row_mut(from).fill(0);
        self.claimed.row_mut(from).fill(0);
        for (to, established) in numbered(&self.names, connections) {
            set(self.listed.row_mut(from), to);
            if established {
                set(self.claimed.row_mut(from), to);
            }
        }

        let changed: Vec<u64> =
            before.iter().zip(self.claimed.row(from)).map(|(old, new)| old ^ new).collect();
        for to in ones(&changed) {
            let both = self.claimed.get(from, to) && self.claimed.get(to, from);
            self.mutual.set(from, to, both);
            self.mutual.set(to, from, both);
        }
    }

    /// All peers, ascending.
    pub fn names(&self) -> &[PeerName] {
        &self.names
    }

    /// Whether all searches have the same results in both.
    pub(super) fn has_the_links_of(&self, other: &Self) -> bool {
        let Self { names, listed, claimed: _, mutual } = self;
        (names, listed, mutual) == (&other.names, &other.listed, &other.mutual)
    }

    /// The peers that the one at this position lists a connection to.
    pub(super) fn listed_by(&self, from: usize) -> impl Iterator<Item = usize> + '_ {
        ones(self.listed.row(from))
    }

    /// Whether the one at this position lists a connection to the other one.
    pub(super) fn lists(&self, from: usize, to: usize) -> bool {
        self.listed.get(from, to)
    }

    /// How many connections to peers of the graph the one at this position lists.
    pub(super) fn degree(&self, from: usize) -> u32 {
        self.listed.row(from).iter().map(|word| word.count_ones()).sum()
    }

    /// The number of a peer.
    pub(super) fn index(&self, peer: PeerName) -> Option<usize> {
        self.names.binary_search(&peer).ok()
    }

    /// The neighbours of `from` that are not in `reached`.
    pub(super) fn neighbours_outside(
        &self,
        view: View,
        from: usize,
        reached: &[u64],
    ) -> Vec<PeerName> {
        let row = self.matrix(view).row(from);
        let outside: Vec<u64> = row.iter().zip(reached).map(|(row, hit)| row & !hit).collect();
        ones(&outside).map(|to| self.names[to]).collect()
    }

    /// Searches breadth first from `start`, each level in the order of names, and calls
    /// `discovered(from, to)` for every further peer it finds. Stops when it is `stop`'s turn.
    ///
    /// Returns whether that happened, and the set of peers found by then.
    pub(super) fn reach(
        &self,
        view: View,
        start: usize,
        stop: Option<usize>,
        mut discovered: impl FnMut(usize, usize),
    ) -> (bool, Vec<u64>) {
        let links = self.matrix(view);
        let mut reached = vec![0; links.words];
        let mut level = vec![0; links.words];
        set(&mut reached, start);
        set(&mut level, start);
        loop {
            let mut next = vec![0; links.words];
            for from in ones(&level) {
                if Some(from) == stop {
                    return (true, reached);
                }
                let words = reached.iter_mut().zip(&mut next).zip(links.row(from)).enumerate();
                for (word, ((reached, next), row)) in words {
                    let new = row & !*reached;
                    *reached |= new;
                    *next |= new;
                    for bit in bits(new) {
                        discovered(from, 64 * word + bit);
                    }
                }
            }
            if next.iter().all(|word| *word == 0) {
                return (false, reached);
            }
            level = next;
        }
    }

    fn matrix(&self, view: View) -> &Matrix {
        match view {
            View::All => &self.listed,
            View::Established => &self.mutual,
        }
    }
}

/// A square of bits.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Matrix {
    /// Length of a row in words.
    words: usize,
    bits: Vec<u64>,
}

impl Matrix {
    fn new(size: usize) -> Self {
        let words = size.div_ceil(64);
        Self { words, bits: vec![0; words * size] }
    }

    fn row(&self, from: usize) -> &[u64] {
        &self.bits[from * self.words..][..self.words]
    }

    fn row_mut(&mut self, from: usize) -> &mut [u64] {
        &mut self.bits[from * self.words..][..self.words]
    }

    fn get(&self, from: usize, to: usize) -> bool {
        self.row(from)[to / 64] & 1 << (to % 64) != 0
    }

    fn set(&mut self, from: usize, to: usize, value: bool) {
        let word = &mut self.row_mut(from)[to / 64];
        *word = *word & !(1 << (to % 64)) | u64::from(value) << (to % 64);
    }
}

/// Peers by their numbers, without those that have none.
fn numbered(
    names: &[PeerName],
    connections: impl IntoIterator<Item = (PeerName, bool)>,
) -> impl Iterator<Item = (usize, bool)> {
    // Connections mostly come in the order of names, and in a dense mesh the next one is the
    // next name: worth a look before the binary search.
    let mut expected = 0;
    connections.into_iter().filter_map(move |(remote, established)| {
        let found = match names.get(expected) {
            Some(name) if *name == remote => Ok(expected),
            _ => names.binary_search(&remote),
        };
        let number = found.ok()?;
        expected = number + 1;
        Some((number, established))
    })
}

fn set(words: &mut [u64], bit: usize) {
    words[bit / 64] |= 1 << (bit % 64);
}

/// The positions of the ones, ascending.
fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(at, word)| bits(*word).map(move |bit| 64 * at + bit))
}

fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.checked_sub(1)?;
        Some(bit as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(number: usize) -> PeerName {
        PeerName::from_u64(number as u64).unwrap()
    }

    type Lists = Vec<Vec<(usize, bool)>>;

    fn graph(lists: &Lists) -> Graph {
        Graph::new(lists.iter().enumerate().map(|(from, list)| (name(from), connections(list))))
    }

    fn connections(list: &[(usize, bool)]) -> Vec<(PeerName, bool)> {
        list.iter().map(|&(to, established)| (name(to), established)).collect()
    }

    fn some_lists() -> impl Strategy<Value = Lists> {
        let list = proptest::collection::btree_map(0usize..150, any::<bool>(), 0..12)
            .prop_map(|list| list.into_iter().collect::<Vec<_>>());
        proptest::collection::vec(list, 1..140)
    }

    proptest! {
        #[test]
        fn replacing_one_peer_equals_building_anew(
            mut lists in some_lists(),
            at: prop::sample::Index,
            list in some_lists(),
        ) {
            let mut replaced = graph(&lists);
            let at = at.index(lists.len());
            let list = list.into_iter().next().unwrap();
            replaced.replace(name(at), connections(&list));
            lists[at] = list;
            prop_assert_eq!(replaced, graph(&lists));
        }

        #[test]
        fn links_are_what_the_peers_list(lists in some_lists()) {
            let graph = graph(&lists);
            let lists_it = |from: usize, to: usize| {
                lists[from].iter().find(|(remote, _)| *remote == to).map(|(_, claimed)| *claimed)
            };
            for from in 0..lists.len() {
                for to in 0..lists.len() {
                    let listed = lists_it(from, to);
                    prop_assert_eq!(graph.listed.get(from, to), listed.is_some());
                    let mutual = listed == Some(true) && lists_it(to, from) == Some(true);
                    prop_assert_eq!(graph.mutual.get(from, to), mutual);
                }
            }
        }
    }
}
