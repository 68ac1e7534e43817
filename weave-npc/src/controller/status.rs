//! How it goes: what is counted, and how it is shown.

use std::sync::atomic::{AtomicU64, Ordering};

use weave_api::metric::Metric;

use crate::cluster::Change;
use crate::compile::Ruleset;
use crate::object::Direction;

/// What is counted.
#[derive(Debug, Default)]
pub struct Status {
    errors: AtomicU64,
    updates: AtomicU64,
    restored: AtomicU64,
    changes: AtomicU64,
    isolated: [AtomicU64; 2],
    chains: AtomicU64,
    sets: AtomicU64,
    ready: AtomicU64,
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Status {
    pub(super) fn note(&self, change: &Change) {
        bump(&self.changes);
        match change {
            Change::Policy(policy) => tracing::info!(policy = %policy.name, "policy is in force"),
            Change::PolicyGone(policy) => tracing::info!(%policy, "policy is gone"),
            _ => {}
        }
    }

    pub(super) fn compiled(&self, ruleset: &Ruleset) {
        for (count, direction) in self.isolated.iter().zip(Direction::ALL) {
            let isolated = ruleset.isolated.keys().filter(|(found, _)| *found == direction);
            count.store(isolated.count() as u64, Ordering::Relaxed);
        }
        self.chains.store(ruleset.chains.len() as u64, Ordering::Relaxed);
        self.sets.store(ruleset.sets.len() as u64, Ordering::Relaxed);
    }

    pub(super) fn enforced(&self) {
        bump(&self.updates);
        if self.ready.swap(1, Ordering::Relaxed) == 0 {
            tracing::info!("policies are enforced");
        }
    }

    pub(super) fn failed(&self) {
        bump(&self.errors);
    }

    pub(super) fn restored(&self) {
        bump(&self.restored);
    }

    /// Returns whether the policies of the cluster have been enforced once.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) == 1
    }

    /// Returns it in the text format of Prometheus. Names of Weave Net's controller are the same.
    pub fn metrics(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "the format has floats")]
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let counter = |name: &str, help, count| {
            Metric::new(format!("weavenpc_{name}"), "counter", help).value(&[], value(count))
        };
        let gauge = |name: &str, help| Metric::new(format!("weavenpc_{name}"), "gauge", help);
        let mut isolated =
            gauge("isolated_addresses", "Addresses of pods of this node that are isolated.");
        for (count, direction) in self.isolated.iter().zip(Direction::ALL) {
            isolated = isolated.value(&[("direction", &direction.to_string())], value(count));
        }
        let metrics = [
            counter(
                "policy_enforcement_errors",
                "Attempts to enforce policies that failed.",
                &self.errors,
            ),
            counter("updates_total", "Transactions that changed the rules.", &self.updates),
            counter(
                "restored_total",
                "Rules that somebody else changed, restored.",
                &self.restored,
            ),
            counter("object_changes_total", "Changes of objects that were told.", &self.changes),
            isolated,
            gauge("chains", "Chains of pods with the same policies.")
                .value(&[], value(&self.chains)),
            gauge("sets", "Sets of peers and ports.").value(&[], value(&self.sets)),
            gauge("ready", "Whether the policies have been enforced once.")
                .value(&[], value(&self.ready)),
        ];
        let mut text = String::new();
        metrics.iter().for_each(|metric| metric.print(&mut text));
        text
    }
}
