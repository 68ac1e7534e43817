//! Telling who started the router that it does its work.

use std::fs::File;
use std::io::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The line on standard output for `weave launch`.
pub(crate) const READY_LINE: &str = "ready";

/// Whom to tell.
#[derive(Debug)]
pub(crate) struct Readiness {
    /// `weave launch` waits at the other end of our standard output.
    launcher: bool,
}

impl Readiness {
    /// Tells `weave launch` if it is our parent, and systemd if it asks for it.
    pub(crate) const fn new(launcher: bool) -> Self {
        Self { launcher }
    }

    /// The router does its work.
    pub(crate) fn ready(&self) {
        systemd("READY=1");
        if self.launcher {
            let told = writeln!(std::io::stdout(), "{READY_LINE}");
            // The launcher waits for the end of the pipe, too.
            let silenced = File::options()
                .write(true)
                .open("/dev/null")
                .and_then(|null| Ok(nix::unistd::dup2_stdout(null)?));
            if let Err(error) = told.and(silenced) {
                tracing::warn!(%error, "the launcher was not told");
            }
        }
    }

    /// The router is about to end.
    pub(crate) fn stopping(&self) {
        systemd("STOPPING=1");
    }
}

/// sd_notify(3): a datagram to the socket that the environment names.
fn systemd(message: &str) {
    let Some(name) = std::env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty()) else {
        return;
    };
    let send = || {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)
    };
    if let Err(error) = send() {
        tracing::debug!(%error, "service manager not notified");
    }
}
