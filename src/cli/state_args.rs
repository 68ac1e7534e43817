//! Where a router keeps its state.

use std::path::PathBuf;

use clap::Args;

/// Where the files of the original are, too.
const DEFAULT_PREFIX: &str = "/var/lib/weave/weave";

/// The files of a router.
#[derive(Clone, Debug, Args)]
pub(super) struct StateArgs {
    /// Start of the paths of its files: PREFIXdata.redb, PREFIX.pid, PREFIX.log.
    #[arg(
        long,
        env = "WEAVE_DB_PREFIX",
        default_value = DEFAULT_PREFIX,
        value_name = "PREFIX",
        value_parser = prefix
    )]
    pub(super) db_prefix: PathBuf,
}

/// A variable of the environment that is set to nothing says nothing.
fn prefix(text: &str) -> Result<PathBuf, String> {
    absolute(if text.is_empty() { DEFAULT_PREFIX } else { text })
}

/// A path that stays the same wherever the router is later.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}
