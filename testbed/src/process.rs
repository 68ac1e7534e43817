//! Starting the programs that a signal ends.

use std::process::{Child, Command};

use anyhow::Result;
use nix::sys::signal::SigSet;

/// Starts a program with no signal blocked: a child inherits the mask, and tcpdump and the
/// router end by a signal.
pub(crate) fn spawn_with_signals(mut command: Command) -> Result<Child> {
    let before = SigSet::thread_get_mask()?;
    SigSet::all().thread_unblock()?;
    let child = command.spawn();
    before.thread_set_mask()?;
    Ok(child?)
}
