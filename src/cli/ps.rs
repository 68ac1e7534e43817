//! `weave ps`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use weave_host::{Cidr, PortFault};

use super::bridge_name;
use super::failure::Failure;
use super::output;
use super::remote::Remote;

/// Arguments of `weave ps`.
#[derive(Debug, Args)]
pub(super) struct Ps {
    /// Only these: ids of containers, process ids, or names known to `ip netns`; weave:expose is
    /// the host.
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Print who holds which address by the router's books instead: `here` are those whose
    /// interface is on this host, `ended` those whose addresses come back within half a minute, and
    /// `unwatched` those that keep them until they are given back.
    #[arg(long)]
    holders: bool,
    #[arg(long, default_value = weave_host::BRIDGE_NAME, value_name = "NAME")]
    #[arg(value_parser = bridge_name::parse)]
    weave_bridge: String,
    /// Where the process tree of the host is mounted.
    #[arg(long, default_value = "/proc", value_name = "PATH")]
    proc_path: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

/// A line of the list.
struct Line {
    name: String,
    /// What else it may be called.
    aliases: Vec<String>,
    rest: String,
    /// What is wrong with its port.
    complaints: Vec<String>,
}

impl Ps {
    pub(super) fn run(self) -> Result<(), Failure> {
        let lines = if self.holders { self.held()? } else { self.plugged(&self.proc_path)? };
        for line in lines.iter().filter(|line| self.wants(line)) {
            output::print(&format!("{} {}\n", line.name, line.rest));
            line.complaints.iter().for_each(|complaint| output::complain(complaint));
        }
        Ok(())
    }

    fn wants(&self, line: &Line) -> bool {
        let named = |name: &String| *name == line.name || line.aliases.contains(name);
        self.containers.is_empty() || self.containers.iter().any(named)
    }

    /// What holders are to those who run them, if the router is there to tell.
    fn labels(&self) -> BTreeMap<String, String> {
        let asked = self.remote.try_ask(async |client| client.get("/ip", "*/*").await);
        let list: Value = match asked {
            Ok(Ok(text)) => serde_json::from_str(&text).unwrap_or_default(),
            _ => Value::Null,
        };
        let entries = list["owned"].as_array().into_iter().flatten();
        let label = |entry: &Value| {
            Some((entry["containerid"].as_str()?.to_owned(), entry["label"].as_str()?.to_owned()))
        };
        entries.filter_map(label).collect()
    }

    fn plugged(&self, proc: &Path) -> Result<Vec<Line>, Failure> {
        let bridge = &self.weave_bridge;
        let texts = |addresses: &[Cidr]| -> String {
            addresses.iter().map(|cidr| format!(" {cidr}")).collect()
        };
        let mut lines = Vec::new();
        let exposed = weave_host::bridge_addresses(bridge)?;
        if let (Some(mac), false) = (weave_host::interface_peer_name(bridge)?, exposed.is_empty()) {
            let rest = format!("{mac}{}", texts(&exposed));
            let (aliases, complaints) = (Vec::new(), Vec::new());
            lines.push(Line { name: weave_api::HOST_HOLDER.to_owned(), aliases, rest, complaints });
        }
        let endpoints = weave_host::endpoints(bridge, proc)?;
        let is_attached = endpoints.iter().any(|found| found.holder.is_some());
        let labels = if is_attached { self.labels() } else { BTreeMap::new() };
        for found in endpoints {
            let label = found.holder.as_ref().and_then(|holder| labels.get(holder));
            let label = label.map(|label| format!(" ({label})")).unwrap_or_default();
            let rest = format!("{}{}{label}", found.mac, texts(&found.addresses));
            let container = found.holder.as_deref().map(container_of);
            let aliases = [container, Some(found.target.clone())].into_iter().flatten().collect();
            let complaint = |fault: &PortFault| {
                let (target, port) = (&found.target, &found.port);
                format!(
                    "weave: {target}: its port {port} {fault}; `weave attach {target}` mends that"
                )
            };
            let complaints = found.faults.iter().map(complaint).collect();
            let name = found.holder.unwrap_or(found.target);
            lines.push(Line { name, aliases, rest, complaints });
        }
        Ok(lines)
    }

    fn held(&self) -> Result<Vec<Line>, Failure> {
        let text = self.remote.ask(async |client| client.get("/ip", "*/*").await)?;
        let list: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::failed(format!("the router answered {text:?}: {error}")))?;
        let entries = list["owned"].as_array().into_iter().flatten();
        let line = |entry: &Value| {
            let name = entry["containerid"].as_str().unwrap_or_default().to_owned();
            let addresses = entry["addrs"].as_array().into_iter().flatten();
            let addresses: Vec<_> = addresses.filter_map(Value::as_str).collect();
            let presence = entry["presence"].as_str().unwrap_or("-");
            let aliases = vec![container_of(&name)];
            let label = entry["label"].as_str().map(|label| format!(" ({label})"));
            let label = label.unwrap_or_default();
            let rest = format!("{presence} {}{label}", addresses.join(" "));
            Line { name, aliases, rest, complaints: Vec::new() }
        };
        Ok(entries.map(line).collect())
    }
}

/// The container of which a holder is an interface.
fn container_of(holder: &str) -> String {
    holder.split('@').next().unwrap_or(holder).to_owned()
}
