//! `weave detach`.

use std::path::PathBuf;

use clap::Args;
use weave_host::Namespace;

use super::attach::split;
use super::bridge_name;
use super::failure::Failure;
use super::output;

/// Arguments of `weave detach`.
#[derive(Debug, Args)]
pub(super) struct Detach {
    /// The addresses to take away, all if none are given, and last the container: a process
    /// id, a name known to `ip netns`, or the path of a network namespace.
    #[arg(value_name = "ADDRESS... CONTAINER", required = true)]
    arguments: Vec<String>,
    /// The bridge it is on.
    #[arg(long, default_value = weave_host::BRIDGE_NAME, value_name = "NAME")]
    #[arg(value_parser = bridge_name::parse)]
    weave_bridge: String,
    /// Where the process tree of the host is mounted.
    #[arg(long, default_value = "/proc", value_name = "PATH")]
    proc_path: PathBuf,
}

impl Detach {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (addresses, container) = split(&self.arguments)?;
        let container = Namespace::find(container, &self.proc_path)?;
        let detached = weave_host::detach(&container, &self.weave_bridge, &addresses)?;
        let shown: Vec<_> =
            detached.removed.iter().map(|cidr| cidr.address().to_string()).collect();
        if !shown.is_empty() {
            output::print(&(shown.join(" ") + "\n"));
        }
        Ok(())
    }
}
