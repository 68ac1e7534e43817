//! The counters of a link. Threads add to them without waiting for one another.

use weave_core::metric::{Counter, Reading};

/// The smallest size of each class.
const SIZE_CLASSES: [usize; CLASSES] = [1, 2, 8, 16, 32];
/// How the classes are called.
const CLASS_NAMES: [&str; CLASSES] = ["1", "2-7", "8-15", "16-31", "32-64"];
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

    /// Returns the counters, as readings of one name.
    fn list(&self, name: &'static str, help: &'static str) -> impl Iterator<Item = Reading> {
        let counts = CLASS_NAMES.into_iter().zip(self.0.iter().map(Counter::get));
        counts.map(move |(class, count)| {
            Reading::counter(name, help, count).of_class("datagrams", class)
        })
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
    /// Returns all counters.
    pub(crate) fn list(&self) -> impl Iterator<Item = Reading> {
        let help = "GSO batches given to the kernel, by the number of datagrams in them.";
        [
            Reading::counter("tx_frames", "Frames sent to the neighbour.", self.frames.get()),
            Reading::counter("tx_bytes", "Bytes sent to the neighbour.", self.bytes.get()),
            Reading::counter(
                "tx_datagrams",
                "Datagrams sent to the neighbour.",
                self.datagrams.get(),
            ),
            Reading::counter(
                "tx_calls",
                "System calls that sent datagrams to the neighbour.",
                self.calls.get(),
            ),
            Reading::counter(
                "tx_datagrams_in_trains",
                "Datagrams that shared a GSO batch with others.",
                self.in_batches.get(),
            ),
            Reading::counter(
                "tx_datagrams_special",
                "Datagrams sent for the link itself: heartbeats, tests, counts requests.",
                self.special.get(),
            ),
            Reading::counter(
                "tx_trains_off",
                "Times that GSO was disabled because batches did not arrive.",
                self.gso_disabled.get(),
            ),
            Reading::counter(
                "tx_super_frames",
                "Super-frames that were cut into frames for the neighbour.",
                self.super_frames.get(),
            ),
            Reading::counter(
                "tx_dropped_oversize",
                "Frames not sent since no datagram holds them.",
                self.oversize.get(),
            ),
            Reading::counter(
                "tx_dropped_malformed",
                "Super-frames not sent since they are not what they claim to be.",
                self.malformed.get(),
            ),
            Reading::counter(
                "tx_dropped_too_big",
                "Datagrams not sent since the path turned out too small for them.",
                self.too_big.get(),
            ),
            Reading::counter(
                "tx_dropped_queue_full",
                "Datagrams not sent since the queue of the kernel was full.",
                self.queue_full.get(),
            ),
            Reading::counter(
                "tx_dropped_unreachable",
                "Datagrams not sent because there was no route to the neighbour.",
                self.unreachable.get(),
            ),
            Reading::counter(
                "tx_dropped_no_address",
                "Frames not sent before the neighbour's address was known.",
                self.no_address.get(),
            ),
            Reading::counter(
                "tx_dropped_unsealed",
                "Datagrams not sent since they could not be sealed any more.",
                self.unsealed.get(),
            ),
        ]
        .into_iter()
        .chain(self.batches.list("tx_trains", help))
    }
}

impl Received {
    /// Returns all counters.
    pub(crate) fn list(&self) -> impl Iterator<Item = Reading> {
        let help = "GRO batches received from the kernel, by the number of datagrams in them.";
        [
            Reading::counter("rx_frames", "Frames received from the neighbour.", self.frames.get()),
            Reading::counter("rx_bytes", "Bytes received from the neighbour.", self.bytes.get()),
            Reading::counter(
                "rx_datagrams",
                "Datagrams received from the neighbour.",
                self.datagrams.get(),
            ),
            Reading::counter(
                "rx_datagrams_special",
                "Datagrams received for the link itself: heartbeats, tests, counts requests.",
                self.special.get(),
            ),
            Reading::counter(
                "rx_super_frames",
                "Super-frames reassembled from segments of the neighbour.",
                self.super_frames.get(),
            ),
            Reading::counter(
                "rx_forged_in_trains",
                "Forged datagrams that shared a batch with others.",
                self.forged_in_batches.get(),
            ),
            Reading::counter(
                "rx_dropped_forged",
                "Datagrams dropped: sealed with another key, or changed on the way.",
                self.forged.get(),
            ),
            Reading::counter(
                "rx_dropped_replayed",
                "Datagrams dropped: received before.",
                self.replayed.get(),
            ),
            Reading::counter(
                "rx_dropped_epoch",
                "Datagrams dropped: sealed with a key that is not kept any more, or not yet.",
                self.epoch.get(),
            ),
            Reading::counter(
                "rx_dropped_malformed",
                "Datagrams dropped: not made of records.",
                self.malformed.get(),
            ),
            Reading::counter(
                "rx_dropped_misdirected",
                "Datagrams dropped: special frames of or for somebody else.",
                self.misdirected.get(),
            ),
            Reading::counter(
                "rx_dropped_address",
                "Datagrams dropped: in clear, from another address than that of the neighbour.",
                self.stray.get(),
            ),
        ]
        .into_iter()
        .chain(self.batches.list("rx_trains", help))
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
        let counts = batches.list("rx_trains", "").map(|counter| counter.value);
        assert_eq!(counts.collect::<Vec<_>>(), [2, 2, 2, 2, 3]);
    }
}
