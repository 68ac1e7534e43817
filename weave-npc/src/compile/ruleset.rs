//! The rules of a node, before they are written in the words of nftables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::digest::digest;
use crate::block::{AddressRange, Family};
use crate::object::{Direction, ObjectName, Protocol};

/// The rules of a node.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ruleset {
    /// The addresses of pods of this node that are isolated for a direction, with their chains.
    pub isolated: BTreeMap<(Direction, IpAddr), String>,
    /// The chains, by name.
    pub chains: BTreeMap<String, Chain>,
    /// The sets that the chains refer to, by name.
    pub sets: BTreeMap<String, Arc<AddressSet>>,
}

/// What pods with the same policies may receive, or send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// The direction.
    pub direction: Direction,
    /// What is allowed. Everything else is not.
    pub rules: Vec<ChainRule>,
}

impl Chain {
    /// Returns its name: the same for the same content.
    pub(super) fn name(&self) -> String {
        let kind = match self.direction {
            Direction::Ingress => "in",
            Direction::Egress => "out",
        };
        format!("{kind}-{}", digest(self))
    }
}

/// Allows packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainRule {
    /// The set that has the peer's address; any address is fine if there is none.
    pub addresses: Option<(Family, String)>,
    /// The ports at the destination.
    pub ports: PortMatch,
    /// Why.
    pub origin: Origin,
}

/// The rule of a policy that a rule of a chain comes from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// The policy.
    pub policy: ObjectName,
    /// Which of its rules for the direction, from 0.
    pub rule: usize,
}

/// Ports at a destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortMatch {
    /// Everything, also what has no ports.
    Any,
    /// These of a protocol: ascending ranges that neither overlap nor touch.
    Numbers(Protocol, Vec<(u16, u16)>),
    /// Those that a set has for the address of the destination.
    Named(Family, String),
}

/// A set, with its members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AddressSet {
    /// Addresses of pods.
    Addresses(Family, BTreeSet<IpAddr>),
    /// Ranges of one family, at least one: ascending, and they neither overlap nor touch.
    Ranges(Vec<AddressRange>),
    /// Ports of pods.
    Ports(Family, BTreeSet<(IpAddr, Protocol, u16)>),
}
