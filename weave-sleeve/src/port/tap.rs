//! A TAP device: a port of the bridge whose other side is this process.
//!
//! The device lives as long as the port, unless somebody made it persistent before (`ip tuntap
//! add`): then it, and its place in the bridge, outlive a restart of the router. It is asked for
//! no offloads, so that the kernel cuts and checksums frames before they come here; the
//! virtio-net header is there nevertheless.
//!
//! A read takes one frame, unlike a packet socket, which takes a batch.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use weave_core::switch::{ChecksumRequest, Frame, Inject};
use weave_core::wire::complete_checksum;

use super::virtio::{self, HEADER_LEN};
use super::{Capture, More, Port, PortCounters, add};
use crate::sys;

/// Frames per [`Capture::capture`].
const BATCH: usize = 64;

/// The largest super-frame with its header.
const BUFFER: usize = HEADER_LEN + (1 << 16) + 64;

/// A TAP device.
#[derive(Debug)]
pub struct TapPort {
    device: Arc<File>,
    counters: Arc<PortCounters>,
}

impl TapPort {
    /// Opens the device of this name, and makes it if there is none. It has to be set up and put
    /// into the bridge by the caller.
    ///
    /// # Errors
    /// There is no TUN driver, the name is taken by another kind of device, or this process may
    /// not make one.
    pub fn open(name: &str) -> io::Result<Self> {
        Ok(Self { device: Arc::new(sys::tap::open(name)?), counters: Arc::default() })
    }
}

impl Port for TapPort {
    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        let (device, counters) = (self.device.clone(), self.counters.clone());
        Ok(Box::new(TapCapture { device, counters, buffer: vec![0; BUFFER].into() }))
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        let (device, counters) = (self.device.clone(), self.counters.clone());
        Ok(Box::new(TapInjector { device, counters }))
    }

    fn counters(&self) -> Arc<PortCounters> {
        self.counters.clone()
    }
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
            let read = self.buffer.get_mut(..length).unwrap_or_default();
            let Ok((offload, _)) = virtio::split(read) else {
                add(&self.counters.malformed, 1);
                continue;
            };
            if offload.segmentation.is_some() {
                add(&self.counters.unsegmented, 1);
                continue;
            }
            let frame = read.get_mut(HEADER_LEN..).unwrap_or_default();
            if let Some(ChecksumRequest { start, offset }) = offload.checksum
                && complete_checksum(frame, start.into(), offset.into()).is_err()
            {
                add(&self.counters.malformed, 1);
                continue;
            }
            add(&self.counters.captured, 1);
            each(Frame::plain(frame));
        }
        Ok(More::Likely)
    }
}

struct TapInjector {
    device: Arc<File>,
    counters: Arc<PortCounters>,
}

impl Inject for TapInjector {
    fn inject(&mut self, frame: Frame<'_>) {
        let header = virtio::encode(&frame);
        match sys::tap::write(self.device.as_fd(), &header, frame.bytes) {
            Ok(_) => add(&self.counters.injected, 1),
            Err(_) => add(&self.counters.inject_errors, 1),
        }
    }
}
