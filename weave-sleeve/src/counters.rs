//! The counters of a link. Threads add to them without waiting for one another.

use weave_port::Counter;

/// The smallest size of each class.
const SIZE_CLASSES: [usize; CLASSES] = [1, 2, 8, 16, 32];
const CLASSES: usize = 5;

/// Number of GSO batches by their size in datagrams. A datagram sent alone is a batch of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct BatchSizes([usize; CLASSES]);

impl BatchSizes {
    pub(crate) fn add(&mut self, batch: usize) {
        self.0[class(batch)] += 1;
    }
}

/// The same, shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct BatchSizeCounters([Counter; CLASSES]);

impl BatchSizeCounters {
    pub(crate) fn add(&self, batch: usize) {
        self.0[class(batch)].add(1);
    }

    pub(crate) fn add_all(&self, lengths: &BatchSizes) {
        for (counter, count) in self.0.iter().zip(lengths.0).filter(|(_, count)| *count > 0) {
            counter.add(count);
        }
    }

    fn list(&self, names: [&'static str; CLASSES]) -> impl Iterator<Item = (&'static str, u64)> {
        names.into_iter().zip(self.0.iter().map(Counter::get))
    }
}

fn class(batch: usize) -> usize {
    SIZE_CLASSES.iter().rposition(|first| batch >= *first).unwrap_or(0)
}

/// Counters of the sending threads. They have cache lines of their own, because another thread
/// receives.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Sent {
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
    pub(crate) datagrams: Counter,
    /// System calls for these datagrams.
    pub(crate) calls: Counter,
    /// Batches that carried them.
    pub(crate) batches: BatchSizeCounters,
    /// Datagrams that shared a batch with others.
    pub(crate) in_batches: Counter,
    /// Datagrams with special frames.
    pub(crate) special: Counter,
    /// Times that GSO was disabled because batches did not arrive.
    pub(crate) gso_disabled: Counter,
    /// Frames that did not fit into an empty datagram and could not be fragmented.
    pub(crate) oversize: Counter,
    /// Super-frames that are not what their header says.
    pub(crate) malformed: Counter,
    /// Super-frames that were segmented.
    pub(crate) super_frames: Counter,
    /// Datagrams larger than the path turned out to carry.
    pub(crate) too_big: Counter,
    /// Datagrams that found the kernel's queue full.
    pub(crate) queue_full: Counter,
    /// Datagrams without a route.
    pub(crate) unreachable: Counter,
    /// Frames sent before the address of the neighbour was known.
    pub(crate) no_address: Counter,
    /// Datagrams that could no longer be sealed.
    pub(crate) unsealed: Counter,
}

/// Counters of the receiving thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Received {
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
    pub(crate) datagrams: Counter,
    /// Datagrams with special frames.
    pub(crate) special: Counter,
    /// Socket messages that carried them, by the number of datagrams.
    pub(crate) batches: BatchSizeCounters,
    /// Reassembled super-frames.
    pub(crate) super_frames: Counter,
    /// Datagrams sealed with another key, or changed on the way.
    pub(crate) forged: Counter,
    /// Those of them that shared a batch with others.
    pub(crate) forged_in_batches: Counter,
    /// Datagrams that came before.
    pub(crate) replayed: Counter,
    /// Datagrams sealed with a key that is not kept: very late, or made up.
    pub(crate) epoch: Counter,
    /// Datagrams that contain something other than records.
    pub(crate) malformed: Counter,
    /// Special frames of or for another peer.
    pub(crate) misdirected: Counter,
    /// In clear, and from another address than that of the neighbour.
    pub(crate) stray: Counter,
}

impl Sent {
    /// Returns all counters by name. A dot separates the name from a size class.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = [
            "tx_trains.1",
            "tx_trains.2-7",
            "tx_trains.8-15",
            "tx_trains.16-31",
            "tx_trains.32-64",
        ];
        [
            ("tx_frames", self.frames.get()),
            ("tx_bytes", self.bytes.get()),
            ("tx_datagrams", self.datagrams.get()),
            ("tx_calls", self.calls.get()),
            ("tx_datagrams_in_trains", self.in_batches.get()),
            ("tx_datagrams_special", self.special.get()),
            ("tx_trains_off", self.gso_disabled.get()),
            ("tx_super_frames", self.super_frames.get()),
            ("tx_dropped_oversize", self.oversize.get()),
            ("tx_dropped_malformed", self.malformed.get()),
            ("tx_dropped_too_big", self.too_big.get()),
            ("tx_dropped_queue_full", self.queue_full.get()),
            ("tx_dropped_unreachable", self.unreachable.get()),
            ("tx_dropped_no_address", self.no_address.get()),
            ("tx_dropped_unsealed", self.unsealed.get()),
        ]
        .into_iter()
        .chain(self.batches.list(names))
    }
}

impl Received {
    /// Returns all counters by name; see [`Sent::list`].
    pub(crate) fn list(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = [
            "rx_trains.1",
            "rx_trains.2-7",
            "rx_trains.8-15",
            "rx_trains.16-31",
            "rx_trains.32-64",
        ];
        [
            ("rx_frames", self.frames.get()),
            ("rx_bytes", self.bytes.get()),
            ("rx_datagrams", self.datagrams.get()),
            ("rx_datagrams_special", self.special.get()),
            ("rx_super_frames", self.super_frames.get()),
            ("rx_forged_in_trains", self.forged_in_batches.get()),
            ("rx_dropped_forged", self.forged.get()),
            ("rx_dropped_replayed", self.replayed.get()),
            ("rx_dropped_epoch", self.epoch.get()),
            ("rx_dropped_malformed", self.malformed.get()),
            ("rx_dropped_misdirected", self.misdirected.get()),
            ("rx_dropped_address", self.stray.get()),
        ]
        .into_iter()
        .chain(self.batches.list(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_by_size_class() {
        let mut lengths = BatchSizes::default();
        for batch in [1, 2, 7, 8, 15, 16, 31, 32, 64, 128] {
            lengths.add(batch);
        }
        let batches = BatchSizeCounters::default();
        batches.add_all(&lengths);
        batches.add(1);
        let counts = batches.list(["1", "2-7", "8-15", "16-31", "32-64"]).map(|(_, count)| count);
        assert_eq!(counts.collect::<Vec<_>>(), [2, 2, 2, 2, 3]);
    }
}
