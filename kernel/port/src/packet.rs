//! A packet socket on one end of a veth pair, whose other end is a port of the bridge (spec
//! router.md, section 4).
//!
//! Super-frames and frames with unfinished checksums arrive if the sender and the other end of the
//! pair have offloads enabled.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use weave_core::switch::{Frame, Inject};

use crate::super_frame_writer::SuperFrameWriter;
use crate::sys;
use crate::sys::packet::{CaptureInfo, Device};
use crate::virtio::{self, HEADER_LEN};
use crate::{Capture, More, Offloads, Port, PortCounters};

/// Frames per system call when capturing.
const BATCH: usize = 32;

/// Room for a super-frame and its header. It is not a multiple of the page size, so that the
/// beginnings of the slots do not compete for the same cache sets.
const SLOT: usize = (1 << 16) + 640;

/// Room for the frames that wait to be injected.
const INJECT_ARENA: usize = 1 << 18;

/// A packet socket bound to a network device.
#[derive(Debug)]
pub struct PacketPort {
    device: Device,
    buffer_size: usize,
    counters: Arc<PortCounters>,
}

impl PacketPort {
    /// Opens a port on the device of this name. `buffer_size` is the size in bytes of the kernel's
    /// buffer for frames that are captured but not yet read.
    ///
    /// # Errors
    /// There is no such device.
    pub fn open(name: &str, buffer_size: usize) -> io::Result<Self> {
        Ok(Self { device: Device::named(name)?, buffer_size, counters: Arc::default() })
    }

    /// Continues with the counters of a port that was lost.
    #[must_use]
    pub fn with_counters(self, counters: Arc<PortCounters>) -> Self {
        Self { counters, ..self }
    }
}

impl Port for PacketPort {
    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        let socket = sys::packet::capture_socket(self.device)?;
        sys::set_buffers(socket.as_fd(), self.buffer_size, 0)?;
        Ok(Box::new(PacketCapture {
            socket,
            device: self.device,
            counters: self.counters.clone(),
            buffer: vec![0; SLOT * BATCH].into(),
            captured: Box::new([CaptureInfo::default(); BATCH]),
            batches: 0,
            was_full: false,
        }))
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        let socket = sys::packet::injection_socket(self.device)?;
        sys::set_buffers(socket.as_fd(), 0, self.buffer_size)?;
        Ok(Box::new(PacketInjector {
            super_frames: SuperFrameWriter::new(self.counters.clone()),
            queue: Queue {
                socket,
                counters: self.counters.clone(),
                arena: vec![0; INJECT_ARENA].into(),
                frames: Vec::with_capacity(sys::batch::MAX_BATCH),
            },
        }))
    }

    /// The kernel hands over whatever the sender and the other end of the pair leave undone.
    fn offloads(&self) -> Offloads {
        Offloads { checksum: true, tcp: true, udp: true }
    }

    fn counters(&self) -> Arc<PortCounters> {
        self.counters.clone()
    }
}

/// Batches between two reads of the kernel's drop counter. The counter is also read when a batch is
/// not full after a full one, at the end of a burst.
const STATISTICS_INTERVAL: u32 = 1024;

struct PacketCapture {
    socket: OwnedFd,
    device: Device,
    counters: Arc<PortCounters>,
    buffer: Box<[u8]>,
    captured: Box<[CaptureInfo; BATCH]>,
    /// Batches since the kernel's drop counter was last read.
    batches: u32,
    was_full: bool,
}

impl Capture for PacketCapture {
    fn readiness(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn capture(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> io::Result<More> {
        let received =
            sys::packet::receive(self.socket.as_fd(), &mut self.buffer, &mut self.captured[..]);
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(More::No),
            Err(error) => {
                // A frame that cannot be expressed is lost, and a device that went down comes up
                // again. Only a device that no longer exists is worth giving up on.
                self.counters.capture_errors.add(1);
                return if self.device.exists() { Ok(More::Likely) } else { Err(error) };
            }
        };
        for (slot, captured) in self.buffer.chunks_exact_mut(SLOT).zip(&self.captured[..count]) {
            if captured.outgoing {
                continue;
            }
            let Some(frame) = parse_slot(slot, captured) else {
                self.counters.malformed.add(1);
                continue;
            };
            self.counters.count_captured(&frame);
            each(frame);
        }
        let full = count == BATCH;
        self.batches += 1;
        if self.batches == STATISTICS_INTERVAL || (self.was_full && !full) {
            self.batches = 0;
            let overruns = sys::packet::take_overruns(self.socket.as_fd()).unwrap_or(0);
            self.counters.overruns.add(usize::try_from(overruns).unwrap_or(0));
        }
        self.was_full = full;
        Ok(if full { More::Likely } else { More::No })
    }
}

/// Parses what was read into a slot. Returns `None` for a malformed frame.
fn parse_slot<'s>(slot: &'s mut [u8], captured: &CaptureInfo) -> Option<Frame<'s>> {
    let read = slot.get_mut(..captured.length).filter(|_| !captured.truncated)?;
    virtio::frame_with_tag(read, captured.vlan).ok()
}

