//! `weave accept`.

use clap::Args;

use super::failure::Failure;
use super::output;
use super::remote::Remote;
use weave_api::client;

/// Arguments of `weave accept`.
#[derive(Debug, Args)]
pub(super) struct Accept {
    /// Peers, by nickname or name, that `weave status ipam` shows in conflict with this one. They
    /// are right from now on: this peer gives up what they claim, but for addresses in use here.
    #[arg(value_name = "PEER", required = true)]
    peers: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Accept {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.remote.ask(async |client| {
            for peer in &self.peers {
                output::print(&client.put(&client::path(&["ring", peer])).await?);
            }
            Ok(())
        })
    }
}
