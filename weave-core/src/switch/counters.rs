//! Counters of the data threads: each thread writes its own, reports add them up.

use super::decision::DropCause;
use crate::metric::{Counter, Reading};

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

impl SwitchReport {
    /// Returns what is counted, with its names in the metrics.
    pub fn readings(&self) -> Vec<Reading> {
        let mut readings = vec![
            Reading::counter("frames_captured", "Frames captured on the bridge.", self.captured),
            Reading::counter("frames_received", "Frames received from neighbours.", self.received),
            Reading::counter("frames_injected", "Frames given to the bridge.", self.injected),
            Reading::counter(
                "frames_forwarded",
                "Copies of frames handed to links.",
                self.forwarded,
            ),
            Reading::counter(
                "too_big_answers",
                "Answers that told a sender that its packet was too big.",
                self.too_big_answers,
            ),
            Reading::counter(
                "station_moves",
                "Ethernet addresses that turned up behind another peer.",
                self.moves,
            ),
            Reading::counter(
                "station_disputes",
                "Silent Ethernet addresses that were claimed behind another peer, and are asked \
                 where they are.",
                self.disputes,
            ),
            Reading::counter(
                "station_contests",
                "Frames from neighbours whose source is attached here, or speaks behind another \
                 peer.",
                self.contests,
            ),
            Reading::counter(
                "station_evictions",
                "Ethernet addresses forgotten because the table was full.",
                self.evictions,
            ),
        ];
        let help = "Number of frames that went nowhere, by cause.";
        readings.extend(self.dropped.iter().map(|(cause, count)| {
            Reading::counter("frames_dropped", help, count).of_class("cause", cause.name())
        }));
        readings
    }
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
        self.drops[cause as usize].increment_alone();
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
