//! Waiting for a netlink socket in the reactor of tokio.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weave_rtnl::Monitor;

/// A monitor that tokio can wait for.
pub(crate) struct Readable(pub(crate) Monitor);

impl AsRawFd for Readable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Has the runtime of this task watch a monitor.
pub(crate) fn watch(monitor: Monitor) -> io::Result<AsyncFd<Readable>> {
    // SAFETY: a monitor owns its socket and never replaces it, and is dropped with the `AsyncFd`.
    let watched = unsafe { AsyncFd::register_with_interest(Readable(monitor), Interest::READABLE) };
    watched.map_err(io::Error::from)
}
