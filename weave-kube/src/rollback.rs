//! `weave kube rollback`: the node is to run Weave Net 2.x again.

use std::io::Write as _;
use std::path::PathBuf;

use crate::environment::Environment;
use crate::error::CommandError;
use crate::settings::DB_PREFIX;

/// Gives the state of this node back, in a container with the volumes of the router and after that
/// has ended, and says what was done.
pub(crate) fn run() -> Result<(), CommandError> {
    let prefix = PathBuf::from(Environment::of_process().or("DB_PREFIX", DB_PREFIX));
    let failed = |error: anyhow::Error| CommandError::Failed(format!("{error:#}"));
    let done = weave_node::go_back(&prefix, weave_node::BRIDGE_NAME).map_err(failed)?;
    // Who does not read it does not miss it: it is done.
    let _unread = writeln!(std::io::stdout(), "{}", done.join("\n"));
    Ok(())
}
