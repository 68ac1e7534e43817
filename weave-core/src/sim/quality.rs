//! How good the path between two hosts is.

use std::time::Duration;

use crate::mesh::Random;

/// A path between two hosts, the same in both directions. TCP suffers from its delay and rate
/// alone, since it repeats what gets lost.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quality {
    /// One way.
    pub latency: Duration,
    /// Added to the latency of each datagram at random: more than the gap between datagrams
    /// reorders them.
    pub jitter: Duration,
    /// Bytes per second on a TCP connection.
    pub rate: u64,
    /// Datagrams lost, in thousandths.
    pub loss: u64,
    /// Datagrams that come twice, in thousandths.
    pub duplication: u64,
    /// Nothing gets through, and nobody is told.
    pub cut: bool,
}

impl Default for Quality {
    /// A good network.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            rate: 1 << 30,
            loss: 0,
            duplication: 0,
            cut: false,
        }
    }
}

impl Quality {
    /// When the copies of a datagram arrive: none, one or two of them.
    pub(super) fn delays(&self, random: &mut Random) -> Vec<Duration> {
        if self.cut || random.below(1000) < self.loss {
            return Vec::new();
        }
        let copies = if random.below(1000) < self.duplication { 2 } else { 1 };
        let nanos = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX);
        let mut delay = || self.latency + Duration::from_nanos(random.below(nanos));
        (0..copies).map(|_| delay()).collect()
    }

    /// How long so many bytes take to leave.
    pub(super) fn transmission(&self, len: usize) -> Duration {
        Duration::from_nanos(
            (len as u64).saturating_mul(1_000_000_000).checked_div(self.rate).unwrap_or(u64::MAX),
        )
    }
}
