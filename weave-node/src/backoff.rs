//! How often something that does not stay mended is mended.

use std::time::{Duration, Instant};

/// The first pause. Whoever plays with devices by hand notices nothing of it.
const SHORTEST: Duration = Duration::from_secs(1);
/// The last one: long enough for the log and the processor, short enough for who waits.
const LONGEST: Duration = Duration::from_secs(30);
/// As long without a repair after the pause, and what was before is forgotten.
const CALM: Duration = Duration::from_secs(60);

/// The first repair is made at once, each one after it later than the one before.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pause: Option<(Instant, Duration)>,
}

impl Backoff {
    /// Whether a repair may be tried.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.pause.is_none_or(|(since, length)| now >= since + length)
    }

    /// Notes that one was tried; says how long the pause is from now on.
    pub(super) fn tried(&mut self, now: Instant) -> Duration {
        let length = match self.pause {
            Some((since, length)) if now < since + length + CALM => (length * 2).min(LONGEST),
            _ => SHORTEST,
        };
        self.pause = Some((now, length));
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_forgotten() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(backoff.allows(now));
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            let pause = backoff.tried(now);
            assert_eq!(pause, Duration::from_secs(expected));
            assert!(!backoff.allows(now + pause - Duration::from_millis(1)));
            now += pause;
            assert!(backoff.allows(now));
        }
        assert_eq!(backoff.tried(now + CALM), SHORTEST);
    }
}
