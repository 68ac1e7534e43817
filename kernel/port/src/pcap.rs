//! A port that records its frames in a pcap file.
//!
//! ```text
//!   file    | 4 magic a1b23c4d | 2+2 version 2.4 | 4+4 zero | 4 snap length | 4 link type 1 |
//!   packet  | 4 seconds | 4 nanoseconds | 4 captured length | 4 length | frame ... |
//! ```
//!
//! The format is that of draft-ietf-opsawg-pcap, section 4. Integers are big-endian here; the magic
//! number tells readers so.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weave_core::switch::{Frame, Inject};

use crate::{Capture, More, Offloads, Port, PortCounters};

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];
const SNAP_LENGTH: u32 = 262_144;
const LINK_TYPE_ETHERNET: u32 = 1;

/// A writer of pcap files. Clones write to the same file, and nothing is written after an error.
#[derive(Clone)]
pub struct PcapWriter {
    /// `None` after an error.
    output: Arc<Mutex<Option<Box<dyn Write + Send>>>>,
}

impl PcapWriter {
    /// Creates a writer and writes the header of the file.
    ///
    /// # Errors
    /// The output refuses the header.
    pub fn new(mut output: Box<dyn Write + Send>) -> io::Result<Self> {
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC_NANOSECONDS.to_be_bytes());
        header.extend(VERSION.into_iter().flat_map(u16::to_be_bytes));
        header.extend([0; 8]);
        header.extend(SNAP_LENGTH.to_be_bytes());
        header.extend(LINK_TYPE_ETHERNET.to_be_bytes());
        output.write_all(&header)?;
        Ok(Self { output: Arc::new(Mutex::new(Some(output))) })
    }

    /// Writes a frame that passed at this time since 1970.
    pub fn write(&self, at: Duration, frame: &[u8]) {
        let mut place_of_output = self.lock();
        let Some(output) = &mut *place_of_output else { return };
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).min(SNAP_LENGTH);
        // 32 bits of seconds last until 2106.
        let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        let mut record = [0; 16];
        for (place, field) in record.as_chunks_mut::<4>().0.iter_mut().zip([
            seconds,
            at.subsec_nanos(),
            length,
            u32::try_from(frame.len()).unwrap_or(u32::MAX),
        ]) {
            *place = field.to_be_bytes();
        }
        let written = output
            .write_all(&record)
            .and_then(|()| output.write_all(frame.get(..length as usize).unwrap_or_default()));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write the capture file any more");
            *place_of_output = None;
        }
    }

    /// Writes a frame with the current time.
    fn record(&self, frame: &Frame<'_>) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.write(at, frame.bytes);
    }

    /// Flushes the output. An error occurs again, and is handled, with the next frame.
    fn flush(&self) {
        if let Some(output) = &mut *self.lock() {
            let _ = output.flush();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Write + Send>>> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port whose frames are recorded in both directions.
pub struct RecordedPort<P> {
    inner: P,
    writer: PcapWriter,
}

impl<P: Port> RecordedPort<P> {
    /// Wraps a port.
    pub const fn new(inner: P, writer: PcapWriter) -> Self {
        Self { inner, writer }
    }
}

impl<P: Port> Port for RecordedPort<P> {
    fn queues(&self) -> usize {
        self.inner.queues()
    }

    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        let (inner, writer) = (self.inner.capture()?, self.writer.clone());
        Ok(Box::new(RecordedCapture { inner, writer }))
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        let (inner, writer) = (self.inner.injector()?, self.writer.clone());
        Ok(Box::new(RecordedInjector { inner, writer }))
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn counters(&self) -> Arc<PortCounters> {
        self.inner.counters()
    }
}

struct RecordedCapture {
    inner: Box<dyn Capture>,
    writer: PcapWriter,
}

impl Capture for RecordedCapture {
    fn readiness(&self) -> BorrowedFd<'_> {
        self.inner.readiness()
    }

    fn capture(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> io::Result<More> {
        let writer = &self.writer;
        let more = self.inner.capture(&mut |frame| {
            writer.record(&frame);
            each(frame);
        });
        if more.as_ref().is_ok_and(|more| *more == More::No) {
            writer.flush();
        }
        more
    }
}

struct RecordedInjector {
    inner: Box<dyn Inject + Send>,
    writer: PcapWriter,
}

impl Inject for RecordedInjector {
    fn inject(&mut self, frame: Frame<'_>) {
        self.writer.record(&frame);
        self.inner.inject(frame);
    }

    fn flush(&mut self) {
        self.inner.flush();
        self.writer.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.0.lock().unwrap();
            if written.len() > 100 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            written.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_file_follows_the_format() {
        let output = Output::default();
        let writer = PcapWriter::new(Box::new(output.clone())).unwrap();
        writer.write(Duration::new(0x0102, 3), &[9; 14]);
        let expected = "a1b23c4d000200040000000000000000000400000000000100000102000000030000000e\
                        0000000e0909090909090909090909090909";
        assert_eq!(hex::encode(&*output.0.lock().unwrap()), expected);
    }

    #[test]
    fn a_full_disk_ends_the_recording_and_nothing_else() {
        let output = Output::default();
        let writer = PcapWriter::new(Box::new(output.clone())).unwrap();
        for _ in 0..10 {
            writer.write(Duration::ZERO, &[9; 60]);
        }
        assert_eq!(output.0.lock().unwrap().len(), 24 + 16 + 60 + 16);
    }
}
