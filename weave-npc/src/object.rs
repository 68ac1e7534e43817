//! Pods, namespaces and policies, with what decides about reachability and nothing else.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use weave_core::Cidr;

use crate::labels::{Labels, Selector};

/// The name of an object in a namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl ObjectName {
    /// Puts the two together.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

/// A pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Its name.
    pub name: ObjectName,
    /// Tells two pods apart that had one name.
    pub uid: String,
    /// When it was created, as RFC 3339 in UTC: later ones compare greater.
    pub created: String,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses, at most one of each family.
    pub addresses: BTreeSet<IpAddr>,
    /// The name of its node, once it has one.
    pub node: Option<String>,
    /// The addresses of its node.
    pub node_addresses: BTreeSet<IpAddr>,
    /// How it is attached to the network.
    pub network: PodNetwork,
    /// The ports of its containers that have names.
    pub ports: BTreeSet<NamedPort>,
}

/// How a pod is attached to the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PodNetwork {
    /// It has addresses of its own.
    Own,
    /// It has those of its node, so that its traffic is that of the node.
    Host,
    /// It has ended. Its addresses stay in the object, but others may have them by now.
    Ended,
}

/// A port of a pod that has a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NamedPort {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u16,
}

/// A protocol with ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// A NetworkPolicy of `networking.k8s.io/v1`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Its name.
    pub name: ObjectName,
    /// The pods of its namespace that it is about.
    pub pods: Selector,
    /// What may reach them; none if it does not isolate them for ingress.
    pub ingress: Option<Vec<Rule>>,
    /// What they may reach; none if it does not isolate them for egress.
    pub egress: Option<Vec<Rule>>,
}

impl Policy {
    /// Returns its rules for a direction; none if it does not isolate pods for that.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// A direction, as seen from the pod that a policy is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// Allows what comes from, or goes to, one of the peers, at one of the ports.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rule {
    /// The peers.
    pub peers: Peers,
    /// The ports.
    pub ports: Ports,
}

/// The peers of a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Peers {
    /// Anything, also outside of the cluster.
    Anywhere,
    /// One of these.
    Some(Vec<Peer>),
}

/// A peer of a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Peer {
    /// Pods.
    Pods(PodPeer),
    /// Addresses.
    Block {
        /// The addresses,
        block: Cidr,
        /// and those of them that are not meant.
        except: Vec<Cidr>,
    },
}

/// Pods that a rule means.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PodPeer {
    /// Where they are.
    pub namespaces: Namespaces,
    /// Which of those there.
    pub pods: Selector,
}

/// The namespaces that a rule means.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Namespaces {
    /// That of the policy.
    Own,
    /// Those with such labels.
    Matching(Selector),
}

/// The ports of a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ports {
    /// Everything, also what has no ports.
    All,
    /// One of these.
    Some(Vec<Port>),
}

/// A port of a rule, at the destination.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Port {
    /// Its protocol.
    pub protocol: Protocol,
    /// Which of the protocol's ports.
    pub number: PortNumber,
}

/// Which ports of a protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortNumber {
    /// These.
    Range(RangeInclusive<u16>),
    /// The port that has this name in the pod that is the destination. No port of anything else.
    Named(String),
}

impl PortNumber {
    /// All ports.
    pub const ANY: Self = Self::Range(0..=u16::MAX);

    fn key(&self) -> (u16, u16, &str) {
        match self {
            Self::Range(range) => (*range.start(), *range.end(), ""),
            Self::Named(name) => (u16::MAX, 0, name),
        }
    }
}

impl PartialOrd for PortNumber {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PortNumber {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
