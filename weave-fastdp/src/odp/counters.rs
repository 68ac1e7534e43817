//! The counters of the engine.

use weave_core::metric::{Counter, Reading};

/// Counters that all threads of the engine share.
#[derive(Default)]
pub(super) struct Counters {
    /// Packets without a flow, heartbeats among them.
    pub(super) misses: Counter,
    /// Heartbeats and probes.
    pub(super) special: Counter,
    /// Packets that another transport carries.
    pub(super) slow_path: Counter,
    pub(super) executed: Counter,
    pub(super) flows_put: Counter,
    pub(super) flows_deleted: Counter,
    /// Flows for which there was no room, or which the kernel refused.
    pub(super) flows_refused: Counter,
    /// Comparisons of all flows with what they should do.
    pub(super) revalidations: Counter,
    pub(super) dropped_unknown_sender: Counter,
    pub(super) dropped_conflict: Counter,
    pub(super) dropped_hairpin: Counter,
    pub(super) dropped_unknown_port: Counter,
    pub(super) dropped_malformed: Counter,
    pub(super) dropped_error: Counter,
}

impl Counters {
    /// Returns all counters.
    pub(super) fn list(&self) -> Vec<Reading> {
        vec![
            Reading::counter(
                "flow_misses",
                "Packets without a flow in the datapath, heartbeats among them.",
                self.misses.get(),
            ),
            Reading::counter(
                "special_frames",
                "Heartbeats and their like that arrived by the datapath.",
                self.special.get(),
            ),
            Reading::counter(
                "by_hand",
                "Packets from tunnels that were passed on by another transport.",
                self.slow_path.get(),
            ),
            Reading::counter(
                "executed",
                "Packets that the datapath was told one by one what to do with.",
                self.executed.get(),
            ),
            Reading::counter("flows_put", "Flows put into the datapath.", self.flows_put.get()),
            Reading::counter(
                "flows_deleted",
                "Flows deleted from the datapath.",
                self.flows_deleted.get(),
            ),
            Reading::counter(
                "flows_refused",
                "Flows that there was no room for, or that the kernel refused.",
                self.flows_refused.get(),
            ),
            Reading::counter(
                "revisions",
                "Times that flows were compared with what they should do.",
                self.revalidations.get(),
            ),
            Reading::counter(
                "dropped_stranger",
                "Packets dropped: from tunnels of nobody known.",
                self.dropped_unknown_sender.get(),
            ),
            Reading::counter(
                "dropped_conflict",
                "Packets dropped: their sender is somebody else's station.",
                self.dropped_conflict.get(),
            ),
            Reading::counter(
                "dropped_hairpin",
                "Packets dropped: they would go back to where they came from.",
                self.dropped_hairpin.get(),
            ),
            Reading::counter(
                "dropped_unknown_port",
                "Packets dropped: from a port not known yet.",
                self.dropped_unknown_port.get(),
            ),
            Reading::counter(
                "dropped_malformed",
                "Packets dropped: the kernel's message made no sense.",
                self.dropped_malformed.get(),
            ),
            Reading::counter(
                "dropped_error",
                "Packets dropped: the kernel did not take them.",
                self.dropped_error.get(),
            ),
        ]
    }
}
