//! What a link counts. Threads add without waiting for each other.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
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
    /// Sealed with another key, or changed on the way.
    pub(crate) forged: Counter,
    /// Came before.
    pub(crate) replayed: Counter,
    /// With something that is not a record.
    pub(crate) malformed: Counter,
    /// Special frames of or for somebody else.
    pub(crate) misdirected: Counter,
}

impl Sent {
    pub(crate) fn list(&self) -> [(&'static str, u64); 12] {
        [
            ("tx_frames", self.frames.get()),
            ("tx_bytes", self.bytes.get()),
            ("tx_datagrams", self.datagrams.get()),
            ("tx_calls", self.calls.get()),
            ("tx_super_frames", self.super_frames.get()),
            ("tx_dropped_oversize", self.oversize.get()),
            ("tx_dropped_malformed", self.malformed.get()),
            ("tx_dropped_too_big", self.too_big.get()),
            ("tx_dropped_queue_full", self.queue_full.get()),
            ("tx_dropped_unreachable", self.unreachable.get()),
            ("tx_dropped_no_address", self.no_address.get()),
            ("tx_dropped_unsealed", self.unsealed.get()),
        ]
    }
}

impl Received {
    pub(crate) fn list(&self) -> [(&'static str, u64); 7] {
        [
            ("rx_frames", self.frames.get()),
            ("rx_bytes", self.bytes.get()),
            ("rx_datagrams", self.datagrams.get()),
            ("rx_dropped_forged", self.forged.get()),
            ("rx_dropped_replayed", self.replayed.get()),
            ("rx_dropped_malformed", self.malformed.get()),
            ("rx_dropped_misdirected", self.misdirected.get()),
        ]
    }
}
