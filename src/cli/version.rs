//! `weave version`.

use clap::Args;

use super::failure::Failure;
use super::output;
use super::remote::Remote;
use weave_api::client::{ClientError, with_query};
use weave_node::VERSION;

/// Arguments of `weave version`.
#[derive(Debug, Args)]
pub(super) struct Version {
    #[command(flatten)]
    remote: Remote,
}

impl Version {
    pub(super) fn run(self) -> Result<(), Failure> {
        output::print(&format!("weave {VERSION}\n"));
        let path = with_query("/report", "format", "{{.Version}}");
        let running = self.remote.ask(async |client| match client.get(&path, "*/*").await {
            Ok(version) => Ok(Some(version)),
            Err(ClientError::NotRunning { .. }) => Ok(None),
            Err(error) => Err(error),
        })?;
        if let Some(version) = running {
            output::print(&format!("weave router {version}\n"));
        }
        Ok(())
    }
}
