//! A port without a device: the test takes the place of the bridge.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weave_core::switch::{Frame, Inject};

use crate::sys::event::Event;
use crate::virtio;
use crate::{Capture, More, Offloads, Port, PortCounters};

/// Frames that one call of [`Capture::capture`] hands over at most.
const BATCH: usize = 32;

/// Frames that wait in one direction at most. Further ones are dropped, as a device would.
const QUEUE: usize = 1024;

/// A port that exchanges frames with a [`MemoryHost`].
#[derive(Debug)]
pub struct MemoryPort(Arc<Shared>);

/// The other side of a [`MemoryPort`].
#[derive(Debug)]
pub struct MemoryHost(Arc<Shared>);

/// Length of the longest frame, with its virtio-net header.
const LONGEST: usize = virtio::HEADER_LEN + (1 << 16) + 64;

#[derive(Debug)]
struct Shared {
    to_capture: Mutex<Queue>,
    captured: Event,
    injected: Mutex<Queue>,
    arrived: Condvar,
    gone: std::sync::atomic::AtomicBool,
    counters: Arc<PortCounters>,
}

/// Frames behind their virtio-net headers, and used buffers that await the next frames.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Queue {
    fn push(&mut self, frame: &Frame<'_>) -> bool {
        if self.waiting.len() == QUEUE {
            return false;
        }
        // Buffers have room for super-frames from the start, so that they need not grow one by one.
        let mut place = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(LONGEST));
        place.clear();
        place.extend_from_slice(&virtio::encode(frame));
        place.extend_from_slice(frame.bytes);
        self.waiting.push_back(place);
        true
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryPort {
    /// Creates a port and its host.
    ///
    /// # Errors
    /// The process has too many open files.
    pub fn new() -> io::Result<(Self, MemoryHost)> {
        let shared = Arc::new(Shared {
            to_capture: Mutex::default(),
            captured: Event::new()?,
            injected: Mutex::default(),
            arrived: Condvar::new(),
            gone: false.into(),
            counters: Arc::default(),
        });
        Ok((Self(shared.clone()), MemoryHost(shared)))
    }
}

impl MemoryHost {
    /// Sends an ordinary frame to the port and returns whether its queue had room.
    pub fn send(&self, frame: &[u8]) -> bool {
        self.send_frame(Frame::plain(frame))
    }

    /// Sends a frame that may be unfinished, such as a super-frame, and returns whether the queue
    /// had room.
    pub fn send_frame(&self, frame: Frame<'_>) -> bool {
        let sent = lock(&self.0.to_capture).push(&frame);
        self.0.captured.raise();
        sent
    }

    /// Waits up to `patience` for the next injected frame, copies its bytes to `buffer` and returns
    /// whether there was one.
    pub fn receive(&self, patience: Duration, buffer: &mut Vec<u8>) -> bool {
        let received = self.receive_with_header(patience, buffer);
        if received {
            buffer.drain(..virtio::HEADER_LEN);
        }
        received
    }

    /// Does the same, but keeps the virtio-net header in front, as a device would; see
    /// [`virtio::frame`].
    pub fn receive_with_header(&self, patience: Duration, buffer: &mut Vec<u8>) -> bool {
        let queue = lock(&self.0.injected);
        let (mut queue, _) = self
            .0
            .arrived
            .wait_timeout_while(queue, patience, |queue| queue.waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let Some(frame) = queue.waiting.pop_front() else { return false };
        buffer.clear();
        buffer.extend_from_slice(&frame);
        queue.spare.push(frame);
        true
    }

    /// Removes the device: every later capture fails.
    pub fn unplug(&self) {
        self.0.gone.store(true, std::sync::atomic::Ordering::Release);
        self.0.captured.raise();
    }
}

impl Port for MemoryPort {
    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        Ok(Box::new(MemoryCapture { shared: self.0.clone(), batch: Vec::with_capacity(BATCH) }))
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        Ok(Box::new(MemoryInjector(self.0.clone())))
    }

    fn offloads(&self) -> Offloads {
        Offloads::default()
    }

    fn counters(&self) -> Arc<PortCounters> {
        self.0.counters.clone()
    }
}

struct MemoryCapture {
    shared: Arc<Shared>,
    batch: Vec<Vec<u8>>,
}

impl Capture for MemoryCapture {
    fn readiness(&self) -> BorrowedFd<'_> {
        self.shared.captured.as_fd()
    }

    fn capture(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> io::Result<More> {
        if self.shared.gone.load(std::sync::atomic::Ordering::Acquire) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let mut queue = lock(&self.shared.to_capture);
        let count = queue.waiting.len().min(BATCH);
        self.batch.extend(queue.waiting.drain(..count));
        if queue.waiting.is_empty() {
            self.shared.captured.lower();
        }
        drop(queue);
        self.shared.counters.captured.add(count);
        for frame in &self.batch {
            let Ok(frame) = virtio::frame(frame) else {
                self.shared.counters.malformed.add(1);
                continue;
            };
            each(frame);
        }
        lock(&self.shared.to_capture).spare.append(&mut self.batch);
        Ok(if count == BATCH { More::Likely } else { More::No })
    }
}

struct MemoryInjector(Arc<Shared>);

impl Inject for MemoryInjector {
    fn inject(&mut self, frame: Frame<'_>) {
        let taken = lock(&self.0.injected).push(&frame);
        let counters = &self.0.counters;
        if taken { &counters.injected } else { &counters.inject_errors }.add(1);
    }

    fn flush(&mut self) {
        self.0.arrived.notify_all();
    }
}
