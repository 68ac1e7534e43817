//! `weave attach`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use weave_host::{Attachment, Claimants, HostError, PROBE_TIME};

use super::address_spec::{AddressSpec, Taken, release, split, take};
use super::bridge_name;
use super::container;
use super::failure::Failure;
use super::in_use::{MAX_PASSED_OVER, set_aside};
use super::output;
use super::remote::Remote;
use weave_api::client::Client;

/// Arguments of `weave attach`.
#[derive(Debug, Args)]
pub(super) struct Attach {
    /// Addresses with prefix length, like 10.32.0.1/12, and last the container: a process id,
    /// a name known to `ip netns`, the path of a network namespace, or the id of a container of
    /// Docker or containerd. net:CIDR has an address
    /// chosen in a subnet, and so has net:default, or no address at all.
    #[arg(value_name = "ADDRESS... CONTAINER", required = true)]
    arguments: Vec<String>,
    /// Leave multicast to other interfaces of the container.
    #[arg(long)]
    no_multicast_route: bool,
    /// Accepted: offloads are always kept.
    #[arg(long = "keep-tx-on", hide = true)]
    _keep_tx_on: bool,
    #[arg(long, default_value = weave_host::BRIDGE_NAME, value_name = "NAME")]
    #[arg(value_parser = bridge_name::parse)]
    weave_bridge: String,
    /// Where the process tree of the host is mounted.
    #[arg(long, default_value = "/proc", value_name = "PATH")]
    proc_path: PathBuf,
    /// Accepted: there is no DNS in this version.
    #[arg(long = "without-dns", hide = true)]
    _without_dns: bool,
    /// Not supported yet.
    #[arg(long, hide = true)]
    rewrite_hosts: bool,
    /// Not supported yet.
    #[arg(long, hide = true, value_name = "HOST:IP")]
    add_host: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Attach {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.rewrite_hosts || !self.add_host.is_empty() {
            return Err(Failure::usage(
                "--rewrite-hosts and --add-host: rewriting /etc/hosts is not supported yet",
            ));
        }
        let (mut wanted, container) = split(&self.arguments)?;
        if wanted.is_empty() {
            wanted.push(AddressSpec::Default);
        }
        let container = container::find(container, &self.proc_path)?;
        let holder = container.id();
        let mut taken = self.remote.ask(async |client| {
            let client = client.patient();
            let mut taken: Vec<Taken> = Vec::new();
            for wanted in &wanted {
                match take(&client, &holder, wanted).await {
                    Ok(address) => taken.push(address),
                    Err(error) => {
                        give_back(&client, &holder, &taken).await;
                        return Err(error);
                    }
                }
            }
            Ok(taken)
        })?;
        let mut claimants = Claimants::default();
        let (mut disbelieved, mut passed_over) = (BTreeSet::new(), 0);
        loop {
            let attachment = Attachment {
                addresses: taken.iter().map(|taken| taken.cidr).collect(),
                multicast_route: !self.no_multicast_route,
                probe: Some(PROBE_TIME),
                disbelieved: disbelieved.clone(),
                ..Attachment::new(self.weave_bridge.clone())
            };
            let Err(error) = weave_host::attach(&container, &attachment) else { break };
            if let HostError::AddressInUse { address: IpAddr::V4(address), holder } = error
                && !claimants.believes(Instant::now(), holder, address)
            {
                disbelieved.insert(holder);
                continue;
            }
            let replaced = match in_use(&error, &wanted, &taken) {
                Some(place) if passed_over < MAX_PASSED_OVER => self.remote.ask(async |client| {
                    let client = client.patient();
                    let cidr = taken[place].cidr.to_string();
                    set_aside(&client, &holder, &cidr, &error.to_string()).await;
                    Ok((place, take(&client, &holder, &wanted[place]).await?))
                }),
                _ => Err(error.into()),
            };
            match replaced {
                Ok((place, other)) => {
                    taken[place] = other;
                    passed_over += 1;
                }
                Err(failure) => {
                    let given_back = self.remote.ask(async |client| {
                        give_back(&client, &holder, &taken).await;
                        Ok(())
                    });
                    // The first error says more.
                    drop(given_back);
                    return Err(failure);
                }
            }
        }
        let shown: Vec<_> = taken.iter().map(|taken| taken.cidr.address().to_string()).collect();
        output::print(&(shown.join(" ") + "\n"));
        Ok(())
    }
}

/// Which address somebody else uses, if the router chose it. One that the user named is his to
/// choose.
fn in_use(error: &HostError, wanted: &[AddressSpec], taken: &[Taken]) -> Option<usize> {
    let HostError::AddressInUse { address, .. } = error else { return None };
    let place = taken.iter().position(|taken| taken.cidr.address() == *address)?;
    (!matches!(wanted[place], AddressSpec::This(_))).then_some(place)
}

/// What a container that was not attached does not need. It stays taken if the router cannot be
/// reached.
async fn give_back(client: &Client, holder: &str, taken: &[Taken]) {
    for taken in taken.iter().filter(|taken| taken.is_new) {
        drop(release(client, holder, taken.cidr).await);
    }
}
