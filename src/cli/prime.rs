//! `weave prime`.

use clap::Args;

use super::failure::Failure;
use super::remote::Remote;

/// Arguments of `weave prime`.
#[derive(Debug, Args)]
pub(super) struct Prime {
    #[command(flatten)]
    remote: Remote,
}

impl Prime {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.remote.ask(async |client| client.patient().get("/ring", "*/*").await.map(drop))
    }
}
