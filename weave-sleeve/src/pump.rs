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
        Self::start("capture", move |stop| {
            let ended = stop.until_asked(|stop| {
                let more = {
                    let mut pass = worker.pass(clock.now(), &mut *injector);
                    capture.capture(&mut |frame| pass.captured(frame))?
                };
                if more == More::No {
                    wait([capture.readiness(), stop])?;
                }
                Ok(())
            });
            if let Err(error) = ended {
                gone(error);
            }
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
        Self::start("receive", move |stop| {
            let ended = stop.until_asked(|stop| {
                let more = {
                    let mut pass = worker.pass(clock.now(), &mut *injector);
                    receiver.receive(|arrival, frame| pass.received(arrival, frame))
                };
                if more == More::No {
                    wait([receiver.readiness(), stop])?;
                }
                Ok(())
            });
            if let Err(error) = ended {
                gone(error);
            }
        })
    }

    fn start(name: &str, body: impl FnOnce(&Stop) + Send + 'static) -> io::Result<Self> {
        let stop = Arc::new(Stop { asked: AtomicBool::new(false), event: Event::new()? });
        let inner = stop.clone();
        let thread = Builder::new().name(name.to_owned()).spawn(move || body(&inner))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Stop {
    fn until_asked(
        &self,
        mut turn: impl FnMut(std::os::fd::BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        use std::os::fd::AsFd;
        while !self.asked.load(Ordering::Relaxed) {
            turn(self.event.as_fd())?;
        }
        Ok(())
    }
}

impl Drop for DataThread {
    fn drop(&mut self) {
        self.stop.asked.store(true, Ordering::Relaxed);
        self.stop.event.raise();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a data thread panicked");
        }
    }
}
