//! What the controller of Weave Net made of scenarios, against the model: a packet must have the
//! same fate, but where the vectors say that the original was wrong.
//!
//! The recorded chains and sets of the original are judged by a small interpreter of iptables.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use common::scenario::{VECTORS, change};
use serde_json::Value;
use weave_npc::{Cluster, Direction, Packet, Protocol, Traffic, api};

/// A policy with a selector that cannot be understood: the original did as if it were not there,
/// ours is about all pods of the namespace and allows nothing. The API server lets neither happen.
const STRICTER: [&str; 1] = ["bad-operator"];
/// Addresses that the scenarios speak of, besides those of their pods.
const OUTSIDE: [&str; 8] = [
    "192.168.48.4",
    "192.168.48.7",
    "10.0.0.1",
    "10.1.2.3",
    "172.16.1.1",
    "192.168.1.5",
    "8.8.8.8",
    "10.32.0.200",
];

/// The state of the original.
#[derive(Clone, Default)]
struct Original {
    chains: BTreeMap<String, Vec<Vec<String>>>,
    sets: BTreeMap<String, Vec<String>>,
}

impl Original {
    fn apply(&mut self, step: &Value) {
        for (name, rules) in step["chains_changed"].as_object().into_iter().flatten() {
            let rules = serde_json::from_value::<Option<Vec<Vec<String>>>>(rules.clone()).unwrap();
            self.chains.insert(name.clone(), rules.unwrap_or_default());
        }
        for (name, set) in step["ipsets_changed"].as_object().into_iter().flatten() {
            let entries = set["entries"].as_array().into_iter().flatten();
            let entries = entries.map(|entry| entry["entry"].as_str().unwrap().to_owned());
            self.sets.insert(name.clone(), entries.collect());
        }
    }

    fn rules(&self, chain: &str) -> &[Vec<String>] {
        self.chains.get(chain).map_or(&[], Vec::as_slice)
    }

    /// Whether a packet to a pod passes `WEAVE-NPC`; the router drops what does not.
    fn ingress(&self, packet: &Packet) -> bool {
        let rules = self.rules("WEAVE-NPC-DEFAULT").iter().chain(self.rules("WEAVE-NPC-INGRESS"));
        rules.into_iter().any(|rule| self.matches(rule, packet) == "ACCEPT")
    }

    /// Whether a packet of a pod passes `WEAVE-NPC-EGRESS`.
    fn egress(&self, packet: &Packet) -> bool {
        let drops = self.rules("WEAVE-NPC-EGRESS").iter().any(|rule| rule.contains(&"DROP".into()));
        let chains = ["WEAVE-NPC-EGRESS-DEFAULT", "WEAVE-NPC-EGRESS-CUSTOM"];
        let mut rules = chains.iter().flat_map(|chain| self.rules(chain));
        !drops || rules.any(|rule| self.matches(rule, packet) == "WEAVE-NPC-EGRESS-ACCEPT")
    }

    /// Returns where a rule sends a packet: nowhere if it does not match.
    fn matches<'a>(&self, rule: &'a [String], packet: &Packet) -> &'a str {
        let mut words = rule.iter().map(String::as_str);
        let (mut target, mut negated) = ("", false);
        while let Some(word) = words.next() {
            let fits = match word {
                "-m" => {
                    words.next();
                    true
                }
                "!" => {
                    negated = true;
                    continue;
                }
                "--comment" => words.next().is_some(),
                "--match-set" => {
                    let set = words.next().unwrap();
                    self.holds(set, end(words.next().unwrap(), packet))
                }
                "-s" | "-d" => {
                    let end = end(if word == "-s" { "src" } else { "dst" }, packet);
                    contains(words.next().unwrap(), end)
                }
                "-p" => {
                    let protocol = words.next().unwrap().to_uppercase();
                    matches!(packet.traffic, Traffic::Port(own, _) if own.to_string() == protocol)
                }
                "--dport" => {
                    let text = words.next().unwrap();
                    let (first, last) = text.split_once(':').unwrap_or((text, text));
                    let ports = first.parse().unwrap()..=last.parse::<u16>().unwrap();
                    matches!(packet.traffic, Traffic::Port(_, own) if ports.contains(&own))
                }
                "-j" => {
                    target = words.next().unwrap();
                    true
                }
                other => unreachable!("{other}"),
            };
            if fits == negated {
                return "";
            }
            negated = false;
        }
        target
    }

    fn holds(&self, set: &str, address: IpAddr) -> bool {
        self.sets.get(set).into_iter().flatten().any(|entry| match entry.strip_prefix("weave-") {
            Some(_) => self.holds(entry, address),
            None => contains(entry, address),
        })
    }
}

