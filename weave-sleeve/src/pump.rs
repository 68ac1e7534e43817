//! The data threads.
//!
//! ```text
//!   capturing:  port ──▶ switch ──▶ links
//!   receiving:  UDP socket ──▶ links ──▶ switch ──▶ port, or links again
//! ```
//!
//! Each takes what is there in one system call, carries all of it out, and waits when there is
//! nothing. After warm-up a frame costs no allocation.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use weave_core::switch::{Inject, Worker};

use crate::clock::Clock;
use crate::port::{Capture, More};
use crate::receiver::Receiver;
use crate::sys::event::{Event, wait};

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
    /// Captures frames and passes them to the switch. If the device goes away, the thread ends
    /// and calls `gone` with the reason.
    ///
    /// # Errors
    /// The process has too many threads or open files.
    pub fn capturing(
        mut worker: Worker,
        mut capture: Box<dyn Capture>,
        mut injector: Box<dyn Inject + Send>,
        clock: Clock,
        gone: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start("capture", gone, move |stop| {
            let more = {
                let mut pass = worker.pass(clock.now(), &mut *injector);
                capture.capture(&mut |frame| pass.captured(frame))?
            };
            if more == More::No {
                wait([capture.readiness(), stop])?;
            }
            Ok(())
        })
    }

    /// Takes in datagrams and passes their frames to the switch. If the socket cannot be waited
    /// for, the thread ends and calls `gone` with the reason.
    ///
    /// # Errors
    /// The process has too many threads or open files.
    pub fn receiving(
        mut worker: Worker,
        mut receiver: Receiver,
        mut injector: Box<dyn Inject + Send>,
        clock: Clock,
        gone: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start("receive", gone, move |stop| {
            let more = {
                let mut pass = worker.pass(clock.now(), &mut *injector);
                receiver.receive(|arrival, frame| pass.received(arrival, frame))
            };
            if more == More::No {
                wait([receiver.readiness(), stop])?;
            }
            Ok(())
        })
    }

    /// Takes turns until it is asked to stop or a turn fails. A turn gets what becomes readable
    /// when the stop is asked for.
    fn start(
        name: &str,
        gone: impl FnOnce(io::Error) + Send + 'static,
        mut turn: impl FnMut(BorrowedFd<'_>) -> io::Result<()> + Send + 'static,
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
            let ended = catch_unwind(AssertUnwindSafe(&mut turns))
                .unwrap_or_else(|_| Err(io::Error::other("a mistake in the program")));
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
                wait([stop, stop]).map(drop)
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
            let gone = move |error: io::Error| told.send(error.to_string()).unwrap();
            let thread = DataThread::start("test", gone, move |_| {
                assert!(!panics, "a mistake, on purpose");
                Err(io::ErrorKind::NotFound.into())
            });
            assert!(tell.recv().is_ok());
            assert!(tell.recv().is_err());
            drop(thread.unwrap());
        }
    }
}
