//! Accepted connections that wait for their handshake.
//!
//! The kernel's queue knows no sources: whoever fills it keeps everybody out. So connections are
//! taken from it as they come, which costs little, and wait here until the accept limit lets them
//! in, the sources in turn.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use crate::mesh::Source;

/// Connections of one source that wait: a few racks behind one address that start at once.
const MAX_OF_SOURCE: usize = 64;
/// Connections that wait in all. Each costs a file descriptor, of which processes have 1024 by
/// default.
const MAX_WAITING: usize = 256;

/// Who waits.
#[derive(Debug)]
pub(super) struct Lobby<T> {
    queues: BTreeMap<Source, VecDeque<T>>,
    waiting: usize,
    /// Whose turn it was.
    last: Option<Source>,
}

impl<T> Lobby<T> {
    pub(super) const fn new() -> Self {
        Self { queues: BTreeMap::new(), waiting: 0, last: None }
    }

    /// One more waits. Returns whoever has to go instead: the last to come where most come from.
    #[must_use]
    pub(super) fn enter(&mut self, source: Source, guest: T) -> Option<T> {
        let queue = self.queues.entry(source).or_default();
        queue.push_back(guest);
        self.waiting += 1;
        let crowd = if queue.len() > MAX_OF_SOURCE {
            source
        } else if self.waiting > MAX_WAITING {
            *self.queues.iter().max_by_key(|(_, queue)| queue.len())?.0
        } else {
            return None;
        };
        let gone = self.queues.get_mut(&crowd)?.pop_back();
        self.left(crowd);
        gone
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

    #[test]
    fn sources_take_turns_and_each_keeps_its_order() {
        let mut lobby = Lobby::new();
        for (from, guest) in [(1, 'a'), (1, 'b'), (1, 'c'), (2, 'x'), (3, 'y'), (2, 'z')] {
            assert_eq!(lobby.enter(source(from), guest), None);
        }
        let order: String = std::iter::from_fn(|| lobby.call()).collect();
        assert_eq!(order, "axybzc");
        assert!(lobby.is_empty());
    }

    #[test]
    fn a_crowd_is_bounded_and_keeps_nobody_else_out() {
        let mut lobby = Lobby::new();
        let turned_away = (0..1000).filter(|n| lobby.enter(source(1), *n).is_some()).count();
        assert_eq!(turned_away, 1000 - MAX_OF_SOURCE);
        for from in 2..200 {
            for guest in 0..10 {
                let gone = lobby.enter(source(from), guest);
                assert!(gone.is_none() || lobby.waiting == MAX_WAITING);
            }
        }
        assert_eq!(lobby.waiting, MAX_WAITING);
        assert_ne!(lobby.enter(source(250), 4711), Some(4711), "others make room for a newcomer");
        assert_eq!(lobby.queues.values().map(VecDeque::len).sum::<usize>(), lobby.waiting);
    }
}
