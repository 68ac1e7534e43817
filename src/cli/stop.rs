//! `weave stop`.

use clap::Args;

use super::failure::Failure;
use super::state_args::StateArgs;
use weave_node::stop_running;

/// Arguments of `weave stop`.
#[derive(Debug, Args)]
pub(super) struct Stop {
    #[command(flatten)]
    state: StateArgs,
}

impl Stop {
    pub(super) fn run(self) -> Result<(), Failure> {
        Ok(stop_running(&self.state.db_prefix)?)
    }
}
