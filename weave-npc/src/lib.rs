//! Kubernetes NetworkPolicy: who may reach whom, and why; compiled to one table of nftables.
//!
//! ```text
//!   api ──read──▶ Change ──▶ Cluster ─┬─judge──▶ Verdict, with the policy and rule that gives it
//!                                     └─compile─▶ Ruleset of one node ──nft──▶ table, or batch
//! ```
//!
//! The model, [`Cluster`], does no I/O: objects go in, and it answers for any packet. It is what
//! the rules in the kernel are compared with.
//!
//! The feature `controller`, which is on by default, is what runs on a node: it watches the objects
//! of a cluster and keeps the kernel in step. Without it the crate does no I/O but for that of the
//! firewall that it is asked for.
//!
//! # Example
//!
//! ```
//! use weave_npc::{api, Change, Cluster, Direction, Packet, Protocol, Traffic};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pod: api::Pod = serde_json::from_str(r#"{
//!     "metadata": {"name": "db", "namespace": "shop", "labels": {"app": "db"}},
//!     "status": {"phase": "Running", "podIP": "10.32.0.5"}
//! }"#)?;
//! let policy: api::NetworkPolicy = serde_json::from_str(r#"{
//!     "metadata": {"name": "quiet", "namespace": "shop"},
//!     "spec": {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}
//! }"#)?;
//! let (policy, problems) = policy.read();
//! assert!(problems.is_empty());
//! let cluster: Cluster =
//!     [Change::Pod(Box::new(pod.read())), Change::Policy(policy)].into_iter().collect();
//!
//! let packet = Packet {
//!     source: "10.32.0.9".parse()?,
//!     destination: "10.32.0.5".parse()?,
//!     traffic: Traffic::Port(Protocol::Tcp, 5432),
//! };
//! assert!(!cluster.judge(Direction::Ingress, &packet).is_allowed());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod api;
mod block;
mod blocked;
mod cluster;
#[cfg(feature = "controller")]
mod command;
mod compile;
#[cfg(feature = "controller")]
pub mod controller;
mod enforcer;
mod labels;
pub mod nft;
mod object;
mod verdict;

pub use block::{AddressRange, Family, ranges};
pub use blocked::{Blocked, BlockedCounts, BlockedLog};
pub use cluster::{Change, Cluster};
#[cfg(feature = "controller")]
pub use command::{CommandError, Npc};
pub use compile::{AddressSet, Chain, ChainRule, Compiler, Origin, PortMatch, Ruleset, compile};
pub use enforcer::Enforcer;
pub use labels::{Condition, Labels, Requirement, Selector};
pub use object::{
    Direction, NamedPort, Namespace, Namespaces, ObjectName, Peer, Peers, Pod, PodNetwork, PodPeer,
    Policy, Port, PortNumber, Ports, Protocol, Rule,
};
pub use verdict::{Allowed, Packet, Traffic, Verdict};