struct PacketInjector {
    super_frames: SuperFrameWriter,
    queue: Queue,
}

impl Inject for PacketInjector {
    fn inject(&mut self, frame: Frame<'_>) {
        let Self { super_frames, queue } = self;
        super_frames.inject(frame, &mut |frame| queue.push(frame));
    }

    fn flush(&mut self) {
        let Self { super_frames, queue } = self;
        super_frames.flush(&mut |frame| queue.push(frame));
        queue.flush();
    }
}

/// Ordinary frames that wait to be written by one system call.
struct Queue {
    socket: OwnedFd,
    counters: Arc<PortCounters>,
    arena: Box<[u8]>,
    frames: Vec<Range<usize>>,
}

impl Queue {
    fn push(&mut self, frame: Frame<'_>) -> io::Result<()> {
        let header = virtio::encode(&frame);
        let length = HEADER_LEN + frame.bytes.len();
        if frame.segmentation.is_some() || length > self.arena.len() {
            // A super-frame goes after the frames before it, and is worth a system call of its own.
            self.flush();
            sys::write_both(self.socket.as_fd(), &header, frame.bytes)?;
            self.counters.count_injected(&frame);
            return Ok(());
        }
        let mut start = self.frames.last().map_or(0, |last| last.end);
        if start + length > self.arena.len() || self.frames.len() == sys::batch::MAX_BATCH {
            self.flush();
            start = 0;
        }
        let place = &mut self.arena[start..start + length];
        place[..HEADER_LEN].copy_from_slice(&header);
        place[HEADER_LEN..].copy_from_slice(frame.bytes);
        self.frames.push(start..start + length);
        Ok(())
    }

    fn flush(&mut self) {
        let mut rest = &self.frames[..];
        while !rest.is_empty() {
            match sys::packet::send(self.socket.as_fd(), &self.arena, rest) {
                Ok(sent) => {
                    self.counters.injected.add(sent);
                    rest = rest.get(sent..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.counters.inject_errors.add(1);
                    rest = rest.get(1..).unwrap_or_default();
                }
            }
        }
        self.frames.clear();
    }
}

#[cfg(test)]
mod tests {
    use weave_core::switch::{Segmentation, SegmentationKind};

    use super::*;

    fn slot(header: [u8; HEADER_LEN], frame: &[u8]) -> Vec<u8> {
        [&header[..], frame].concat()
    }

    #[test]
    fn super_frames_keep_their_requests() {
        let header = [1, 1, 0, 0, 0x76, 5, 34, 0, 16, 0];
        let mut read = slot(header, &[0; 60]);
        let captured = CaptureInfo { length: 70, ..CaptureInfo::default() };
        let frame = parse_slot(&mut read, &captured).unwrap();
        let segmentation = Segmentation { kind: SegmentationKind::Tcp4, size: 0x576 };
        assert_eq!(frame.segmentation, Some(segmentation));
    }

    #[test]
    fn malformed_captures_are_noticed() {
        for (header, length, truncated) in [
            ([0; 10], 9, false),
            ([0; 10], 21, false),
            ([0; 10], 70, true),
            ([0; 10], 71, false),
            ([1, 0, 0, 0, 0, 0, 60, 60, 0, 0], 70, false),
        ] {
            let mut read = slot(header, &[0; 60]);
            let captured = CaptureInfo { length, truncated, ..CaptureInfo::default() };
            assert!(parse_slot(&mut read, &captured).is_none(), "{header:?} {length}");
        }
    }
}
