//! A TAP device: a port of the bridge whose other side is this process.
//!
//! The device lives as long as the port, unless it was made persistent before (`ip tuntap add`):
//! then the device and its place in the bridge outlive a restart of the router. All offloads that
//! the kernel has are requested, so that super-frames arrive uncut, and frames for the bridge are
//! coalesced to super-frames.
//!
//! A read takes one frame, unlike a packet socket, which takes a batch.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use weave_core::switch::{Frame, Inject};

use crate::super_frame_writer::SuperFrameWriter;
use crate::sys;
use crate::sys::tap::Queues;
use crate::virtio::{self, HEADER_LEN};
use crate::{Capture, More, Offloads, Port, PortCounters};

/// Frames that one call of [`Capture::capture`] hands over at most.
const BATCH: usize = 64;

/// Room for the largest super-frame with its header.
const BUFFER: usize = HEADER_LEN + (1 << 16) + 64;

/// A port that is a TAP device.
#[derive(Debug)]
pub struct TapPort {
    queues: Vec<Arc<File>>,
    /// Number of queues that already have a thread.
    captures: usize,
    offloads: Offloads,
    name: String,
    counters: Arc<PortCounters>,
}

impl TapPort {
    /// Opens the device of this name, which is created if it does not exist, with that many queues,
    /// or with one if it was created with one. The caller brings the device up and attaches it to
    /// the bridge.
    ///
    /// # Errors
    /// There is no TUN driver, the name belongs to another kind of device, or this process may not
    /// create one.
    pub fn open(name: &str, queues: usize) -> io::Result<Self> {
        let files = match open_queues(name, queues) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                vec![sys::tap::open(name, Queues::One)?]
            }
            opened => opened?,
        };
        // A device has one set of offloads, on whichever queue they are requested.
        let first = files.first().ok_or(io::ErrorKind::InvalidInput)?;
        let offloads = negotiate_offloads(first)?;
        let queues = files.into_iter().map(Arc::new).collect();
        let port =
            Self { queues, captures: 0, offloads, name: name.to_owned(), counters: Arc::default() };
        port.counters.count_overruns_of(name);
        Ok(port)
    }

    /// Continues with the counters of a port that was lost.
    #[must_use]
    pub fn with_counters(self, counters: Arc<PortCounters>) -> Self {
        counters.count_overruns_of(&self.name);
        Self { counters, ..self }
    }
}

impl Port for TapPort {
    fn queues(&self) -> usize {
        self.queues.len()
    }

    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        let all_taken = || io::Error::other("every queue of the device has its thread");
        let device = self.queues.get(self.captures).ok_or_else(all_taken)?.clone();
        self.captures += 1;
        let counters = self.counters.clone();
        Ok(Box::new(TapCapture { device, counters, buffer: vec![0; BUFFER].into() }))
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        let queue = self.queues.get(self.captures.saturating_sub(1));
        let device = queue.ok_or(io::ErrorKind::NotFound)?.clone();
        let counters = self.counters.clone();
        let super_frames = SuperFrameWriter::new(counters.clone());
        Ok(Box::new(TapInjector { device: TapWriter { device, counters }, super_frames }))
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn counters(&self) -> Arc<PortCounters> {
        self.counters.clone()
    }
}

/// Opens the queues of a multi-queue device, existing or new.
fn open_queues(name: &str, count: usize) -> io::Result<Vec<File>> {
    (0..count.max(1)).map(|_| sys::tap::open(name, Queues::Several)).collect()
}

/// Requests fewer and fewer offloads until the kernel agrees: older ones lack some (those of UDP
/// came with 6.2).
fn negotiate_offloads(device: &File) -> io::Result<Offloads> {
    let all = Offloads { checksum: true, tcp: true, udp: true };
    let less = [all, Offloads { udp: false, ..all }];
    for offloads in less {
        if sys::tap::set_offloads(device.as_fd(), offloads).is_ok() {
            return Ok(offloads);
        }
    }
    sys::tap::set_offloads(device.as_fd(), Offloads::default())?;
    Ok(Offloads::default())
}

struct TapCapture {
    device: Arc<File>,
    counters: Arc<PortCounters>,
    buffer: Box<[u8]>,
}

impl Capture for TapCapture {
    fn readiness(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    fn capture(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> io::Result<More> {
        for _ in 0..BATCH {
            let length = match (&*self.device).read(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(More::No),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let read = self.buffer.get(..length).unwrap_or_default();
            let Ok(frame) = virtio::frame(read) else {
                self.counters.malformed.add(1);
                continue;
            };
            self.counters.count_captured(&frame);
            each(frame);
        }
        Ok(More::Likely)
    }
}

struct TapInjector {
    device: TapWriter,
    super_frames: SuperFrameWriter,
}

impl Inject for TapInjector {
    fn inject(&mut self, frame: Frame<'_>) {
        let Self { device, super_frames } = self;
        super_frames.inject(frame, &mut |frame| device.write(frame));
    }

    fn flush(&mut self) {
        let Self { device, super_frames } = self;
        super_frames.flush(&mut |frame| device.write(frame));
    }
}

struct TapWriter {
    device: Arc<File>,
    counters: Arc<PortCounters>,
}

impl TapWriter {
    fn write(&self, frame: Frame<'_>) -> io::Result<()> {
        sys::write_both(self.device.as_fd(), &virtio::encode(&frame), frame.bytes)?;
        self.counters.count_injected(&frame);
        Ok(())
    }
}
