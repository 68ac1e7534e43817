//! `weave kube stay`: nothing, until told to stop.

use clap::Args;
use nix::sys::signal::{SigSet, Signal};

use crate::error::CommandError;

/// Does nothing until told to stop: for pods of a DaemonSet whose work is done.
#[derive(Debug, Args)]
pub(crate) struct Stay {}

impl Stay {
    /// Waits. The first process of a container is sent no signal that it does not ask for.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn run(self) -> Result<(), CommandError> {
        let end = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        let waited = end.thread_block().and_then(|()| end.wait());
        waited.map(drop).map_err(|error| CommandError::Failed(format!("cannot wait: {error}")))
    }
}
