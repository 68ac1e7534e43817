//! `weave forget`.

use clap::Args;

use super::failure::Failure;
use super::remote::Remote;
use super::targets;

/// Arguments of `weave forget`.
#[derive(Debug, Args)]
pub(super) struct Forget {
    /// Peers, written as they were given to `connect` or `launch`.
    #[arg(value_name = "PEER", required = true)]
    peers: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Forget {
    pub(super) fn run(self) -> Result<(), Failure> {
        targets::check(&self.peers)?;
        let fields: Vec<_> = self.peers.iter().map(|peer| ("peer", peer.as_str())).collect();
        self.remote.ask(async |client| client.post("/forget", &fields).await.map(drop))
    }
}
