//! `weave reset`.

use std::fs;
use std::io;
use std::time::Duration;

use clap::Args;

use super::bridge_name;
use super::failure::Failure;
use super::output;
use super::remote::Remote;
use super::state_args::StateArgs;
use weave_api::client::{self, ClientError};
use weave_node::{
    InstanceError, data_file, in_memory, log_file, pid_file, stop_running, was_killed,
};

/// How long the router goes on after it told to whom its addresses go. Nobody confirms that he
/// heard it, and a connection that ends with something unread takes what was sent before with it.
const HANDING_OVER: Duration = Duration::from_secs(1);

/// Arguments of `weave reset`.
#[derive(Debug, Args)]
pub(super) struct Reset {
    /// Go on with the rest when a step fails.
    #[arg(long)]
    force: bool,
    /// The bridge to remove.
    #[arg(long, default_value = weave_host::BRIDGE_NAME, value_name = "NAME")]
    #[arg(value_parser = bridge_name::parse)]
    weave_bridge: String,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    remote: Remote,
}

impl Reset {
    pub(super) fn run(self) -> Result<(), Failure> {
        // While there is somebody to hand them to.
        let bridge = weave_host::interface_peer_name(&self.weave_bridge)?;
        let handed_over = match self.remote.try_ask(async |client| {
            let path = client::with_query("/report", "format", "{{.Router.Name}}");
            let router = client.get(&path, "*/*").await?;
            // Another router on this host keeps what it has.
            if bridge.is_some_and(|name| name.to_string() == router) {
                client.delete("/peer").await?;
                tokio::time::sleep(HANDING_OVER).await;
            }
            Ok(())
        })? {
            Ok(()) | Err(ClientError::NotRunning { .. } | ClientError::NotFound(_)) => Ok(()),
            Err(ClientError::Broken { .. }) if was_killed(&self.state.db_prefix) => Ok(()),
            Err(error) => Err(Failure::failed(format!(
                "the addresses of this peer are not handed over: {error}"
            ))),
        };
        self.step(handed_over)?;
        let stopped = match stop_running(&self.state.db_prefix) {
            Ok(()) | Err(InstanceError::NotRunning(_)) => Ok(()),
            Err(error) => Err(error.into()),
        };
        self.step(stopped)?;
        let claim = weave_host::BridgeClaim::acquire(&self.weave_bridge);
        self.step(claim.map(drop).map_err(Failure::from))?;
        let devices = weave_fastdp::vxlan::remove_leftovers(&self.weave_bridge);
        self.step(devices.map_err(|error| Failure::failed(error.to_string())))?;
        let removed = weave_host::reset(&self.weave_bridge).map_err(Failure::from);
        self.step(removed.map(|names| {
            if !names.is_empty() {
                output::print(&format!("removed {}\n", names.join(", ")));
            }
        }))?;
        // After all that it sealed. Another router on this host keeps what it has.
        let keys = weave_fastdp::ipsec::remove_leftovers(None);
        self.step(keys.map_err(|error| Failure::failed(error.to_string())))?;
        let rules = weave_host::remove_rules(&self.weave_bridge).map_err(Failure::from);
        self.step(rules.map(|backends| {
            for backend in backends {
                output::print(&format!("removed the rules in {backend}\n"));
            }
        }))?;
        let prefix = &self.state.db_prefix;
        let files = [data_file(prefix), log_file(prefix), pid_file(prefix)];
        let elsewhere = [log_file(prefix), pid_file(prefix)].map(|path| in_memory(&path));
        for path in files.into_iter().chain(elsewhere) {
            self.step(match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Failure::failed(format!("cannot remove {}: {error}", path.display())))
                }
                _ => Ok(()),
            })?;
        }
        Ok(())
    }

    fn step(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        match result {
            Err(Failure::Failed(text)) if self.force => {
                output::complain(&format!("weave: {text}"));
                Ok(())
            }
            result => result,
        }
    }
}
