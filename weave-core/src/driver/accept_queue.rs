//! Accepted connections that wait for their handshake.
//!
//! The kernel's queue knows no sources: whoever fills it keeps everybody out. So connections are
//! taken from it as they come, which costs little, and wait here until the accept limit lets them
//! in, the sources in turn. When there are too many, those go that came last where most came from,
//! but not those from where peers are known to be; and if several sources have as many, chance
//! decides, since any rule could be used to keep somebody out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use crate::mesh::{Random, Source};

/// Connections of one source that wait: a few racks behind one address that start at once.
const MAX_OF_SOURCE: usize = 64;
/// Connections that wait in all. Each costs a file descriptor, of which processes have 1024 by
/// default.
const MAX_WAITING: usize = 256;

/// Who waits.
#[derive(Debug)]
pub(super) struct AcceptQueue<T> {
    queues: BTreeMap<Source, VecDeque<T>>,
    waiting: usize,
    /// Whose turn it was.
    last: Option<Source>,
    random: Random,
}

impl<T> AcceptQueue<T> {
    pub(super) const fn new(random: Random) -> Self {
        Self { queues: BTreeMap::new(), waiting: 0, last: None, random }
    }

    /// Whether somebody will have to go when one more comes.
    pub(super) const fn is_full(&self) -> bool {
        self.waiting >= MAX_WAITING
    }

    /// One more waits. Returns the one that has to go instead. Those from `known` sources go only
    /// if there are no others.
    #[must_use]
    pub(super) fn enter(
        &mut self,
        source: Source,
        guest: T,
        known: &BTreeSet<Source>,
    ) -> Option<T> {
        let queue = self.queues.entry(source).or_default();
        queue.push_back(guest);
        self.waiting += 1;
        let crowd = if queue.len() > MAX_OF_SOURCE {
            source
        } else if self.waiting > MAX_WAITING {
            self.crowd(known)?
        } else {
            return None;
        };
        let gone = self.queues.get_mut(&crowd)?.pop_back();
        self.left(crowd);
        gone
    }

    /// A source of which nobody knows anything, and from which as many wait as from any such.
    fn crowd(&mut self, known: &BTreeSet<Source>) -> Option<Source> {
        let strangers = self.queues.iter().filter(|(source, _)| !known.contains(source));
        let most = match strangers.map(|(_, queue)| queue.len()).max() {
            Some(most) => most,
            None => return Some(*self.queues.iter().max_by_key(|(_, queue)| queue.len())?.0),
        };
        let largest = |(source, queue): &(&Source, &VecDeque<T>)| {
            queue.len() == most && !known.contains(source)
        };
        let count = self.queues.iter().filter(largest).count();
        let drawn = self.random.below(u64::try_from(count).unwrap_or(1));
        let drawn = usize::try_from(drawn).unwrap_or(0);
        self.queues.iter().filter(largest).nth(drawn).map(|(source, _)| *source)
    }

    /// The first of the source whose turn it is.
    pub(super) fn call(&mut self) -> Option<T> {
        let after = self.last.map_or(Unbounded, Excluded);
        let next = self.queues.range((after, Unbounded)).next();
        let source = *next.or_else(|| self.queues.first_key_value())?.0;
        self.last = Some(source);
        let guest = self.queues.get_mut(&source)?.pop_front();
        self.left(source);
        guest
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    fn left(&mut self, source: Source) {
        self.waiting -= 1;
        if self.queues.get(&source).is_some_and(VecDeque::is_empty) {
            self.queues.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    fn queue<T>() -> AcceptQueue<T> {
        AcceptQueue::new(Random::new([7; 32]))
    }

    const NONE: BTreeSet<Source> = BTreeSet::new();

    #[test]
    fn sources_take_turns_and_each_keeps_its_order() {
        let mut queue = queue();
        for (from, guest) in [(1, 'a'), (1, 'b'), (1, 'c'), (2, 'x'), (3, 'y'), (2, 'z')] {
            assert_eq!(queue.enter(source(from), guest, &NONE), None);
        }
        let order: String = std::iter::from_fn(|| queue.call()).collect();
        assert_eq!(order, "axybzc");
        assert!(queue.is_empty());
    }

    #[test]
    fn a_crowd_is_bounded_and_keeps_nobody_else_out() {
        let mut queue = queue();
        let turned_away = (0..1000).filter(|n| queue.enter(source(1), *n, &NONE).is_some()).count();
        assert_eq!(turned_away, 1000 - MAX_OF_SOURCE);
        for from in 2..200 {
            for guest in 0..10 {
                let gone = queue.enter(source(from), guest, &NONE);
                assert!(gone.is_none() || queue.waiting == MAX_WAITING);
            }
        }
        assert_eq!(queue.waiting, MAX_WAITING);
        let gone = queue.enter(source(250), 4711, &NONE);
        assert_ne!(gone, Some(4711), "others make room for a newcomer");
        assert_eq!(queue.queues.values().map(VecDeque::len).sum::<usize>(), queue.waiting);
    }

    /// One connection from each of many addresses: how often one from an address has to go at once.
    fn turned_away(address: u8, known: &BTreeSet<Source>) -> usize {
        let mut queue = queue();
        let stranger = |number: u32| Source::of((0x0a00_0000 + number).to_be_bytes().into());
        let mut times = 0;
        for round in 0..200 {
            for number in 0..300 {
                let _ = queue.enter(stranger(round * 300 + number), 0, known);
            }
            let from = Source::of([address, 0, 0, 1].into());
            if queue.enter(from, 1, known).is_some_and(|gone| gone == 1) {
                times += 1;
            }
            while queue.call().is_some_and(|guest| guest != 1) {}
        }
        times
    }

    #[test]
    fn no_address_is_worse_off_than_others() {
        for address in [1, 192, 223] {
            let times = turned_away(address, &NONE);
            assert!(times < 20, "{address}: {times} of 200");
        }
    }

    #[test]
    fn peers_that_are_known_are_spared() {
        let peer = Source::of([223, 0, 0, 1].into());
        assert_eq!(turned_away(223, &BTreeSet::from([peer])), 0);
        let mut queue = queue();
        let known: BTreeSet<Source> = (0..=255).map(source).collect();
        for from in 0..=255 {
            assert!(queue.enter(source(from), from, &known).is_none());
        }
        assert!(queue.is_full());
        assert!(queue.enter(source(7), 7, &known).is_some(), "but they are bounded, too");
    }
}
