//! Counters of the data threads: each thread writes its own, reports add them up.

use std::sync::atomic::{AtomicU64, Ordering};

use super::decision::DropCause;

/// What a switch has done so far, for reports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SwitchReport {
    /// Frames captured on the local bridge.
    pub captured: u64,
    /// Frames received from neighbours.
    pub received: u64,
    /// Frames given to the local bridge.
    pub injected: u64,
    /// Copies handed to links.
    pub forwarded: u64,
    /// Frames that went nowhere, by cause.
    pub dropped: DropCounts,
    /// Answers that told a sender that its packet was too big.
    pub too_big_answers: u64,
    /// Stations that are known.
    pub stations: usize,
    /// Times a station changed its peer.
    pub moves: u64,
    /// Times the place of a station came into dispute.
    pub disputes: u64,
    /// Frames that were not from where their source is.
    pub contests: u64,
    /// Stations forgotten for want of room.
    pub evictions: u64,
}

/// How many frames went nowhere, by cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DropCounts([u64; DropCause::ALL.len()]);

impl DropCounts {
    /// Of one cause.
    pub const fn get(&self, cause: DropCause) -> u64 {
        self.0[cause as usize]
    }

    /// Of every cause, zero or not.
    pub fn iter(&self) -> impl Iterator<Item = (DropCause, u64)> {
        DropCause::ALL.into_iter().zip(self.0)
    }
}

/// A counter that one thread writes and others read: no locked instruction needed.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn bump(&self) {
        self.0.store(self.get().wrapping_add(1), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one data thread counts. On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct WorkerCounters {
    pub(super) captured: Counter,
    pub(super) received: Counter,
    pub(super) injected: Counter,
    pub(super) forwarded: Counter,
    pub(super) too_big_answers: Counter,
    drops: [Counter; DropCause::ALL.len()],
}

impl WorkerCounters {
    pub(super) fn dropped(&self, cause: DropCause) {
        self.drops[cause as usize].bump();
    }

    pub(super) fn add_to(&self, report: &mut SwitchReport) {
        report.captured += self.captured.get();
        report.received += self.received.get();
        report.injected += self.injected.get();
        report.forwarded += self.forwarded.get();
        report.too_big_answers += self.too_big_answers.get();
        for (sum, counter) in report.dropped.0.iter_mut().zip(&self.drops) {
            *sum += counter.get();
        }
    }
}
