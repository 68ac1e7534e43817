//! The thread that installs keys, and the handles by which links give it commands.

use std::sync::mpsc::{self, RecvTimeoutError, SendError, Sender};

use weave_core::mesh::ConnectionId;
use weave_core::time::Instant;
use weave_xfrm::Spi;

use super::error::IpsecError;
use super::installer::{Installer, Kernel};
use super::key_exchange::KeyCommand;
use super::rules::TunnelEnds;

/// A command to the thread.
pub(super) enum WorkerCommand {
    Install { id: ConnectionId, ends: TunnelEnds, command: KeyCommand, done: OnDone },
    Close { id: ConnectionId },
    Stop,
}

/// A function that is called with the outcome of a command, on the thread.
type OnDone = Box<dyn FnOnce(KeyOutcome) + Send>;

/// The outcome of a command about a key.
#[derive(Debug)]
pub enum KeyOutcome {
    /// The kernel receives with the key, under this SPI.
    Receiving(Spi),
    /// The kernel encrypts with the key.
    Sending,
    /// The kernel does not receive with the key. The key before is still installed.
    NotReceiving(IpsecError),
    /// The kernel does not encrypt with the key.
    NotSending(IpsecError),
}

/// The handle of one connection to the thread. Dropping it closes the tunnel.
pub(super) struct WorkerHandle {
    pub(super) commands: Sender<WorkerCommand>,
    pub(super) id: ConnectionId,
    pub(super) ends: TunnelEnds,
}

impl WorkerHandle {
    /// Gives the thread a command about a key. `done` is called with the outcome.
    pub(super) fn install(
        &self,
        command: KeyCommand,
        done: impl FnOnce(KeyOutcome) + Send + 'static,
    ) {
        let (id, ends, done) = (self.id, self.ends, Box::new(done));
        let command = WorkerCommand::Install { id, ends, command, done };
        if let Err(SendError(WorkerCommand::Install { done, .. })) = self.commands.send(command) {
            done(KeyOutcome::NotSending(IpsecError::ThreadEnded));
        }
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        // Without the thread there is nothing to close.
        let _ = self.commands.send(WorkerCommand::Close { id: self.id });
    }
}

/// Carries out commands until it is told to stop.
pub(super) fn run<K: Kernel>(
    mut installer: Installer<K>,
    commands: &mpsc::Receiver<WorkerCommand>,
    clock: impl Fn() -> Instant,
) {
    loop {
        let wait = installer.poll_timeout().saturating_since(clock());
        match commands.recv_timeout(wait) {
            Ok(WorkerCommand::Install { id, ends, command, done }) => {
                let outcome = match command {
                    KeyCommand::Receive { key } => installer
                        .receive(clock(), id, ends, &key)
                        .map_or_else(KeyOutcome::NotReceiving, KeyOutcome::Receiving),
                    KeyCommand::Send { spi, key } => installer
                        .send(id, ends, spi, key)
                        .map_or_else(KeyOutcome::NotSending, |()| KeyOutcome::Sending),
                };
                if matches!(outcome, KeyOutcome::NotReceiving(_) | KeyOutcome::NotSending(_)) {
                    installer.key_stats.lock().failures += 1;
                }
                done(outcome);
            }
            Ok(WorkerCommand::Close { id }) => installer.close(clock(), id),
            Err(RecvTimeoutError::Timeout) => installer.handle_timeout(clock()),
            Ok(WorkerCommand::Stop) => return installer.stop(clock()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