fn end(word: &str, packet: &Packet) -> IpAddr {
    if word == "src" { packet.source } else { packet.destination }
}

fn contains(block: &str, address: IpAddr) -> bool {
    let block = if block.contains('/') { block.to_owned() } else { format!("{block}/32") };
    weave_core::Cidr::network(&block).unwrap().contains(address)
}

fn packets(cluster: &Cluster) -> Vec<Packet> {
    let outside = OUTSIDE.iter().map(|text| text.parse::<IpAddr>().unwrap());
    let addresses: BTreeSet<_> = cluster.owners().map(|(own, _)| own).chain(outside).collect();
    let ports = [22, 53, 80, 81, 90, 443, 5353, 5432, 8080, 9090, 65535];
    let ports = ports.iter().flat_map(|port| Protocol::ALL.map(|each| Traffic::Port(each, *port)));
    let traffic: Vec<_> = ports.chain([Traffic::Portless]).collect();
    let mut packets = Vec::new();
    for &source in &addresses {
        for &destination in addresses.iter().filter(|&&destination| destination != source) {
            let packet = |&traffic| Packet { source, destination, traffic };
            packets.extend(traffic.iter().map(packet));
        }
    }
    packets
}

#[test]
fn packets_have_the_fate_that_the_original_gives_them() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let scenarios = vectors["scenarios"].as_array().unwrap();
    let common = scenarios.iter().find(|scenario| scenario["name"] == "common-world").unwrap();
    let (mut compared, mut denied, mut deviations) = (0, 0, 0);
    for scenario in scenarios {
        let name = scenario["name"].as_str().unwrap();
        let (mut original, mut cluster) = (Original::default(), Cluster::default());
        // The original does not know a namespace before its event, and drops everything to it.
        let mut known = BTreeSet::new();
        for step in scenario["steps"].as_array().unwrap() {
            let begins = step["event"] == "common-world";
            let steps =
                if begins { common["steps"].as_array().unwrap() } else { &vec![step.clone()] };
            for step in steps {
                let event = step["event"].as_str().unwrap();
                original.apply(step);
                cluster.extend(change(event, &step["object"]));
                let object = || step["object"]["metadata"]["name"].as_str().unwrap().to_owned();
                match event {
                    "add-namespace" => _ = known.insert(object()),
                    "delete-namespace" => _ = known.remove(&object()),
                    _ => {}
                }
            }
            if scenario.get("deviation").is_some_and(|deviation| !deviation.is_null()) {
                deviations += 1;
                continue;
            }
            if STRICTER.contains(&name) {
                continue;
            }
            for packet in packets(&cluster) {
                for direction in Direction::ALL {
                    let own = match direction {
                        Direction::Ingress => packet.destination,
                        Direction::Egress => packet.source,
                    };
                    let pod = cluster.owner(own);
                    if pod.is_none_or(|pod| !known.contains(&pod.name.namespace)) {
                        continue;
                    }
                    let expected = match direction {
                        Direction::Ingress => original.ingress(&packet),
                        Direction::Egress => original.egress(&packet),
                    };
                    let verdict = cluster.judge(direction, &packet);
                    let event = &step["event"];
                    assert_eq!(
                        verdict.is_allowed(),
                        expected,
                        "{name}, after {event}, {direction} of {packet:?}: {verdict:?}"
                    );
                    compared += 1;
                    denied += u64::from(!expected);
                }
            }
        }
    }
    assert!(compared > 100_000 && denied > 10_000 && deviations > 10, "{compared} {denied}");
}

#[test]
fn selectors_have_the_texts_of_the_original() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    for case in vectors["selector_strings"].as_array().unwrap() {
        let policy = serde_json::json!({"spec": {"podSelector": case["selector"]}});
        let (policy, problems) =
            serde_json::from_value::<api::NetworkPolicy>(policy).unwrap().read();
        assert_eq!(problems, []);
        // An operator with one value is what a label is, so ours writes both in one way.
        let expected = case["text"].as_str().unwrap().replace("k in (a)", "k=a");
        assert_eq!(policy.pods.to_string(), expected);
    }
}
