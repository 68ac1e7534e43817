//! The counters of the engine.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that all threads of the engine share.
#[derive(Default)]
pub(super) struct Counters {
    /// Packets without a flow, heartbeats among them.
    pub(super) misses: AtomicU64,
    /// Heartbeats and probes.
    pub(super) special: AtomicU64,
    /// Packets that another transport carries.
    pub(super) slow_path: AtomicU64,
    pub(super) executed: AtomicU64,
    pub(super) flows_put: AtomicU64,
    pub(super) flows_deleted: AtomicU64,
    /// Flows for which there was no room, or which the kernel refused.
    pub(super) flows_refused: AtomicU64,
    /// Comparisons of all flows with what they should do.
    pub(super) revalidations: AtomicU64,
    pub(super) dropped_unknown_sender: AtomicU64,
    pub(super) dropped_conflict: AtomicU64,
    pub(super) dropped_hairpin: AtomicU64,
    pub(super) dropped_unknown_port: AtomicU64,
    pub(super) dropped_malformed: AtomicU64,
    pub(super) dropped_error: AtomicU64,
}

/// Increments a counter.
pub(super) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// Returns the counters by the names that they have in the metrics.
    pub(super) fn list(&self) -> Vec<(&'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("flow_misses", read(&self.misses)),
            ("special_frames", read(&self.special)),
            ("by_hand", read(&self.slow_path)),
            ("executed", read(&self.executed)),
            ("flows_put", read(&self.flows_put)),
            ("flows_deleted", read(&self.flows_deleted)),
            ("flows_refused", read(&self.flows_refused)),
            ("revisions", read(&self.revalidations)),
            ("dropped_stranger", read(&self.dropped_unknown_sender)),
            ("dropped_conflict", read(&self.dropped_conflict)),
            ("dropped_hairpin", read(&self.dropped_hairpin)),
            ("dropped_unknown_port", read(&self.dropped_unknown_port)),
            ("dropped_malformed", read(&self.dropped_malformed)),
            ("dropped_error", read(&self.dropped_error)),
        ]
    }
}
