//! Where frames come from and go to: the device on the local bridge.
//!
//! * [`TapPort`]: a TAP device, itself a port of the bridge.
//! * [`PacketPort`]: a packet socket on the far end of a veth pair.
//! * [`MemoryPort`]: for tests, with the test in place of the bridge.
//! * [`FaultyPort`], [`RecordedPort`]: around another port, one that loses and damages frames,
//!   one that writes them to a pcap file.

mod fault;
mod joiner;
mod memory;
mod packet;
mod pcap;
mod tap;
pub use weave_core::switch::virtio;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

pub use fault::{Faults, FaultyPort};
pub use memory::{MemoryHost, MemoryPort};
pub use packet::PacketPort;
pub use pcap::{PcapWriter, RecordedPort};
pub use tap::TapPort;
use weave_core::switch::{Frame, Inject};

use crate::sys;

/// A device on the local bridge.
pub trait Port: Send {
    /// How many threads can take frames from the bridge, each from a queue of its own.
    fn queues(&self) -> usize {
        1
    }

    /// The half that takes frames from the bridge, for one thread: the next queue.
    ///
    /// # Errors
    /// All queues were taken, the device is gone, or this process may not use it.
    fn capture(&mut self) -> io::Result<Box<dyn Capture>>;

    /// A half that gives frames to the bridge. Each thread has its own, made after its queue was
    /// taken: what goes out in answer to what goes in here then comes from that queue.
    ///
    /// # Errors
    /// The device is gone, or this process may not use it.
    fn injector(&self) -> io::Result<Box<dyn Inject + Send>>;

    /// What the device leaves to this side, for the status.
    fn offloads(&self) -> Offloads;

    /// What was counted so far.
    fn counters(&self) -> Arc<PortCounters>;
}

impl<P: Port + ?Sized> Port for Box<P> {
    fn queues(&self) -> usize {
        (**self).queues()
    }

    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        (**self).capture()
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        (**self).injector()
    }

    fn offloads(&self) -> Offloads {
        (**self).offloads()
    }

    fn counters(&self) -> Arc<PortCounters> {
        (**self).counters()
    }
}

/// What a device hands over undone. What it cannot is done by the kernel before, which costs
/// only speed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// Transport checksums.
    pub checksum: bool,
    /// The segmentation of TCP.
    pub tcp: bool,
    /// That of UDP.
    pub udp: bool,
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [("checksum", self.checksum), ("tcp", self.tcp), ("udp", self.udp)];
        let mut names = all.into_iter().filter_map(|(name, there)| there.then_some(name));
        f.write_str(names.next().unwrap_or("none"))?;
        names.try_for_each(|name| write!(f, " {name}"))
    }
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
    captured_bytes: AtomicU64,
    captured_super: AtomicU64,
    injected: AtomicU64,
    injected_bytes: AtomicU64,
    injected_super: AtomicU64,
    overruns: AtomicU64,
    malformed: AtomicU64,
    capture_errors: AtomicU64,
    inject_errors: AtomicU64,
    /// A device that counts by itself what found its queue full.
    device: OnceLock<String>,
}

impl PortCounters {
    fn count_captured(&self, frame: &Frame<'_>) {
        add(&self.captured, 1);
        add(&self.captured_bytes, frame.bytes.len());
        add(&self.captured_super, usize::from(frame.segmentation.is_some()));
    }

    fn count_injected(&self, frame: &Frame<'_>) {
        add(&self.injected, 1);
        add(&self.injected_bytes, frame.bytes.len());
        add(&self.injected_super, usize::from(frame.segmentation.is_some()));
    }

    /// From now on those of this device count, too. It always has the same name.
    fn count_overruns_of(&self, device: &str) {
        self.device.get_or_init(|| device.to_owned());
    }

    fn device_overruns(&self) -> u64 {
        let device = self.device.get();
        device.and_then(|name| sys::tap::overruns(name).ok().flatten()).unwrap_or(0)
    }

    /// By name; the names never change.
    pub fn list(&self) -> [(&'static str, u64); 10] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("captured", read(&self.captured)),
            // By the frame: above the MTU as long as the offloads work.
            ("captured_bytes", read(&self.captured_bytes)),
            // Of these, one for many of the network.
            ("captured_super_frames", read(&self.captured_super)),
            ("injected", read(&self.injected)),
            ("injected_bytes", read(&self.injected_bytes)),
            ("injected_super_frames", read(&self.injected_super)),
            // The buffer of the socket, or the queue of the device, was full.
            ("dropped_overrun", read(&self.overruns) + self.device_overruns()),
            // Cut off, or the virtio-net header makes no sense.
            ("dropped_malformed", read(&self.malformed)),
            ("capture_errors", read(&self.capture_errors)),
            ("inject_errors", read(&self.inject_errors)),
        ]
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
