//! `weave npc`.

use super::failure::Failure;
use super::output;
use crate::log;
use weave_node::VERSION;
use weave_npc::{CommandError, Npc};

pub(super) fn run(command: Npc) -> Result<(), Failure> {
    if let Some(level) = command.log_level() {
        let level = level.parse().map_err(|error| format!("--log-level {level}: {error}"));
        log::start(level.map_err(Failure::Usage)?);
    }
    command.run(VERSION, output::print).map_err(|error| match error {
        CommandError::Usage(text) => Failure::Usage(text),
        CommandError::Failed(text) => Failure::Failed(text),
    })
}
