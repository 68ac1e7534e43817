//! `weave npc why`.

use std::fmt::Write as _;

use clap::Args;
use weave_firewall::nftables::{Family as Table, Nftables};

use super::CommandError;
use super::objects::Source;
use super::target::{End, traffic};
use crate::block::Family;
use crate::cluster::Cluster;
use crate::compile::compile;
use crate::nft::TABLE;
use crate::object::Direction;
use crate::verdict::{Allowed, Packet, Traffic, Verdict};

/// Arguments of `weave npc why`.
#[derive(Debug, Args)]
pub(super) struct Why {
    /// Where the connection comes from: NAMESPACE/NAME of a pod, or an address.
    from: End,
    /// Where it goes: the same. Not the address of a Service, but of a pod behind it.
    to: End,
    /// The port there: PORT/PROTOCOL, or icmp.
    #[arg(value_parser = traffic)]
    port: Traffic,
    #[command(flatten)]
    source: Source,
}

impl Why {
    pub(super) async fn run(self) -> Result<String, CommandError> {
        let cluster = self.source.read().await?;
        let mut text = String::new();
        for family in Family::ALL {
            let ends = self.from.address(&cluster, family)?.zip(self.to.address(&cluster, family)?);
            if let Some((source, destination)) = ends {
                let packet = Packet { source, destination, traffic: self.port };
                text += &explain(&cluster, &packet);
                text += &kernel(&cluster, &packet);
            }
        }
        if text.is_empty() {
            let text = format!("{} and {} have no addresses of one family", self.from, self.to);
            return Err(CommandError::Failed(text));
        }
        Ok(text)
    }
}

/// Tells what becomes of a packet, and why.
pub(super) fn explain(cluster: &Cluster, packet: &Packet) -> String {
    let end = |address| match cluster.owner(address) {
        Some(pod) => format!("{} ({address})", pod.name),
        None => address.to_string(),
    };
    let result = if cluster.passes(packet) { "allowed" } else { "denied" };
    let (from, to) = (end(packet.source), end(packet.destination));
    let mut text = format!("{from} to {to}, {}: {result}\n", packet.traffic);
    for direction in [Direction::Egress, Direction::Ingress] {
        let reason = reason(&cluster.judge(direction, packet), direction);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {direction}: {reason}");
    }
    text
}

fn reason(verdict: &Verdict<'_>, direction: Direction) -> String {
    match verdict {
        Verdict::Denied(policies) => {
            let policies: Vec<_> = policies.iter().map(ToString::to_string).collect();
            format!("denied: isolated by {}, and no rule allows it", policies.join(", "))
        }
        Verdict::Allowed(Allowed::Rule { policy, rule }) => {
            format!("allowed by {policy}, {direction} rule {rule}")
        }
        Verdict::Allowed(Allowed::NotIsolated) => "allowed: no policy isolates the pod".to_owned(),
        Verdict::Allowed(Allowed::NoPod) => "not judged: the address is of no pod".to_owned(),
        Verdict::Allowed(Allowed::SamePod) => "allowed: it is the pod itself".to_owned(),
        Verdict::Allowed(Allowed::OwnNode) => "allowed: it is the pod's own node".to_owned(),
    }
}

/// Tells whether the kernel has the rules that follow, for pods of the node that this runs on.
fn kernel(cluster: &Cluster, packet: &Packet) -> String {
    let Ok(Some(shown)) = Nftables::open().and_then(|nft| nft.show(Table::Inet, TABLE)) else {
        return String::new();
    };
    let mut text = String::new();
    let ends = [(Direction::Egress, packet.source), (Direction::Ingress, packet.destination)];
    for (direction, address) in ends {
        let node = cluster.owner(address).and_then(|pod| pod.node.as_deref());
        let Some(node) = node else { continue };
        let ruleset = compile(cluster, node);
        let Some(chain) = ruleset.isolated.get(&(direction, address)) else { continue };
        let state = match shown.contains(&format!("{address} : jump {chain}")) {
            true => format!("in force in this kernel, as chain {chain}"),
            false => format!("not in force in this kernel, as it should be on node {node}"),
        };
        let _ = writeln!(text, "  {direction} of {address}: {state}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api;
    use crate::cluster::Change;

    fn pod(name: &str, low: u8) -> Change {
        let pod: api::Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
            "status": {"phase": "Running", "podIP": format!("10.32.0.{low}"), "hostIP": "192.0.2.1"},
        }))
        .unwrap();
        Change::Pod(Box::new(pod.read()))
    }

    #[test]
    fn each_answer_names_what_decides() {
        let policy: api::NetworkPolicy = serde_json::from_value(json!({
            "metadata": {"name": "quiet", "namespace": "shop"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "db"}},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]},
                    {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]},
                ],
            },
        }))
        .unwrap();
        let changes = [pod("web", 1), pod("db", 2), Change::Policy(policy.read().0)];
        let cluster: Cluster = changes.into_iter().collect();
        for (source, port, expected) in [
            ("10.32.0.1", "5432/tcp", "ingress: allowed by shop/quiet, ingress rule 1"),
            (
                "10.32.0.1",
                "80/TCP",
                "ingress: denied: isolated by shop/quiet, and no rule allows it",
            ),
            ("203.0.113.9", "icmp", "ingress: allowed by shop/quiet, ingress rule 0"),
            ("192.0.2.1", "80", "ingress: allowed: it is the pod's own node"),
        ] {
            let destination = "10.32.0.2".parse().unwrap();
            let source = source.parse().unwrap();
            let packet = Packet { source, destination, traffic: traffic(port).unwrap() };
            let text = explain(&cluster, &packet);
            assert!(text.contains(expected), "{text}");
        }
        let packet = Packet {
            source: "10.32.0.1".parse().unwrap(),
            destination: "10.32.0.2".parse().unwrap(),
            traffic: traffic("80/TCP").unwrap(),
        };
        assert_eq!(
            explain(&cluster, &packet),
            "shop/web (10.32.0.1) to shop/db (10.32.0.2), 80/TCP: denied\n  \
             egress: allowed: no policy isolates the pod\n  \
             ingress: denied: isolated by shop/quiet, and no rule allows it\n"
        );
        for wrong in ["80/ICMP", "http", "0/TCP", "70000/TCP", ""] {
            assert!(traffic(wrong).is_err(), "{wrong}");
        }
        for wrong in ["web", "a/b/c", "/b", "a/"] {
            assert!(wrong.parse::<End>().is_err(), "{wrong}");
        }
    }
}
