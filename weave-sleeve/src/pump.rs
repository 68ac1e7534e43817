//! The data threads.
//!
//! ```text
//!   a queue of the port ──▶ switch ──▶ links
//!   a UDP socket ──▶ links ──▶ switch ──▶ the queue of the port, or links again
//! ```
//!
//! Each thread has a queue of the port and a socket of its own, and serves both. It takes what is
//! there in one system call, carries all of it out, and waits when there is nothing. After warm-up
//! a frame costs no allocation.
//!
//! Which thread serves a neighbour is decided by the name of the neighbour, and the kernel hands
//! frames of a flow to the queue into which the other direction of the flow was written, so that
//! a flow stays with one thread, and a busy neighbour delays only those it shares the thread with.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use weave_core::switch::{Frame, Inject, Worker};

use crate::clock::Clock;
use crate::receiver::Receiver;
use weave_port::sys::event::{Event, wait};
use weave_port::{Capture, More};

/// Why a data thread ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The device is gone; another one can be made.
    #[error("{0}")]
    Port(io::Error),
    /// Nothing can be done about it.
    #[error("{0}")]
    Thread(io::Error),
}

/// Which sides have something to take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ready {
    port: bool,
    socket: bool,
}

impl Ready {
    const BOTH: Self = Self { port: true, socket: true };
    const NEITHER: Self = Self { port: false, socket: false };
}

/// A thread that moves frames. Dropping it stops the thread and waits for its end.
#[derive(Debug)]
pub struct DataThread {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Stop {
    asked: AtomicBool,
    event: Event,
}

impl DataThread {
    /// Takes in frames from both sides and passes them to the switch; `capture` is none if there
    /// is no device. If the thread cannot go on, it ends and calls `gone` with the reason.
    ///
    /// # Errors
    /// The process has too many threads or open files.
    pub fn serving(
        mut worker: Worker,
        mut capture: Option<Box<dyn Capture>>,
        mut receiver: Receiver,
        mut injector: Box<dyn Inject + Send>,
        clock: Clock,
        gone: impl FnOnce(Lost) + Send + 'static,
    ) -> io::Result<Self> {
        let mut ready = Ready::BOTH;
        Self::start("data", gone, move |stop| {
            let mut more = Ready::NEITHER;
            {
                let mut pass = worker.pass(clock.now(), &mut *injector);
                if let Some(capture) = &mut capture
                    && ready.port
                {
                    let each = &mut |frame: Frame<'_>| pass.captured(frame);
                    more.port = capture.capture(each).map_err(Lost::Port)? == More::Likely;
                }
                if ready.socket {
                    let each = |arrival, frame: Frame<'_>| pass.received(arrival, frame);
                    more.socket = receiver.receive(each) == More::Likely;
                }
            }
            // One side that never runs dry must not keep the other one waiting.
            ready = Ready::BOTH;
            if more == Ready::NEITHER {
                let port = capture.as_ref().map_or(stop, |capture| capture.readiness());
                let [port, socket, _] =
                    wait([port, receiver.readiness(), stop]).map_err(Lost::Thread)?;
                ready = Ready { port, socket };
            }
            Ok(())
        })
    }

    /// Takes turns until it is asked to stop or a turn fails. A turn gets what becomes readable
    /// when the stop is asked for.
    fn start(
        name: &str,
        gone: impl FnOnce(Lost) + Send + 'static,
        mut turn: impl FnMut(BorrowedFd<'_>) -> Result<(), Lost> + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(Stop { asked: AtomicBool::new(false), event: Event::new()? });
        let inner = stop.clone();
        let body = move || {
            let mut turns = || {
                while !inner.asked.load(Ordering::Relaxed) {
                    turn(inner.event.as_fd())?;
                }
                Ok(())
            };
            // Whatever went wrong, nothing that the closure holds is used again. A router whose
            // frames stopped without a word would be worse than one that ends.
            let ended = catch_unwind(AssertUnwindSafe(&mut turns)).unwrap_or_else(|_| {
                Err(Lost::Thread(io::Error::other("a mistake in the program")))
            });
            if let Err(error) = ended {
                gone(error);
            }
        };
        let thread = Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for DataThread {
    fn drop(&mut self) {
        self.stop.asked.store(true, Ordering::Relaxed);
        self.stop.event.raise();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a data thread panicked while it told of its end");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_that_waits_is_woken_to_stop() {
        let (started, wait_for_start) = channel();
        let thread = DataThread::start(
            "test",
            |error| panic!("{error}"),
            move |stop| {
                started.send(()).unwrap();
                wait([stop, stop]).map(drop).map_err(Lost::Thread)
            },
        );
        wait_for_start.recv().unwrap();
        drop(thread.unwrap());
        assert!(wait_for_start.recv().is_err(), "it has ended");
    }

    #[test]
    fn an_error_and_a_panic_are_told_once() {
        for panics in [false, true] {
            let (told, tell) = channel();
            let gone = move |lost: Lost| told.send(lost.to_string()).unwrap();
            let thread = DataThread::start("test", gone, move |_| {
                assert!(!panics, "a mistake, on purpose");
                Err(Lost::Port(io::ErrorKind::NotFound.into()))
            });
            assert!(tell.recv().is_ok());
            assert!(tell.recv().is_err());
            drop(thread.unwrap());
        }
    }
}
