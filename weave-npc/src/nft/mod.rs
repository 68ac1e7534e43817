//! Rules in the words of nftables: one table, and the changes from one state of it to another.
//!
//! ```text
//!   table inet weave-npc
//!     chain post            every packet that leaves for a pod or comes from one, after Services
//!       established?         ──▶ accept
//!       from this node?      ──▶ accept         kubelet's probes
//!       from a pod to itself ──▶ accept
//!       source in map out?   ──▶ jump out-…     a pod of this node that is isolated for egress
//!       destination in map in? ▶ jump in-…      the same for ingress
//!       anything else        ──▶ accept
//!     chain in-…, out-…     a rule for each thing that is allowed: return
//!                           the rest: goto refused-in, refused-out: log, count, drop
//! ```
//!
//! The hook is postrouting, before sources are translated: the addresses of pods are visible on both
//! sides there, also through a Service, and with kube-proxy in each of its modes. What a pod sends
//! to its own node does not pass it.

mod change;
mod table;

pub use change::change;
pub use table::table;

use crate::block::Family;
use crate::object::Direction;

/// The name of the table, which is of the family `inet`.
pub const TABLE: &str = "weave-npc";

/// The group of NFLOG to which packets go that are refused, as in Weave Net.
pub const LOG_GROUP: u16 = 86;

/// What does not follow from the objects of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Whether multicast is allowed, whatever policies say: Weave Net's `--allow-mcast`.
    pub multicast: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { multicast: true }
    }
}

/// Returns the name of the map from isolated addresses to chains.
const fn map(direction: Direction, family: Family) -> &'static str {
    match (direction, family) {
        (Direction::Ingress, Family::V4) => "in4",
        (Direction::Ingress, Family::V6) => "in6",
        (Direction::Egress, Family::V4) => "out4",
        (Direction::Egress, Family::V6) => "out6",
    }
}

/// Returns the name of the set of pairs of an isolated address with itself.
const fn own(family: Family) -> &'static str {
    match family {
        Family::V4 => "own4",
        Family::V6 => "own6",
    }
}

const fn refused(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "refused-in",
        Direction::Egress => "refused-out",
    }
}

const fn protocol(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

const fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}
