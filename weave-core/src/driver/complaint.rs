//! Connections that cannot be accepted, as few lines in the log.

use std::time::Duration;

use crate::time::Instant;

/// From one line to the next.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long to leave the listener alone after an error, at first and at most: mostly there are no
/// file descriptors, and it takes a while until there are.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Errors of the listener since it last worked, and since they were told.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    told_at: Option<Instant>,
    untold: u64,
    pause: Option<Duration>,
}

impl Complaint {
    /// How many errors there were, this one included, if it is time to tell.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|at| now.saturating_since(at) < INTERVAL) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    /// How long to wait after an error: longer each time.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.pause.map_or(MIN_PAUSE, |pause| (pause * 2).min(MAX_PAUSE));
        self.pause = Some(pause);
        pause
    }

    pub(super) const fn worked(&mut self) {
        self.pause = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_without_descriptors_is_a_line_a_minute() {
        let mut complaint = Complaint::default();
        let mut now = Instant::ORIGIN;
        let (mut lines, mut errors, mut told) = (0, 0, 0);
        while now.elapsed() < Duration::from_secs(3600) {
            errors += 1;
            if let Some(count) = complaint.failed(now) {
                (lines, told) = (lines + 1, told + count);
            }
            now += complaint.next_pause();
        }
        assert!(lines <= 60, "{lines}");
        assert!((700..1000).contains(&errors), "{errors}");
        assert!(told + complaint.untold == errors);
        complaint.worked();
        assert_eq!(complaint.next_pause(), MIN_PAUSE);
    }
}
