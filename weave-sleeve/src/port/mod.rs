//! Where frames come from and go to: the device on the local bridge.
//!
//! * [`TapPort`]: a TAP device, itself a port of the bridge.
//! * [`PacketPort`]: a packet socket on the far end of a veth pair.
//! * [`MemoryPort`]: for tests, with the test in place of the bridge.
//! * [`FaultyPort`], [`RecordedPort`]: around another port, one that loses and damages frames,
//!   one that writes them to a pcap file.

mod fault;
mod memory;
mod packet;
mod pcap;
mod tap;
pub mod virtio;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use fault::{Faults, FaultyPort};
pub use memory::{MemoryHost, MemoryPort};
pub use packet::PacketPort;
pub use pcap::{PcapWriter, RecordedPort};
pub use tap::TapPort;
use weave_core::switch::{Frame, Inject};

/// A device on the local bridge.
pub trait Port: Send {
    /// The half that takes frames from the bridge. One thread uses it; a second call may fail.
    ///
    /// # Errors
    /// The device is gone, or this process may not use it.
    fn capture(&mut self) -> io::Result<Box<dyn Capture>>;

    /// A half that gives frames to the bridge. Each thread has its own.
    ///
    /// # Errors
    /// The device is gone, or this process may not use it.
    fn injector(&self) -> io::Result<Box<dyn Inject + Send>>;

    /// What was counted so far.
    fn counters(&self) -> Arc<PortCounters>;
}

/// Takes frames from the bridge.
pub trait Capture: Send {
    /// Readable when [`Self::capture`] has something to do.
    fn readiness(&self) -> BorrowedFd<'_>;

    /// Hands over the frames at hand, up to a batch. Never waits.
    ///
    /// # Errors
    /// The device is gone for good. Everything else is counted.
    fn capture(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> io::Result<More>;
}

/// Whether it is worth to ask again without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum More {
    /// The batch was full.
    Likely,
    /// That was all.
    No,
}

/// What a port has done. Counted without locks, by any thread.
#[derive(Debug, Default)]
pub struct PortCounters {
    captured: AtomicU64,
    injected: AtomicU64,
    overruns: AtomicU64,
    malformed: AtomicU64,
    unsegmented: AtomicU64,
    capture_errors: AtomicU64,
    inject_errors: AtomicU64,
}

impl PortCounters {
    /// By name; the names never change.
    pub fn list(&self) -> [(&'static str, u64); 7] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("captured", read(&self.captured)),
            ("injected", read(&self.injected)),
            // The buffer of the socket was full.
            ("dropped_overrun", read(&self.overruns)),
            // Cut off, or the virtio-net header makes no sense.
            ("dropped_malformed", read(&self.malformed)),
            // Super-frames of a device that was not asked for them.
            ("dropped_unsegmented", read(&self.unsegmented)),
            ("capture_errors", read(&self.capture_errors)),
            ("inject_errors", read(&self.inject_errors)),
        ]
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
