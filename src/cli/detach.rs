//! `weave detach`.

use std::path::PathBuf;

use clap::Args;
use weave_host::Cidr;

use super::address_spec::{AddressSpec, release, split};
use super::bridge_name;
use super::container;
use super::failure::Failure;
use super::output;
use super::remote::Remote;
use weave_api::client::{self, Client, ClientError};

/// Arguments of `weave detach`.
#[derive(Debug, Args)]
pub(super) struct Detach {
    /// The addresses to take away, all if none are given, and last the container: a process
    /// id, a name known to `ip netns`, the path of a network namespace, or the id of a container
    /// of Docker or containerd.
    #[arg(value_name = "ADDRESS... CONTAINER", required = true)]
    arguments: Vec<String>,
    /// The bridge it is on.
    #[arg(long, default_value = weave_host::BRIDGE_NAME, value_name = "NAME")]
    #[arg(value_parser = bridge_name::parse)]
    weave_bridge: String,
    /// Where the process tree of the host is mounted.
    #[arg(long, default_value = "/proc", value_name = "PATH")]
    proc_path: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

impl Detach {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (wanted, container) = split(&self.arguments)?;
        let container = container::find(container, &self.proc_path)?;
        let holder = container.id();
        let addresses = self.remote.ask(async |client| {
            let mut addresses = Vec::new();
            for wanted in &wanted {
                addresses.extend(meant(&client, &holder, wanted).await?);
            }
            Ok(addresses)
        })?;
        if addresses.is_empty() && !wanted.is_empty() {
            return Ok(());
        }
        let detached = weave_host::detach(&container, &self.weave_bridge, &addresses)?;
        self.remote.ask(async |client| {
            for cidr in &detached.removed {
                release(&client, &holder, *cidr).await?;
            }
            Ok(())
        })?;
        let shown: Vec<_> =
            detached.removed.iter().map(|cidr| cidr.address().to_string()).collect();
        if !shown.is_empty() {
            output::print(&(shown.join(" ") + "\n"));
        }
        Ok(())
    }
}

/// Which addresses of the container that is: the router knows what it gave in a subnet.
async fn meant(
    client: &Client,
    holder: &str,
    wanted: &AddressSpec,
) -> Result<Vec<Cidr>, ClientError> {
    let path = match wanted {
        AddressSpec::This(cidr) => return Ok(vec![*cidr]),
        AddressSpec::In(subnet) => client::path(&["ip", holder]) + &format!("/{subnet}"),
        AddressSpec::Default => client::path(&["ip", holder]),
    };
    let held = client.get(&path, "*/*").await?;
    Ok(held.split(' ').filter_map(|cidr| cidr.parse().ok()).collect())
}
