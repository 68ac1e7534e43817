//! `weave attach`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use weave_host::{Attachment, Cidr, Namespace};

use super::bridge_name;
use super::failure::Failure;
use super::output;

/// Arguments of `weave attach`.
#[derive(Debug, Args)]
pub(super) struct Attach {
    /// Addresses with prefix length, like 10.32.0.1/12, and last the container: a process id,
    /// a name known to `ip netns`, or the path of a network namespace.
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
    /// Not in this version.
    #[arg(long, hide = true)]
    rewrite_hosts: bool,
    /// Not in this version.
    #[arg(long, hide = true, value_name = "HOST:IP")]
    add_host: Vec<String>,
}

impl Attach {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.rewrite_hosts || !self.add_host.is_empty() {
            return Err(Failure::usage(
                "--rewrite-hosts and --add-host: rewriting /etc/hosts is not in this version",
            ));
        }
        let (addresses, container) = split(&self.arguments)?;
        if addresses.is_empty() {
            return Err(Failure::usage(
                "say which address the container gets, like 10.32.0.1/12: choosing one is not \
                 in this version",
            ));
        }
        let container = Namespace::find(container, &self.proc_path)?;
        let attachment = Attachment {
            bridge: self.weave_bridge,
            addresses,
            multicast_route: !self.no_multicast_route,
        };
        weave_host::attach(&container, &attachment)?;
        let shown: Vec<_> =
            attachment.addresses.iter().map(|cidr| cidr.address().to_string()).collect();
        output::print(&(shown.join(" ") + "\n"));
        Ok(())
    }
}

/// The addresses, and the container after them, as in the original, or before them.
pub(super) fn split(arguments: &[String]) -> Result<(Vec<Cidr>, &str), Failure> {
    let looks_like_address = |text: &str| {
        let text = text.split_once(':').map_or(text, |(kind, rest)| match kind {
            "ip" | "net" => rest,
            _ => text,
        });
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        address.parse::<IpAddr>().is_ok() || address == "default"
    };
    let (container, addresses) = match arguments {
        [addresses @ .., last] if !looks_like_address(last) => (last, addresses),
        [first, addresses @ ..] if !looks_like_address(first) => (first, addresses),
        _ => return Err(Failure::usage("say which container: a process id, a name or a path")),
    };
    let addresses = addresses.iter().map(|text| {
        if text.starts_with("net:") {
            return Err(Failure::usage(format!(
                "{text}: choosing an address in a subnet is not in this version"
            )));
        }
        let text = text.strip_prefix("ip:").unwrap_or(text);
        text.parse().map_err(|error| Failure::usage(format!("{error}")))
    });
    Ok((addresses.collect::<Result<_, _>>()?, container))
}
