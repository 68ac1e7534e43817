//! What every device on the local bridge can do.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use weave_core::switch::{Frame, Inject};

use crate::counters::PortCounters;
use crate::sys::tap::Offloads;

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
