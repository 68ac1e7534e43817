//! `weave npc show`.

use std::fmt::Write as _;

use clap::Args;

use super::CommandError;
use super::objects::Source;
use super::target::pod_name;
use crate::cluster::Cluster;
use crate::object::{Direction, Namespaces, ObjectName, Peer, Peers, Pod, PodNetwork, PortNumber};
use crate::object::{Ports, Rule};

/// Arguments of `weave npc show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The pod: NAMESPACE/NAME.
    #[arg(value_parser = pod_name)]
    pod: ObjectName,
    #[command(flatten)]
    source: Source,
}

impl Show {
    pub(super) async fn run(self) -> Result<String, CommandError> {
        let cluster = self.source.read().await?;
        let pod = cluster.pod(&self.pod);
        let pod =
            pod.ok_or_else(|| CommandError::Failed(format!("there is no pod {}", self.pod)))?;
        Ok(describe(&cluster, pod))
    }
}

fn describe(cluster: &Cluster, pod: &Pod) -> String {
    let addresses: Vec<_> = cluster.addresses(pod).map(|own| own.to_string()).collect();
    let place = match (pod.network, addresses.is_empty()) {
        (PodNetwork::Host, _) => "in the network of its node: policies are not about it".to_owned(),
        (PodNetwork::Ended, _) => "ended".to_owned(),
        (PodNetwork::Own, true) => "without an address of its own".to_owned(),
        (PodNetwork::Own, false) => addresses.join(", "),
    };
    let mut text = format!("{}: {place}\n", pod.name);
    for direction in Direction::ALL {
        let mut isolating = cluster.isolating(pod, direction).peekable();
        // Writing to a String cannot fail.
        let _ = match isolating.peek() {
            None => writeln!(text, "  {direction}: not isolated, everything is allowed"),
            Some(_) => writeln!(text, "  {direction}: isolated, only this is allowed"),
        };
        for (policy, rules) in isolating {
            let _ = writeln!(
                text,
                "    {}{}",
                policy.name,
                if rules.is_empty() { ": nothing" } else { "" }
            );
            for (position, rule) in rules.iter().enumerate() {
                let _ = writeln!(text, "      rule {position}: {}", words(rule, direction));
            }
        }
    }
    text
}

/// Returns a rule in words.
fn words(rule: &Rule, direction: Direction) -> String {
    let peer = |peer: &Peer| match peer {
        Peer::Pods(pods) => {
            let which = match pods.pods.is_everything() {
                true => "all pods".to_owned(),
                false => format!("pods {}", pods.pods),
            };
            match &pods.namespaces {
                Namespaces::Own => format!("{which} of its namespace"),
                Namespaces::Matching(all) if all.is_everything() => {
                    format!("{which} of the cluster")
                }
                Namespaces::Matching(some) => format!("{which} of namespaces {some}"),
            }
        }
        Peer::Block { block, except } if except.is_empty() => block.to_string(),
        Peer::Block { block, except } => {
            let except: Vec<_> = except.iter().map(ToString::to_string).collect();
            format!("{block} without {}", except.join(" and "))
        }
    };
    let peers = match &rule.peers {
        Peers::Anywhere => "anything".to_owned(),
        Peers::Some(peers) if peers.is_empty() => "nothing".to_owned(),
        Peers::Some(peers) => peers.iter().map(peer).collect::<Vec<_>>().join(" or "),
    };
    let ports = match &rule.ports {
        Ports::All => String::new(),
        Ports::Some(ports) => {
            let ports = ports.iter().map(|port| match &port.number {
                PortNumber::Range(range) if (*range.start(), *range.end()) == (0, u16::MAX) => {
                    format!("all {}", port.protocol)
                }
                PortNumber::Range(range) if range.start() == range.end() => {
                    format!("{}/{}", range.start(), port.protocol)
                }
                PortNumber::Range(range) => {
                    format!("{}-{}/{}", range.start(), range.end(), port.protocol)
                }
                PortNumber::Named(name) => format!("{name}/{}", port.protocol),
            });
            format!(", ports {}", ports.collect::<Vec<_>>().join(" "))
        }
    };
    let word = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    format!("{word} {peers}{ports}")
}
