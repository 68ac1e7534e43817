//! The real time for state machines.

use crate::time::Instant;

/// A monotonic clock that starts at zero. Copies tell the same time, so that data threads and the
/// router's task agree on it.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    origin: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        Instant::since_origin(self.origin.elapsed())
    }

    /// The same point on tokio's clock.
    pub(super) fn at(&self, time: Instant) -> tokio::time::Instant {
        self.origin + time.elapsed()
    }
}
