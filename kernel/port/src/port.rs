//! The traits that every device on the local bridge implements.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use weave_core::switch::{Frame, Inject};

use crate::counters::PortCounters;
use crate::sys::tap::Offloads;

/// A device on the local bridge.
pub trait Port: Send {
    /// Returns how many threads can capture frames, each from a queue of its own.
    fn queues(&self) -> usize {
        1
    }

    /// Opens the next queue, for one thread that captures frames from the bridge.
    ///
    /// # Errors
    /// All queues are taken, the device is gone, or this process may not use it.
    fn capture(&mut self) -> io::Result<Box<dyn Capture>>;

    /// Opens an injector, for one thread that sends frames to the bridge. A thread opens it after
    /// its queue: replies to what it injects then arrive in that queue.
    ///
    /// # Errors
    /// The device is gone, or this process may not use it.
    fn injector(&self) -> io::Result<Box<dyn Inject + Send>>;

    /// Returns the work that the device leaves to this side, for the status.
    fn offloads(&self) -> Offloads;

    /// Returns the counters of the port.
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

/// The half of a port that captures frames from the bridge.
pub trait Capture: Send {
    /// Returns a descriptor that is readable when [`Self::capture`] has something to do.
    fn readiness(&self) -> BorrowedFd<'_>;

    /// Passes the frames at hand to `each`, up to a batch, without waiting.
    ///
    /// # Errors
    /// The device is gone for good. All other errors are counted.
    fn capture(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> io::Result<More>;
}

/// Whether another attempt without waiting is worthwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum More {
    /// The batch was full.
    Likely,
    /// The queue is empty.
    No,
}
