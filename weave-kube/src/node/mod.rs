//! A node before there is a router on it, and after.

mod init;
mod modules;
mod stay;
mod uninstall;

use std::io::Write as _;

pub(crate) use init::Init;
pub(crate) use stay::Stay;
pub(crate) use uninstall::Uninstall;

/// For `kubectl logs`.
fn tell(text: impl std::fmt::Display) {
    // Nobody needs it so badly that the node is left half done.
    let _ = writeln!(std::io::stderr(), "weave: {text}");
}
