//! The data threads.
//!
//! ```text
//!   a queue of the port ──▶ switch ──▶ links
//!   a UDP socket ──▶ links ──▶ switch ──▶ the queue of the port, or links again
//! ```
//!
//! Each thread serves a queue of the port and a socket of its own. It takes a batch in one system
//! call, forwards all of it, and waits when nothing is left. After warm-up a frame costs no
//! allocation.
//!
//! The name of a neighbour decides which thread serves it, and the kernel delivers the frames of a
//! flow to the queue that the other direction of the flow was written to. So a flow stays with one
//! thread, and a busy neighbour delays only those that share its thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use weave_core::switch::{Frame, Inject, Worker};
use weave_port::sys::event::{Event, wait};
use weave_port::{Capture, More};

use crate::receiver::Receiver;
use weave_core::time::Clock;

/// The reason why a data thread ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DataThreadError {
    /// The device is gone. Another one can be created.
    #[error("{0}")]
    Port(io::Error),
    /// The thread cannot go on.
    #[error("{0}")]
    Thread(io::Error),
}

/// The sides that have something to read.
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
    requested: AtomicBool,
    event: Event,
}

impl DataThread {
    /// Starts a thread that passes the frames of both sides to the switch; `capture` is `None` if
    /// there is no device. A thread that cannot go on ends and calls `on_end` with the reason.
    ///
    /// # Errors
    /// The process has too many threads or open files.
    pub fn spawn(
        mut worker: Worker,
        mut capture: Option<Box<dyn Capture>>,
        mut receiver: Receiver,
        mut injector: Box<dyn Inject + Send>,
        clock: Clock,
        on_end: impl FnOnce(DataThreadError) + Send + 'static,
    ) -> io::Result<Self> {
        let mut ready = Ready::BOTH;
        Self::start("data", on_end, move |stop| {
            let mut more = Ready::NEITHER;
            {
                let mut pass = worker.pass(clock.now(), &mut *injector);
                if let Some(capture) = &mut capture
                    && ready.port
                {
                    let each = &mut |frame: Frame<'_>| pass.captured(frame);
                    more.port =
                        capture.capture(each).map_err(DataThreadError::Port)? == More::Likely;
                }
                if ready.socket {
                    let each = |arrival, frame: Frame<'_>| pass.received(arrival, frame);
                    more.socket = receiver.receive(each) == More::Likely;
                }
            }
            // A side that never runs dry must not starve the other one.
            ready = Ready::BOTH;
            if more == Ready::NEITHER {
                let port = capture.as_ref().map_or(stop, |capture| capture.readiness());
                let [port, socket, _] =
                    wait([port, receiver.readiness(), stop]).map_err(DataThreadError::Thread)?;
                ready = Ready { port, socket };
            }
            Ok(())
        })
    }

    /// Starts a thread that takes turns until it is told to stop or a turn fails. A turn gets a
    /// descriptor that becomes readable when the thread is to stop.
    fn start(
        name: &str,
        on_end: impl FnOnce(DataThreadError) + Send + 'static,
        mut turn: impl FnMut(BorrowedFd<'_>) -> Result<(), DataThreadError> + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(Stop { requested: AtomicBool::new(false), event: Event::new()? });
        let inner = stop.clone();
        let body = move || {
            let mut turns = || {
                while !inner.requested.load(Ordering::Relaxed) {
                    turn(inner.event.as_fd())?;
                }
                Ok(())
            };
            // Nothing that the closure holds is used after a panic. A router that silently stopped
            // forwarding would be worse than one that ends.
            let ended = catch_unwind(AssertUnwindSafe(&mut turns)).unwrap_or_else(|_| {
                Err(DataThreadError::Thread(io::Error::other(
                    "a data thread panicked, which is a bug",
                )))
            });
            if let Err(error) = ended {
                on_end(error);
            }
        };
        let thread = Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for DataThread {
    fn drop(&mut self) {
        self.stop.requested.store(true, Ordering::Relaxed);
        self.stop.event.raise();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a data thread panicked while it reported its end");
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
                wait([stop, stop]).map(drop).map_err(DataThreadError::Thread)
            },
        );
        wait_for_start.recv().unwrap();
        drop(thread.unwrap());
        assert!(wait_for_start.recv().is_err(), "it has ended");
    }

    #[test]
    fn an_error_and_a_panic_are_reported_once() {
        for panics in [false, true] {
            let (sender, ended) = channel();
            let on_end = move |lost: DataThreadError| sender.send(lost.to_string()).unwrap();
            let thread = DataThread::start("test", on_end, move |_| {
                assert!(!panics, "on purpose");
                Err(DataThreadError::Port(io::ErrorKind::NotFound.into()))
            });
            assert!(ended.recv().is_ok());
            assert!(ended.recv().is_err());
            drop(thread.unwrap());
        }
    }
}
