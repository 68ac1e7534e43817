//! Where a router keeps its state.

use std::path::PathBuf;

use clap::Args;

/// The files of a router.
#[derive(Clone, Debug, Args)]
pub(super) struct StateArgs {
    /// Start of the paths of its files: PREFIXdata.redb, PREFIX.pid, PREFIX.log.
    #[arg(
        long,
        env = "WEAVE_DB_PREFIX",
        default_value = "/var/lib/weave/weave",
        value_name = "PREFIX"
    )]
    pub(super) db_prefix: PathBuf,
}
