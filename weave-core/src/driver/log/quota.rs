//! Lines that somebody at another address brings about by making connections.
//!
//! A neighbour that comes and goes is told each time, and so are all routers of a site that start
//! at once. A host that does nothing else fills the disk with that.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::mesh::Source;
use crate::time::Instant;

/// From one sum to the next.
const INTERVAL: Duration = Duration::from_secs(60);
/// Events of one source that are told in that time.
const EVENTS: u64 = 200;
/// Sources that are told apart; all others share one quota.
const MAX_SOURCES: usize = 64;

/// How much is told of each source.
#[derive(Debug, Default)]
pub(super) struct Quota {
    sources: BTreeMap<Option<Source>, Count>,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    events: u64,
}

/// Events that were not told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// None for those of many sources.
    pub(super) source: Option<Source>,
    pub(super) events: u64,
}

impl Quota {
    /// Whether an event is to be told.
    pub(super) fn admits(&mut self, now: Instant, source: Source) -> bool {
        let mut key = Some(source);
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&key) {
            self.sources.retain(|_, count| count.events > EVENTS || !count.is_over(now));
            if self.sources.len() >= MAX_SOURCES {
                key = None;
            }
        }
        let count = self.sources.entry(key).or_insert(Count { since: now, events: 0 });
        if count.events <= EVENTS && count.is_over(now) {
            *count = Count { since: now, events: 0 };
        }
        count.events += 1;
        count.events <= EVENTS
    }

    /// When [`Self::take_left_out`] is wanted next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let left_out = self.sources.values().filter(|count| count.events > EVENTS);
        left_out.map(|count| count.since + INTERVAL).min()
    }

    /// What was left out of sources whose time is over.
    pub(super) fn take_left_out(&mut self, now: Instant) -> Vec<LeftOut> {
        let is_due = |count: &Count| count.events > EVENTS && count.is_over(now);
        let due = self.sources.iter().filter(|(_, count)| is_due(count));
        let left_out =
            due.map(|(source, count)| LeftOut { source: *source, events: count.events - EVENTS });
        let left_out = left_out.collect();
        self.sources.retain(|_, count| !is_due(count));
        left_out
    }
}

impl Count {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_since(self.since) >= INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::since_origin(Duration::from_millis(millis))
    }

    #[test]
    fn a_host_that_comes_and_goes_all_the_time_is_summed_up() {
        let source = Source::of([192, 0, 2, 1].into());
        let other = Source::of([192, 0, 2, 2].into());
        let mut quota = Quota::default();
        let (mut told, mut left_out) = (0, 0);
        for step in 0..36_000 {
            let now = at(step * 100);
            if quota.poll_timeout().is_some_and(|due| due <= now) {
                let sums = quota.take_left_out(now);
                assert_eq!(sums[0].source, Some(source));
                left_out += sums[0].events;
            }
            told += u64::from(quota.admits(now, source));
            if step % 100 == 0 {
                assert!(quota.admits(now, other), "others are told all the same");
            }
        }
        assert!(told <= 60 * EVENTS, "{told}");
        assert!(told + left_out > 35_000, "nothing is lost: {told} {left_out}");
    }

    #[test]
    fn many_sources_take_bounded_memory() {
        let mut quota = Quota::default();
        for number in 0..10_000_u32 {
            quota.admits(at(1), Source::of(number.to_be_bytes().into()));
        }
        assert_eq!(quota.sources.len(), MAX_SOURCES + 1);
        assert_eq!(quota.take_left_out(at(70_000)).len(), 1);
    }
}
