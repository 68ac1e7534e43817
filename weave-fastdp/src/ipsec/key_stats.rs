//! The packets that the kernel encrypted and decrypted, for the metrics. The kernel's own counters
//! of a key are lost when the key is deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weave_core::metric::Reading;
use weave_xfrm::{Path, Spi, StateEntry, Usage};

/// The direction of a tunnel that a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

/// Counters of all keys, shared by the thread that adds and deletes states and those that read.
#[derive(Clone, Default, Debug)]
pub(super) struct KeyStats(Arc<Mutex<Stats>>);

#[derive(Clone, Default, Debug)]
pub(super) struct Stats {
    /// States that are in the kernel.
    open: BTreeMap<(Path, Spi), Direction>,
    /// Sums of the states that were deleted.
    closed: Totals,
    /// Number of renewals of keys for receiving.
    pub(super) renewed: u64,
    /// Number of keys that the kernel or the firewall refused.
    pub(super) failures: u64,
    /// Number of times that firewall rules were missing and were restored.
    pub(super) mended: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Totals {
    packets_in: u64,
    bytes_in: u64,
    packets_out: u64,
    bytes_out: u64,
    replayed: u64,
    forged: u64,
}

impl KeyStats {
    /// Locks the counters. While they are locked, no state is deleted, so that each is counted
    /// once.
    pub(super) fn lock(&self) -> MutexGuard<'_, Stats> {
        // A panic of another thread leaves the numbers consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stats {
    /// Counts a state that was added.
    pub(super) fn open(&mut self, path: Path, spi: Spi, direction: Direction) {
        self.open.insert((path, spi), direction);
    }

    /// Keeps the counters of a state that is about to be deleted. `states` are in the kernel.
    pub(super) fn close(&mut self, path: Path, spi: Spi, states: &[StateEntry]) {
        let Some(direction) = self.open.remove(&(path, spi)) else { return };
        let found = states.iter().find(|state| state.path == path && state.spi == Some(spi));
        if let Some(state) = found {
            self.closed.add(direction, &state.usage);
        }
    }

    /// Returns the sums of all states so far. `states` are in the kernel.
    pub(super) fn counters(&self, states: &[StateEntry]) -> Vec<Reading> {
        let mut totals = self.closed;
        for state in states {
            let direction = state.spi.and_then(|spi| self.open.get(&(state.path, spi)));
            if let Some(direction) = direction {
                totals.add(*direction, &state.usage);
            }
        }
        let Totals { packets_in, bytes_in, packets_out, bytes_out, replayed, forged } = totals;
        vec![
            Reading::counter(
                "tx_packets",
                "Packets that the kernel sealed for the fast datapath.",
                packets_out,
            ),
            Reading::counter("tx_bytes", "Bytes of these.", bytes_out),
            Reading::counter(
                "rx_packets",
                "Packets that the kernel opened for the fast datapath.",
                packets_in,
            ),
            Reading::counter("rx_bytes", "Bytes of these.", bytes_in),
            Reading::counter(
                "rx_dropped_replayed",
                "Sealed packets dropped: received before, or too late.",
                replayed,
            ),
            Reading::counter(
                "rx_dropped_forged",
                "Packets dropped: sealed with another key, or changed.",
                forged,
            ),
            Reading::counter(
                "keys_renewed",
                "Keys to receive with that took the place of older ones.",
                self.renewed,
            ),
            Reading::counter(
                "failures",
                "Keys that the kernel or the firewall refused.",
                self.failures,
            ),
            Reading::counter(
                "rules_mended",
                "Times that rules of the sealed tunnels were gone and are back.",
                self.mended,
            ),
        ]
    }
}

impl Totals {
    fn add(&mut self, direction: Direction, usage: &Usage) {
        let (packets, bytes) = match direction {
            Direction::Inbound => (&mut self.packets_in, &mut self.bytes_in),
            Direction::Outbound => (&mut self.packets_out, &mut self.bytes_out),
        };
        *packets += usage.packets;
        *bytes += usage.bytes;
        self.replayed += u64::from(usage.replayed);
        self.forged += u64::from(usage.forged);
    }
}
