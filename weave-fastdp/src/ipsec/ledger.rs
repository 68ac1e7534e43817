//! What the kernel sealed and opened, for the metrics. Its own count of a key ends with the key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weave_xfrm::{Path, Spi, StateEntry, Usage};

/// Which of the two directions of a tunnel a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    In,
    Out,
}

/// Shared by the thread that makes and deletes states and those that ask.
#[derive(Clone, Default, Debug)]
pub(super) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Clone, Default, Debug)]
pub(super) struct Entries {
    /// The states that are in the kernel.
    open: BTreeMap<(Path, Spi), Way>,
    /// Those that were.
    closed: Totals,
    /// Keys to receive with that took the place of another one.
    pub(super) renewed: u64,
    /// Keys that the kernel or the firewall refused.
    pub(super) failures: u64,
    /// Times that rules were gone and are back.
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

impl Ledger {
    /// While it is held, no state is deleted: each is counted once.
    pub(super) fn entries(&self) -> MutexGuard<'_, Entries> {
        // Numbers are whole between any two calls.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    pub(super) fn open(&mut self, path: Path, spi: Spi, way: Way) {
        self.open.insert((path, spi), way);
    }

    /// A state is about to be deleted; these are in the kernel.
    pub(super) fn close(&mut self, path: Path, spi: Spi, states: &[StateEntry]) {
        let Some(way) = self.open.remove(&(path, spi)) else { return };
        let found = states.iter().find(|state| state.path == path && state.spi == Some(spi));
        if let Some(state) = found {
            self.closed.add(way, &state.usage);
        }
    }

    /// Of all states so far, by name; these are in the kernel.
    pub(super) fn counters(&self, states: &[StateEntry]) -> Vec<(&'static str, u64)> {
        let mut totals = self.closed;
        for state in states {
            let way = state.spi.and_then(|spi| self.open.get(&(state.path, spi)));
            if let Some(way) = way {
                totals.add(*way, &state.usage);
            }
        }
        let Totals { packets_in, bytes_in, packets_out, bytes_out, replayed, forged } = totals;
        vec![
            ("tx_packets", packets_out),
            ("tx_bytes", bytes_out),
            ("rx_packets", packets_in),
            ("rx_bytes", bytes_in),
            ("rx_dropped_replayed", replayed),
            ("rx_dropped_forged", forged),
            ("keys_renewed", self.renewed),
            ("failures", self.failures),
            ("rules_mended", self.mended),
        ]
    }
}

impl Totals {
    fn add(&mut self, way: Way, usage: &Usage) {
        let (packets, bytes) = match way {
            Way::In => (&mut self.packets_in, &mut self.bytes_in),
            Way::Out => (&mut self.packets_out, &mut self.bytes_out),
        };
        *packets += usage.packets;
        *bytes += usage.bytes;
        self.replayed += u64::from(usage.replayed);
        self.forged += u64::from(usage.forged);
    }
}
