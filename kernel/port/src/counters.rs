//! The counters of a port.

use std::sync::OnceLock;

use weave_core::metric::{Counter, Reading};
use weave_core::switch::Frame;

use crate::sys;

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

    /// Returns all counters.
    pub fn list(&self) -> [Reading; 10] {
        [
            Reading::counter(
                "captured",
                "Frames and super-frames taken from the bridge.",
                self.captured.get(),
            ),
            // One super-frame counts once, so the average is above the MTU as long as offloads
            // work.
            Reading::counter("captured_bytes", "Bytes of these.", self.captured_bytes.get()),
            // The part of `captured` that stands for several frames each.
            Reading::counter(
                "captured_super_frames",
                "Those of them that stand for several frames.",
                self.captured_super.get(),
            ),
            Reading::counter(
                "injected",
                "Frames and super-frames given to the bridge.",
                self.injected.get(),
            ),
            Reading::counter("injected_bytes", "Bytes of these.", self.injected_bytes.get()),
            Reading::counter(
                "injected_super_frames",
                "Those of them that stand for several frames.",
                self.injected_super.get(),
            ),
            // The buffer of the socket, or the queue of the device, was full.
            Reading::counter(
                "dropped_overrun",
                "Frames dropped by the kernel: they came faster than the router took them.",
                self.overruns.get() + self.device_overruns(),
            ),
            // Truncated frames, and frames with a nonsensical virtio-net header.
            Reading::counter(
                "dropped_malformed",
                "Frames dropped: cut off, or not what they are marked as.",
                self.malformed.get(),
            ),
            Reading::counter(
                "capture_errors",
                "System calls that failed to take frames.",
                self.capture_errors.get(),
            ),
            Reading::counter(
                "inject_errors",
                "Frames that the kernel did not take.",
                self.inject_errors.get(),
            ),
        ]
    }
}
