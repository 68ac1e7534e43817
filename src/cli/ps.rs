//! `weave ps`.

use std::path::PathBuf;

use clap::Args;
use weave_host::Cidr;

use super::bridge_name;
use super::failure::Failure;
use super::output;

/// Arguments of `weave ps`.
#[derive(Debug, Args)]
pub(super) struct Ps {
    /// Only these: process ids, or names known to `ip netns`; weave:expose is the host.
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    #[arg(long, default_value = weave_host::BRIDGE_NAME, value_name = "NAME")]
    #[arg(value_parser = bridge_name::parse)]
    weave_bridge: String,
    /// Where the process tree of the host is mounted.
    #[arg(long, default_value = "/proc", value_name = "PATH")]
    proc_path: PathBuf,
}

impl Ps {
    pub(super) fn run(self) -> Result<(), Failure> {
        let bridge = &self.weave_bridge;
        let mut lines = Vec::new();
        let exposed = weave_host::bridge_addresses(bridge)?;
        if let (Some(mac), false) = (weave_host::interface_peer_name(bridge)?, exposed.is_empty()) {
            lines.push(("weave:expose".to_owned(), mac.to_string(), exposed));
        }
        for found in weave_host::inhabitants(bridge, &self.proc_path)? {
            lines.push((found.target, found.mac.to_string(), found.addresses));
        }
        let wanted = |name: &String| self.containers.is_empty() || self.containers.contains(name);
        for (name, mac, addresses) in lines.into_iter().filter(|(name, ..)| wanted(name)) {
            let addresses: String =
                addresses.iter().map(|cidr: &Cidr| format!(" {cidr}")).collect();
            output::print(&format!("{name} {mac}{addresses}\n"));
        }
        Ok(())
    }
}
