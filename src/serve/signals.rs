//! SIGINT and SIGTERM stop the router, SIGQUIT asks for its state. SIGHUP, SIGUSR1 and SIGUSR2,
//! which would end a process that does not know them, do nothing.

use std::io;

use tokio::signal::unix::{self, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    /// To stop; the name of the signal.
    Stop(&'static str),
    /// To log the state.
    Dump,
    /// For nothing that there is; its name.
    Unused(&'static str),
}

/// Catches signals from its making on.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    quit: unix::Signal,
    hangup: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for one that stops the router.
    pub(super) async fn stop(&mut self) {
        while !matches!(self.next().await, Signal::Stop(_)) {}
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop("SIGINT"),
            _ = self.terminate.recv() => Signal::Stop("SIGTERM"),
            _ = self.quit.recv() => Signal::Dump,
            _ = self.hangup.recv() => Signal::Unused("SIGHUP"),
            _ = self.user1.recv() => Signal::Unused("SIGUSR1"),
            _ = self.user2.recv() => Signal::Unused("SIGUSR2"),
        }
    }
}
