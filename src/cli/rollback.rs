//! `weave rollback`.

use clap::Args;

use super::bridge_name;
use super::failure::Failure;
use super::output;
use super::state_args::StateArgs;

/// Arguments of `weave rollback`.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The bridge, which stays.
    #[arg(long, default_value = weave_host::BRIDGE_NAME, value_name = "NAME")]
    #[arg(value_parser = bridge_name::parse)]
    weave_bridge: String,
    #[command(flatten)]
    state: StateArgs,
}

impl Rollback {
    pub(super) fn run(self) -> Result<(), Failure> {
        for line in weave_node::go_back(&self.state.db_prefix, &self.weave_bridge)? {
            output::print(&format!("{line}\n"));
        }
        Ok(())
    }
}
