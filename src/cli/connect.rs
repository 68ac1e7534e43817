//! `weave connect`.

use clap::Args;

use super::failure::Failure;
use super::remote::Remote;
use super::targets;

/// Arguments of `weave connect`.
#[derive(Debug, Args)]
pub(super) struct Connect {
    /// Forget the peers that were given before.
    #[arg(long)]
    replace: bool,
    /// Addresses or host names, each with an optional port.
    #[arg(value_name = "PEER", required_unless_present = "replace")]
    peers: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Connect {
    pub(super) fn run(self) -> Result<(), Failure> {
        targets::check(&self.peers)?;
        let mut fields: Vec<_> = self.peers.iter().map(|peer| ("peer", peer.as_str())).collect();
        if self.replace {
            fields.push(("replace", "true"));
        }
        self.remote.ask(async |client| client.post("/connect", &fields).await.map(drop))
    }
}
