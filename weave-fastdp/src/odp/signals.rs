//! The signals between the threads of the engine.
//!
//! ```text
//!   routes, stations, ports change ── invalidate ──▶ generation, stale, wakeup ──▶ revalidator
//!   no room for a flow ── report_full_table ──────────▶ full, wakeup ────────────▶ revalidator
//!   the engine is dropped ── stop ────────────────────────────────────────────────▶ all threads
//! ```

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// The signals between the threads of one engine.
pub(super) struct Signals {
    /// Changes whenever plans may have changed: a plan of an earlier generation makes no flow.
    generation: AtomicU64,
    stale: AtomicBool,
    full: AtomicBool,
    wakeup: EventFd,
    stop: EventFd,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        Ok(Self {
            generation: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            full: AtomicBool::new(false),
            wakeup: event()?,
            stop: event()?,
        })
    }

    /// Returns the generation. It is read before anything that a plan depends on.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Says that flows may have to change.
    pub(super) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.stale.store(true, Ordering::Release);
        self.wake();
    }

    /// Returns whether flows may have to change.
    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Returns whether flows may have to change, and clears that.
    pub(super) fn take_stale(&self) -> bool {
        self.stale.swap(false, Ordering::AcqRel)
    }

    /// Says that there is no room for a new flow.
    pub(super) fn report_full_table(&self) {
        if !self.full.swap(true, Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Returns whether there was no room for a new flow since [`Self::clear_full_table`].
    pub(super) fn is_table_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Says that unused flows were deleted.
    pub(super) fn clear_full_table(&self) {
        self.full.store(false, Ordering::Relaxed);
    }

    fn wake(&self) {
        // Fails only after 2^64 wakeups that were not read.
        let _ = self.wakeup.write(1);
    }

    /// Returns the descriptor that is readable when the revalidator has something to do.
    pub(super) fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }

    /// Makes [`Self::wakeup`] unreadable again.
    pub(super) fn clear_wakeup(&self) {
        // Fails if there is nothing to read, which is as good.
        let _ = self.wakeup.read();
    }

    /// Tells all threads to stop.
    ///
    /// # Errors
    /// Fails if they cannot be told.
    pub(super) fn stop(&self) -> io::Result<()> {
        self.stop.write(1).map(drop).map_err(io::Error::from)
    }

    /// Waits until one of the sources is readable or the limit is over. Returns `false` if the
    /// thread is to stop.
    ///
    /// # Errors
    /// Fails if the descriptors cannot be polled.
    pub(super) fn wait(
        &self,
        sources: &[BorrowedFd<'_>],
        limit: Option<Duration>,
    ) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        fds.extend(sources.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
        let timeout = limit.map_or(PollTimeout::NONE, |limit| {
            let milliseconds = i32::try_from(limit.as_millis() + 1).unwrap_or(i32::MAX);
            PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let stopping = fds.first().and_then(PollFd::any).unwrap_or(false);
        Ok(!stopping)
    }
}
