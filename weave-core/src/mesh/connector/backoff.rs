//! When to try again: growing intervals with jitter (spec mesh.md, section 16).

use std::time::Duration;

use crate::mesh::Random;
use crate::time::Instant;

const FIRST_INTERVAL: Duration = Duration::from_secs(2);
const MAX_INTERVAL: Duration = Duration::from_secs(6 * 60);
/// A connection that lived this long did work: the next attempt is made at once.
const LIVED: Duration = Duration::from_secs(60);

/// The schedule of one target.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    /// None: never, unless the user asks again.
    try_after: Option<Instant>,
    interval: Duration,
}

impl Backoff {
    /// A target that is due at once, or at this time.
    pub(super) const fn due(at: Instant) -> Self {
        Self { try_after: Some(at), interval: FIRST_INTERVAL }
    }

    pub(super) const fn try_after(&self) -> Option<Instant> {
        self.try_after
    }

    /// Try at once, and start over with short intervals.
    pub(super) const fn now(&mut self, now: Instant) {
        *self = Self::due(now);
    }

    /// "now + interval/2 + random[0, interval)"; the interval grows by half up to 6 min.
    pub(super) fn later(&mut self, now: Instant, random: &mut Random) {
        let nanos = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(random.below(nanos));
        self.try_after = Some(now + self.interval / 2 + jitter);
        self.interval = (self.interval * 3 / 2).min(MAX_INTERVAL);
    }

    /// Not again: there is no point.
    pub(super) const fn never(&mut self) {
        *self = Self { try_after: None, interval: MAX_INTERVAL };
    }

    /// After a connection that was registered ended.
    pub(super) fn after_connection(&mut self, now: Instant, random: &mut Random) {
        match self.try_after {
            Some(tried) if now.saturating_since(tried) > LIVED => self.now(now),
            _ => self.later(now, random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::since_origin(Duration::from_secs(secs))
    }

    #[test]
    fn intervals_grow_by_half_up_to_six_minutes() {
        let mut random = Random::new([3; 32]);
        let mut backoff = Backoff::due(at(0));
        let mut expected = 2.0_f64;
        for _ in 0..30 {
            backoff.later(at(1000), &mut random);
            let delay = backoff.try_after().unwrap().saturating_since(at(1000)).as_secs_f64();
            assert!((0.5 * expected..1.5 * expected).contains(&delay), "{delay} of {expected}");
            expected = (expected * 1.5).min(360.0);
        }
        assert!((expected - 360.0).abs() < f64::EPSILON);
    }

    #[test]
    fn delays_are_spread_over_the_whole_interval() {
        let mut random = Random::new([4; 32]);
        let delays: Vec<f64> = (0..200)
            .map(|_| {
                let mut backoff = Backoff::due(at(0));
                backoff.later(at(0), &mut random);
                backoff.try_after().unwrap().elapsed().as_secs_f64()
            })
            .collect();
        assert!(delays.iter().any(|d| *d < 1.2) && delays.iter().any(|d| *d > 2.8));
    }

    #[test]
    fn a_connection_that_lived_is_tried_again_at_once() {
        let mut random = Random::new([5; 32]);
        let mut backoff = Backoff::due(at(0));
        backoff.after_connection(at(61), &mut random);
        assert_eq!(backoff.try_after(), Some(at(61)));
        backoff.after_connection(at(100), &mut random);
        assert!(backoff.try_after() > Some(at(100)));
    }

    #[test]
    fn never_means_never_until_asked() {
        let mut backoff = Backoff::due(at(0));
        backoff.never();
        assert_eq!(backoff.try_after(), None);
        backoff.now(at(5));
        assert_eq!(backoff.try_after(), Some(at(5)));
    }
}
