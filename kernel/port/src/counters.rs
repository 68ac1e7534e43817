//! The counters of a port.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use weave_core::switch::Frame;

use crate::sys;

/// A number that only rises and that threads add to without waiting for one another.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Returns the number reached so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one port. Any thread adds to them, without locks.
#[derive(Debug, Default)]
pub struct PortCounters {
    pub(crate) captured: Counter,
    pub(crate) captured_bytes: Counter,
    captured_super: Counter,
    pub(crate) injected: Counter,
    injected_bytes: Counter,
    injected_super: Counter,
    pub(crate) overruns: Counter,
    pub(crate) malformed: Counter,
    pub(crate) capture_errors: Counter,
    pub(crate) inject_errors: Counter,
    /// The device that counts for itself the frames that found its queue full.
    device: OnceLock<String>,
}

impl PortCounters {
    pub(crate) fn count_captured(&self, frame: &Frame<'_>) {
        self.captured.add(1);
        self.captured_bytes.add(frame.bytes.len());
        self.captured_super.add(usize::from(frame.segmentation.is_some()));
    }

    pub(crate) fn count_injected(&self, frame: &Frame<'_>) {
        self.injected.add(1);
        self.injected_bytes.add(frame.bytes.len());
        self.injected_super.add(usize::from(frame.segmentation.is_some()));
    }

    /// Includes the overruns that this device counts from now on. A port always has one device.
    pub(crate) fn count_overruns_of(&self, device: &str) {
        self.device.get_or_init(|| device.to_owned());
    }

    fn device_overruns(&self) -> u64 {
        let device = self.device.get();
        device.and_then(|name| sys::tap::overruns(name).ok().flatten()).unwrap_or(0)
    }

    /// Returns all counters by name. The names never change.
    pub fn list(&self) -> [(&'static str, u64); 10] {
        [
            ("captured", self.captured.get()),
            // One super-frame counts once, so the average is above the MTU as long as offloads
            // work.
            ("captured_bytes", self.captured_bytes.get()),
            // The part of `captured` that stands for several frames each.
            ("captured_super_frames", self.captured_super.get()),
            ("injected", self.injected.get()),
            ("injected_bytes", self.injected_bytes.get()),
            ("injected_super_frames", self.injected_super.get()),
            // The buffer of the socket, or the queue of the device, was full.
            ("dropped_overrun", self.overruns.get() + self.device_overruns()),
            // Truncated frames, and frames with a nonsensical virtio-net header.
            ("dropped_malformed", self.malformed.get()),
            ("capture_errors", self.capture_errors.get()),
            ("inject_errors", self.inject_errors.get()),
        ]
    }
}
