//! `weave npc check`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use super::objects::{Source, read_file};
use crate::block::Family;
use crate::cluster::{Change, Cluster};
use crate::object::{Direction, ObjectName, Pod, PortNumber, Ports, Protocol};
use crate::verdict::{Packet, Traffic};

/// Lines about pairs that are printed; how many there are is told.
const MAX_PAIRS: usize = 100;
/// Packets that are looked at: in a cluster in which there are more, not all pairs are compared, and
/// that is told.
const MAX_PACKETS: usize = 20_000_000;

/// Arguments of `weave npc check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Files with the policies as they would be, in YAML or JSON.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    source: Source,
}

impl Check {
    pub(super) async fn run(self) -> Result<String, CommandError> {
        let mut changes = Vec::new();
        let mut text = String::new();
        for path in &self.files {
            for object in read_file(path)? {
                for problem in object.problems {
                    // Writing to a String cannot fail.
                    let _ = writeln!(text, "{}: {problem}; it allows nothing", path.display());
                }
                changes.push(object.change);
            }
        }
        let before = self.source.read().await?;
        Ok(text + &difference(&before, changes))
    }
}

/// Tells what changes would mean.
fn difference(before: &Cluster, changes: Vec<Change>) -> String {
    let mut after = before.clone();
    after.extend(changes);
    let mut text = String::new();
    let affected = isolation(before, &after, &mut text);
    if affected.is_empty() {
        return text + "no pod is affected\n";
    }
    let traffic = traffic(before, &after);
    let (mut opened, mut closed, mut looked_at) = (0, 0, 0);
    'pairs: for pod in after.pods().filter(|pod| affected.contains(&pod.name)) {
        for other in after.pods().filter(|other| other.name != pod.name) {
            for (from, to) in [(pod, other), (other, pod)] {
                // A pair of which both are affected is met twice.
                if from.name != pod.name && affected.contains(&from.name) {
                    continue;
                }
                looked_at += traffic.len();
                if looked_at > MAX_PACKETS {
                    text += "the cluster is large: not all pairs were compared\n";
                    break 'pairs;
                }
                for (word, lines) in [("opens", &mut opened), ("closes", &mut closed)] {
                    let ports = changed(before, &after, from, to, &traffic, word == "opens");
                    if !ports.is_empty() {
                        *lines += 1;
                        if *lines <= MAX_PAIRS {
                            let (from, to) = (&from.name, &to.name);
                            let _ = writeln!(text, "{word} {from} to {to}: {}", ports.join(" "));
                        }
                    }
                }
            }
        }
    }
    let _ = writeln!(text, "{opened} pairs of pods opened, {closed} closed");
    text
}

/// Tells which pods are isolated otherwise, and returns those that policies are about otherwise.
fn isolation(before: &Cluster, after: &Cluster, text: &mut String) -> BTreeSet<ObjectName> {
    let mut affected = BTreeSet::new();
    for pod in after.pods().filter(|pod| after.addresses(pod).next().is_some()) {
        for direction in Direction::ALL {
            let policies = |cluster: &Cluster| -> Vec<_> {
                cluster.isolating(pod, direction).map(|(policy, _)| policy.clone()).collect()
            };
            let (old, new) = (policies(before), policies(after));
            if old != new {
                affected.insert(pod.name.clone());
            }
            let _ = match (old.is_empty(), new.is_empty()) {
                (true, false) => writeln!(text, "isolates {} for {direction}", pod.name),
                (false, true) => writeln!(text, "isolates {} no longer for {direction}", pod.name),
                _ => Ok(()),
            };
        }
    }
    affected
}

/// Returns traffic that policies may tell apart: each port that one names, and what is beside it.
fn traffic(before: &Cluster, after: &Cluster) -> Vec<Traffic> {
    let mut all = BTreeSet::from([Traffic::Portless]);
    for protocol in Protocol::ALL {
        all.insert(Traffic::Port(protocol, 1));
    }
    let policies = before.policies().chain(after.policies());
    let rules = policies.flat_map(|policy| {
        Direction::ALL.into_iter().filter_map(|direction| policy.rules(direction)).flatten()
    });
    for rule in rules {
        let Ports::Some(ports) = &rule.ports else { continue };
        for port in ports {
            if let PortNumber::Range(range) = &port.number {
                let edges = [*range.start(), *range.end()].into_iter().filter(|port| *port > 0);
                all.extend(edges.map(|number| Traffic::Port(port.protocol, number)));
            }
        }
    }
    let named = after.pods().flat_map(|pod| &pod.ports);
    all.extend(named.map(|port| Traffic::Port(port.protocol, port.number)));
    all.into_iter().collect()
}

/// Returns the traffic between two pods that is allowed after the changes and was not before, or the
/// other way round.
fn changed(
    before: &Cluster,
    after: &Cluster,
    from: &Pod,
    to: &Pod,
    traffic: &[Traffic],
    opened: bool,
) -> Vec<String> {
    let mut ports = Vec::new();
    for family in Family::ALL {
        let address = |pod| after.addresses(pod).find(|own| Family::of(*own) == family);
        let Some((source, destination)) = address(from).zip(address(to)) else { continue };
        for &traffic in traffic {
            let packet = Packet { source, destination, traffic };
            let (old, new) = (before.passes(&packet), after.passes(&packet));
            let text = traffic.to_string();
            if old != new && new == opened && !ports.contains(&text) {
                ports.push(text);
            }
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api;

    fn pod(name: &str, address: &str) -> Change {
        let pod: api::Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "labels": {"app": name}},
            "status": {"phase": "Running", "podIP": address},
        }))
        .unwrap();
        Change::Pod(Box::new(pod.read()))
    }

    #[test]
    fn what_a_policy_would_change_is_told() {
        let cluster: Cluster = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3")]
            .into_iter()
            .collect();
        let policy: api::NetworkPolicy = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "a"}},
                "ingress": [{
                    "from": [{"podSelector": {"matchLabels": {"app": "b"}}}],
                    "ports": [{"port": 80}],
                }],
            },
        }))
        .unwrap();
        let change = Change::Policy(policy.with_defaults().read().0);
        assert_eq!(
            difference(&cluster, vec![change.clone()]),
            "isolates n/a for ingress\n\
             closes n/b to n/a: 1/TCP 1/UDP 1/SCTP without ports\n\
             closes n/c to n/a: 1/TCP 80/TCP 1/UDP 1/SCTP without ports\n\
             0 pairs of pods opened, 2 closed\n"
        );
        let mut isolated = cluster;
        isolated.extend([change.clone()]);
        assert_eq!(difference(&isolated, vec![change]), "no pod is affected\n");
    }
}
