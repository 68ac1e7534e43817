//! `weave rmpeer`.

use clap::Args;

use super::failure::Failure;
use super::output;
use super::remote::Remote;
use weave_api::client;

/// Arguments of `weave rmpeer`.
#[derive(Debug, Args)]
pub(super) struct Rmpeer {
    /// Peers that will never come back, by nickname or name. Their addresses become this peer's;
    /// do it on one host alone.
    #[arg(value_name = "PEER", required = true)]
    peers: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Rmpeer {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.remote.ask(async |client| {
            for peer in &self.peers {
                output::print(&client.delete(&client::path(&["peer", peer])).await?);
            }
            Ok(())
        })
    }
}
