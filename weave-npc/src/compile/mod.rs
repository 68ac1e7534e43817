//! From the objects of a cluster to the rules of one node.
//!
//! ```text
//!   isolated pod of this node ──▶ its policies ──▶ a chain, shared by pods with the same ones
//!                                                    │ one rule of nftables for each
//!                                                    ▼ peers × ports
//!                                                  sets: pods of the whole cluster, networks, ports
//! ```
//!
//! A node judges what its own pods receive and send, so only these have chains, and only sets
//! that some chain refers to are there. Chains are named by their content and never change; sets are
//! named by what they stand for, and only their members do.

mod definition;
mod digest;
mod ruleset;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::block::{Family, ranges};
use crate::cluster::Cluster;
use crate::object::{Direction, ObjectName, Peer, Peers, Pod, PodNetwork, PodPeer};
use crate::object::{Port, PortNumber, Ports, Protocol, Rule};
use definition::{Definition, NamedPorts};
pub use ruleset::{AddressSet, Chain, ChainRule, Origin, PortMatch, Ruleset};

/// Returns the rules of a node.
pub fn compile(cluster: &Cluster, node: &str) -> Ruleset {
    Compilation::run(cluster, node, &BTreeMap::new(), &BTreeSet::new())
}

/// Compiles a cluster again and again as it changes: sets of which nothing has changed are those of
/// the last time, and of the others only what has changed is looked at.
#[derive(Clone, Debug)]
pub struct Compiler {
    node: String,
    sets: BTreeMap<String, Arc<AddressSet>>,
}

impl Compiler {
    /// Returns a compiler for a node.
    pub fn new(node: impl Into<String>) -> Self {
        Self { node: node.into(), sets: BTreeMap::new() }
    }

    /// Returns the rules of the node: the same as [`compile`] does. The cluster must be the one of
    /// the last time, and compiled by nothing else.
    pub fn compile(&mut self, cluster: &mut Cluster) -> Ruleset {
        let touched = cluster.take_touched();
        let ruleset = Compilation::run(cluster, &self.node, &self.sets, &touched);
        self.sets.clone_from(&ruleset.sets);
        ruleset
    }
}

/// Returns the pods of a node that have addresses of their own.
fn local_pods<'a>(cluster: &'a Cluster, node: &str) -> impl Iterator<Item = &'a Pod> {
    let local =
        move |pod: &&Pod| pod.node.as_deref() == Some(node) && pod.network == PodNetwork::Own;
    cluster.pods().filter(local)
}

struct Compilation<'a> {
    cluster: &'a Cluster,
    node: &'a str,
    definitions: BTreeMap<String, Definition<'a>>,
    ruleset: Ruleset,
}

impl<'a> Compilation<'a> {
    fn run(
        cluster: &'a Cluster,
        node: &'a str,
        known: &BTreeMap<String, Arc<AddressSet>>,
        touched: &BTreeSet<IpAddr>,
    ) -> Ruleset {
        let (definitions, ruleset) = (BTreeMap::new(), Ruleset::default());
        let mut compilation = Self { cluster, node, definitions, ruleset };
        compilation.isolate();
        compilation.fill(known, touched);
        compilation.ruleset
    }

    /// Gives each pod that is isolated its chain.
    fn isolate(&mut self) {
        let mut classes = BTreeMap::<(Direction, Vec<&ObjectName>), String>::new();
        for pod in local_pods(self.cluster, self.node) {
            let addresses: Vec<IpAddr> = self.cluster.addresses(pod).collect();
            if addresses.is_empty() {
                continue;
            }
            for direction in Direction::ALL {
                let policies: Vec<_> = self.cluster.isolating(pod, direction).collect();
                if policies.is_empty() {
                    continue;
                }
                let class = (direction, policies.iter().map(|(policy, _)| &policy.name).collect());
                let chain = classes.entry(class).or_insert_with(|| {
                    let rules = policies.iter().flat_map(|(policy, rules)| {
                        let numbered = rules.iter().enumerate();
                        numbered.map(|(position, rule)| (&policy.name, position, rule))
                    });
                    self.chain(direction, rules)
                });
                for address in &addresses {
                    self.ruleset.isolated.insert((direction, *address), chain.clone());
                }
            }
        }
    }

    /// Makes a chain, and returns its name.
    fn chain(
        &mut self,
        direction: Direction,
        rules: impl Iterator<Item = (&'a ObjectName, usize, &'a Rule)>,
    ) -> String {
        let mut chain = Chain { direction, rules: Vec::new() };
        for (policy, position, rule) in rules {
            let origin = Origin { policy: policy.clone(), rule: position };
            for (addresses, ports) in self.matches(&policy.namespace, direction, rule) {
                chain.rules.push(ChainRule { addresses, ports, origin: origin.clone() });
            }
        }
        let name = chain.name();
        self.ruleset.chains.insert(name.clone(), chain);
        name
    }

