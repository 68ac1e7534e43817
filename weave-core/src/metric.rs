//! Numbers for an operator: counters that threads share, and readings of them that say what they
//! mean.
//!
//! Whoever counts something says there what it is: a [`Reading`] has name, help and value. Reports
//! and metrics are made of readings, and know no name by themselves.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises and that threads add to without waiting for one another.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds one, of a counter that only the calling thread adds to: no locked instruction is
    /// needed.
    pub fn increment_alone(&self) {
        self.0.store(self.get().wrapping_add(1), Ordering::Relaxed);
    }

    /// Returns the number reached so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether a number can fall.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
}

/// A number, what it is called and what it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The name, which never changes: it is part of report and metrics.
    pub name: &'static str,
    /// What tells it from other readings of the same name, e.g. `("cause", "no_route")`.
    pub class: Option<(&'static str, &'static str)>,
    /// Whether the number can fall.
    pub kind: Kind,
    /// What is counted: one sentence for an operator.
    pub help: &'static str,
    /// The number.
    pub value: u64,
}

impl Reading {
    /// A number that only rises.
    pub const fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, class: None, kind: Kind::Counter, help, value }
    }

    /// A number that rises and falls.
    pub const fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, class: None, kind: Kind::Gauge, help, value }
    }

    /// The reading of one class among others of the same name and meaning.
    #[must_use]
    pub const fn of_class(self, label: &'static str, class: &'static str) -> Self {
        Self { class: Some((label, class)), ..self }
    }

    /// Returns the name with the class, as reports have it: `frames_dropped.no_route`.
    pub fn key(&self) -> String {
        match self.class {
            Some((_, class)) => format!("{}.{class}", self.name),
            None => self.name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_rise() {
        let counter = Counter::default();
        counter.add(3);
        counter.increment();
        counter.increment_alone();
        assert_eq!(counter.get(), 5);
    }

    #[test]
    fn classes_are_a_part_of_the_key() {
        let reading = Reading::counter("frames_dropped", "Frames that went nowhere.", 7);
        assert_eq!(reading.key(), "frames_dropped");
        assert_eq!(reading.of_class("cause", "no_route").key(), "frames_dropped.no_route");
    }
}
