//! What a link counts. Threads add without waiting for each other.

use weave_port::Counter;

/// Where each class of lengths begins.
const TRAIN_CLASSES: [usize; CLASSES] = [1, 2, 8, 16, 32];
const CLASSES: usize = 5;

/// How many trains there were, by their length in datagrams; one that goes alone is a train of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Lengths([usize; CLASSES]);

impl Lengths {
    pub(crate) fn add(&mut self, train: usize) {
        self.0[class(train)] += 1;
    }
}

/// The same, for all threads.
#[derive(Debug, Default)]
pub(crate) struct Trains([Counter; CLASSES]);

impl Trains {
    pub(crate) fn add(&self, train: usize) {
        self.0[class(train)].add(1);
    }

    pub(crate) fn add_all(&self, lengths: &Lengths) {
        for (counter, count) in self.0.iter().zip(lengths.0).filter(|(_, count)| *count > 0) {
            counter.add(count);
        }
    }

    fn list(&self, names: [&'static str; CLASSES]) -> impl Iterator<Item = (&'static str, u64)> {
        names.into_iter().zip(self.0.iter().map(Counter::get))
    }
}

fn class(train: usize) -> usize {
    TRAIN_CLASSES.iter().rposition(|first| train >= *first).unwrap_or(0)
}

/// What the threads that send have done. On cache lines of its own, because another thread
/// receives.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Sent {
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
    pub(crate) datagrams: Counter,
    /// System calls that sent them.
    pub(crate) calls: Counter,
    /// Trains that they went in.
    pub(crate) trains: Trains,
    /// Datagrams that did not go alone.
    pub(crate) in_trains: Counter,
    /// Datagrams of the link itself.
    pub(crate) special: Counter,
    /// Times that trains were given up since they do not arrive.
    pub(crate) trains_off: Counter,
    /// Frames that did not fit an empty datagram, or could not be cut.
    pub(crate) oversize: Counter,
    /// Super-frames that are not what they are said to be.
    pub(crate) malformed: Counter,
    /// Super-frames that were cut into frames.
    pub(crate) super_frames: Counter,
    /// Datagrams that the path turned out too small for.
    pub(crate) too_big: Counter,
    /// Datagrams that found the queue of the kernel full.
    pub(crate) queue_full: Counter,
    /// Datagrams that had no route.
    pub(crate) unreachable: Counter,
    /// Frames before the address of the neighbour was known.
    pub(crate) no_address: Counter,
    /// Datagrams that could not be sealed any more.
    pub(crate) unsealed: Counter,
}

/// What the thread that receives has done.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Received {
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
    pub(crate) datagrams: Counter,
    /// Datagrams of the link itself.
    pub(crate) special: Counter,
    /// Messages of the socket that they came in, by how many they held.
    pub(crate) trains: Trains,
    /// Super-frames that were joined from pieces.
    pub(crate) super_frames: Counter,
    /// Sealed with another key, or changed on the way.
    pub(crate) forged: Counter,
    /// Those of them that came with others in one train.
    pub(crate) forged_in_trains: Counter,
    /// Came before.
    pub(crate) replayed: Counter,
    /// Sealed with a key that is not kept: very late, or made up.
    pub(crate) epoch: Counter,
    /// With something that is not a record.
    pub(crate) malformed: Counter,
    /// Special frames of or for somebody else.
    pub(crate) misdirected: Counter,
}

impl Sent {
    /// By name; what is behind a dot is a class of the counter before it.
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
            ("tx_datagrams_in_trains", self.in_trains.get()),
            ("tx_datagrams_special", self.special.get()),
            ("tx_trains_off", self.trains_off.get()),
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
        .chain(self.trains.list(names))
    }
}

impl Received {
    /// As [`Sent::list`].
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
            ("rx_forged_in_trains", self.forged_in_trains.get()),
            ("rx_dropped_forged", self.forged.get()),
            ("rx_dropped_replayed", self.replayed.get()),
            ("rx_dropped_epoch", self.epoch.get()),
            ("rx_dropped_malformed", self.malformed.get()),
            ("rx_dropped_misdirected", self.misdirected.get()),
        ]
        .into_iter()
        .chain(self.trains.list(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trains_are_classed_by_their_length() {
        let mut lengths = Lengths::default();
        for train in [1, 2, 7, 8, 15, 16, 31, 32, 64, 128] {
            lengths.add(train);
        }
        let trains = Trains::default();
        trains.add_all(&lengths);
        trains.add(1);
        let counts = trains.list(["1", "2-7", "8-15", "16-31", "32-64"]).map(|(_, count)| count);
        assert_eq!(counts.collect::<Vec<_>>(), [2, 2, 2, 2, 3]);
    }
}
