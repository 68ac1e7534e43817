//! Messages that go round in circles.
//!
//! A unicast in the form of Weave Net has no hop count, and neither has a broadcast. While tables
//! differ, which a member that tells each router something else brings about at will, three routers
//! or more may each think that the next one is nearer to the destination. So each counts how often
//! it sees the same bytes: on an honest way that is once, but for messages that their sender
//! repeats.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::time::Instant;

/// Sights of one message in a period or two that are honest repetition: a request that is made
/// again each second.
const LIMIT: u8 = 64;
/// Messages are forgotten after one to two of these. A circle in which a message takes longer than
/// a second does little harm.
const PERIOD: Duration = Duration::from_secs(30);
/// Counters: as many as two bytes of a hash tell apart. When more messages than that come in a
/// period, some are taken for others.
const SLOTS: usize = 1 << 16;

/// How often messages were seen of late, approximately: never less than they were.
pub(super) struct Circles {
    /// So that others cannot choose messages that share counters.
    secret: u64,
    period_ends: Instant,
    /// Both empty before the first message.
    current: Vec<u8>,
    previous: Vec<u8>,
}

impl Circles {
    pub(super) const fn new(secret: u64, now: Instant) -> Self {
        Self { secret, period_ends: now, current: Vec::new(), previous: Vec::new() }
    }

    /// Whether the message that consists of these parts was seen too often for an honest one.
    pub(super) fn sees_too_often(&mut self, now: Instant, parts: &[&[u8]]) -> bool {
        self.advance(now);
        let slots = self.slots(parts);
        let count = |slot: usize| {
            let counts = [&self.current, &self.previous].map(|counts| counts.get(slot));
            counts.into_iter().flatten().fold(0_u8, |sum, count| sum.saturating_add(*count))
        };
        if slots.into_iter().map(count).min() >= Some(LIMIT) {
            return true;
        }
        for slot in slots {
            if let Some(count) = self.current.get_mut(slot) {
                *count = count.saturating_add(1);
            }
        }
        false
    }

    fn advance(&mut self, now: Instant) {
        if now < self.period_ends {
            return;
        }
        let rested = now.saturating_since(self.period_ends) >= PERIOD;
        self.period_ends = now + PERIOD;
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.clear();
        self.current.resize(SLOTS, 0);
        if rested {
            self.previous.clear();
        }
    }

    fn slots(&self, parts: &[&[u8]]) -> [usize; 2] {
        let mut hash = Sha256::new_with_prefix(self.secret.to_be_bytes());
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
        [[a, b], [c, d]].map(|half| usize::from(u16::from_be_bytes(half)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::since_origin(Duration::from_secs(secs))
    }

    #[test]
    fn a_message_that_circles_is_stopped_and_others_are_not() {
        let mut circles = Circles::new(7, at(0));
        let passes = (0..10_000).filter(|_| !circles.sees_too_often(at(1), &[b"x", b"round"]));
        assert_eq!(passes.count(), 64);
        let others =
            (0..10_000_u32).filter(|n| !circles.sees_too_often(at(1), &[&n.to_be_bytes()]));
        assert!(others.count() > 9_990);
    }

    #[test]
    fn what_is_repeated_each_second_is_honest() {
        let mut circles = Circles::new(7, at(0));
        assert!((0..600).all(|second| !circles.sees_too_often(at(second), &[b"please"])));
    }

    #[test]
    fn after_a_minute_a_message_is_forgotten() {
        let mut circles = Circles::new(7, at(0));
        while !circles.sees_too_often(at(1), &[b"x"]) {}
        assert!(circles.sees_too_often(at(31), &[b"x"]));
        assert!(!circles.sees_too_often(at(62), &[b"x"]));
        while !circles.sees_too_often(at(63), &[b"x"]) {}
        assert!(!circles.sees_too_often(at(1000), &[b"x"]));
    }
}