    /// Returns what a rule allows: each of these peers at each of these ports.
    fn matches(
        &mut self,
        home: &'a str,
        direction: Direction,
        rule: &'a Rule,
    ) -> Vec<(Option<(Family, String)>, PortMatch)> {
        let peers = self.peers(home, rule);
        let (numbers, named) = match &rule.ports {
            Ports::All => (vec![PortMatch::Any], None),
            Ports::Some(ports) => (numbers(ports), names(ports)),
        };
        let mut matches = Vec::new();
        for peer in &peers {
            matches.extend(numbers.iter().map(|ports| (peer.clone(), ports.clone())));
        }
        let Some(named) = named else { return matches };
        for family in Family::ALL {
            match direction {
                // The ports are those of the pod, which is of this node; any peer may come.
                Direction::Ingress => {
                    let on_node = Some(self.node);
                    let set = self
                        .define(Definition::Named(family, NamedPorts::of(on_node, None, &named)));
                    let same = peers
                        .iter()
                        .filter(|peer| peer.as_ref().is_none_or(|(other, _)| *other == family));
                    matches.extend(
                        same.map(|peer| (peer.clone(), PortMatch::Named(family, set.clone()))),
                    );
                }
                // The ports are those of each peer, which therefore must be a pod.
                Direction::Egress => {
                    let pods = match &rule.peers {
                        Peers::Anywhere => None,
                        Peers::Some(peers) => Some(pod_peers(peers, home)),
                    };
                    if pods.as_ref().is_some_and(Vec::is_empty) {
                        continue;
                    }
                    let set =
                        self.define(Definition::Named(family, NamedPorts::of(None, pods, &named)));
                    matches.push((None, PortMatch::Named(family, set)));
                }
            }
        }
        matches
    }

    /// Returns the sets of a rule's peers; none is anything.
    fn peers(&mut self, home: &'a str, rule: &'a Rule) -> Vec<Option<(Family, String)>> {
        let Peers::Some(peers) = &rule.peers else { return vec![None] };
        let mut sets = Vec::new();
        let pods = pod_peers(peers, home);
        for family in Family::ALL {
            if !pods.is_empty() {
                sets.push(Some((family, self.define(Definition::Pods(family, pods.clone())))));
            }
            let blocks = peers.iter().filter_map(|peer| match peer {
                Peer::Block { block, except } => Some((*block, &except[..])),
                Peer::Pods(_) => None,
            });
            let ranges = ranges(family, blocks);
            if !ranges.is_empty() {
                sets.push(Some((family, self.define(Definition::Networks(ranges)))));
            }
        }
        sets
    }

    fn define(&mut self, definition: Definition<'a>) -> String {
        let name = definition.name();
        self.definitions.entry(name.clone()).or_insert(definition);
        name
    }

    /// Gives each set its members.
    fn fill(&mut self, known: &BTreeMap<String, Arc<AddressSet>>, touched: &BTreeSet<IpAddr>) {
        for (name, definition) in std::mem::take(&mut self.definitions) {
            let set = match known.get(&name) {
                None => Arc::new(definition.members(self.cluster)),
                Some(set) => {
                    let mut set = Arc::clone(set);
                    definition.update(&mut set, self.cluster, touched);
                    set
                }
            };
            self.ruleset.sets.insert(name, set);
        }
    }
}

/// Returns the peers that are pods, each with the namespace that it is relative to.
fn pod_peers<'a>(peers: &'a [Peer], home: &'a str) -> Vec<(&'a PodPeer, &'a str)> {
    let pods = peers.iter().filter_map(|peer| match peer {
        Peer::Pods(pods) => Some((pods, home)),
        Peer::Block { .. } => None,
    });
    let mut pods: Vec<_> = pods.collect();
    pods.sort_unstable();
    pods.dedup();
    pods
}

/// Returns the numbers of ports, a match for each protocol.
fn numbers(ports: &[Port]) -> Vec<PortMatch> {
    let of = |protocol: Protocol| {
        let mut ranges: Vec<_> = ports
            .iter()
            .filter(|port| port.protocol == protocol)
            .filter_map(|port| match &port.number {
                PortNumber::Range(range) => Some((*range.start(), *range.end())),
                PortNumber::Named(_) => None,
            })
            .collect();
        ranges.sort_unstable();
        ranges.dedup_by(|later, earlier| {
            let touches = later.0 <= earlier.1.saturating_add(1);
            if touches {
                earlier.1 = earlier.1.max(later.1);
            }
            touches
        });
        (!ranges.is_empty()).then_some(PortMatch::Numbers(protocol, ranges))
    };
    Protocol::ALL.into_iter().filter_map(of).collect()
}

/// Returns the names of ports, if there are any.
fn names(ports: &[Port]) -> Option<Vec<(Protocol, &str)>> {
    let names = ports.iter().filter_map(|port| match &port.number {
        PortNumber::Named(name) => Some((port.protocol, name.as_str())),
        PortNumber::Range(_) => None,
    });
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then_some(names)
}
