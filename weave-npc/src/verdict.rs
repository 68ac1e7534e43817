//! What becomes of a packet, and why.

use std::fmt;
use std::net::IpAddr;

use crate::cluster::Cluster;
use crate::object::{Direction, NamedPort, ObjectName, Peer, Peers, Pod, Port, PortNumber, Ports};
use crate::object::{Protocol, Rule};

/// The first packet of a connection, as it is between the two translations of a Service: with the
/// addresses of pods, not of Services.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Packet {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// What it carries.
    pub traffic: Traffic,
}

/// What a packet carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Traffic {
    /// A protocol with ports, to this one.
    Port(Protocol, u16),
    /// A protocol without ports, say ICMP.
    Portless,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(protocol, port) => write!(f, "{port}/{protocol}"),
            Self::Portless => f.write_str("without ports"),
        }
    }
}

/// What becomes of a packet in one direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict<'a> {
    /// It passes.
    Allowed(Allowed<'a>),
    /// It is dropped: these policies isolate the pod, and no rule of theirs allows it.
    Denied(Vec<&'a ObjectName>),
}

/// Why a packet passes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Allowed<'a> {
    /// The address that policies would be about is of no pod.
    NoPod,
    /// It is between a pod and itself.
    SamePod,
    /// It is between a pod and its own node.
    OwnNode,
    /// No policy isolates the pod.
    NotIsolated,
    /// A rule allows it.
    Rule {
        /// The policy.
        policy: &'a ObjectName,
        /// Which of its rules for this direction, from 0.
        rule: usize,
    },
}

impl Verdict<'_> {
    /// Returns whether the packet passes.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

impl Cluster {
    /// Judges a packet for one direction: ingress by the policies about the pod that it goes to,
    /// egress by those about the pod that it comes from. It passes if it is allowed for both.
    pub fn judge(&self, direction: Direction, packet: &Packet) -> Verdict<'_> {
        let Packet { source, destination, .. } = *packet;
        let (own, peer) = match direction {
            Direction::Ingress => (destination, source),
            Direction::Egress => (source, destination),
        };
        let Some(pod) = self.owner(own) else { return Verdict::Allowed(Allowed::NoPod) };
        if own == peer {
            return Verdict::Allowed(Allowed::SamePod);
        }
        // The kubelet's probes must arrive, and its node is what a pod cannot be kept from.
        if pod.node_addresses.contains(&peer) {
            return Verdict::Allowed(Allowed::OwnNode);
        }
        let mut isolating = Vec::new();
        for (policy, rules) in self.isolating(pod, direction) {
            let home = &policy.name.namespace;
            let allows = |rule: &Rule| self.allows(rule, home, direction, packet);
            if let Some(rule) = rules.iter().position(allows) {
                return Verdict::Allowed(Allowed::Rule { policy: &policy.name, rule });
            }
            isolating.push(&policy.name);
        }
        match isolating.is_empty() {
            true => Verdict::Allowed(Allowed::NotIsolated),
            false => Verdict::Denied(isolating),
        }
    }

    /// Returns whether a packet passes.
    pub fn passes(&self, packet: &Packet) -> bool {
        Direction::ALL.iter().all(|direction| self.judge(*direction, packet).is_allowed())
    }

    fn allows(&self, rule: &Rule, home: &str, direction: Direction, packet: &Packet) -> bool {
        let peer = match direction {
            Direction::Ingress => packet.source,
            Direction::Egress => packet.destination,
        };
        let is_peer = |one: &Peer| match one {
            Peer::Pods(pods) => self.owner(peer).is_some_and(|pod| self.means(pods, home, pod)),
            Peer::Block { block, except } => {
                block.contains(peer) && !except.iter().any(|block| block.contains(peer))
            }
        };
        let peers = match &rule.peers {
            Peers::Anywhere => true,
            Peers::Some(peers) => peers.iter().any(is_peer),
        };
        if !peers {
            return false;
        }
        // A block is about addresses outside, where ports have no names.
        let by_pod = || match (&rule.peers, direction) {
            (_, Direction::Ingress) | (Peers::Anywhere, _) => true,
            (Peers::Some(peers), Direction::Egress) => {
                peers.iter().any(|peer| matches!(peer, Peer::Pods(_)) && is_peer(peer))
            }
        };
        match (&rule.ports, packet.traffic) {
            (Ports::All, _) => true,
            (Ports::Some(_), Traffic::Portless) => false,
            (Ports::Some(ports), Traffic::Port(protocol, number)) => {
                let target = self.owner(packet.destination);
                ports.iter().any(|port| {
                    port.protocol == protocol
                        && match &port.number {
                            PortNumber::Range(range) => range.contains(&number),
                            PortNumber::Named(_) => {
                                by_pod() && target.is_some_and(|pod| has(pod, port, number))
                            }
                        }
                })
            }
        }
    }
}

/// Returns whether a pod has a named port with this number.
fn has(pod: &Pod, port: &Port, number: u16) -> bool {
    let PortNumber::Named(name) = &port.number else { return false };
    pod.ports.contains(&NamedPort { protocol: port.protocol, name: name.clone(), number })
}
