//! Rules in the firewall of a Linux host: nftables, iptables of either kind, and ipset, whichever
//! the host uses. The rules are data of the caller; there is no policy in this crate.
//!
//! ```text
//!   Rules ──▶ Firewall ─┬─ iptables: difference from what is there ──▶ iptables-restore
//!   (of the caller)     └─ nftables: tables of the caller's own    ──▶ nft -f
//!
//!   iptables::Table   chains of the caller's own, and rules in the chains that all share
//!   nftables::Table   replaced whole, or changed by a Batch: sets, verdict maps, counters
//!   ipset::Ipset      sets for rules of iptables
//! ```
//!
//! Who accepts a packet in a table of their own accepts it there alone: the chain of somebody
//! else behind it, say FORWARD with the policy DROP that Docker sets, drops it all the same. So
//! where a host has iptables, [`Firewall::open`] prefers the kind of iptables that its other users
//! are in; nftables itself is for hosts that have nothing else, and for tables that only drop.
//!
//! Each change is one transaction of the kernel, which happens as a whole or not at all. A look
//! that finds everything in order changes nothing, and starts no program if nobody has changed any
//! rule of nftables since the last one ([`Generation`]).
//!
//! # Example
//!
//! Rules for a table of nftables, which need no kernel to be looked at; `nftables::Nftables`
//! makes them:
//!
//! ```
//! use weave_firewall::nftables::{Batch, Chain, Family, Hook, Set, Table, Verdict, VerdictMap};
//!
//! # fn main() -> Result<(), weave_firewall::FirewallError> {
//! let table = Table::new(Family::Ip, "npc")
//!     .with_counter("refused")
//!     .with_set(Set::new("clients", "ipv4_addr").with_elements(["10.32.0.7"]))
//!     .with_map(VerdictMap::new("pods", "ipv4_addr"))
//!     .with_chain(
//!         Chain::base("forward", Hook::Forward)
//!             .with_rule("ct state established,related accept")
//!             .with_rule("ip daddr vmap @pods"),
//!     );
//! assert!(table.script()?.contains("map pods { type ipv4_addr : verdict; }"));
//!
//! // A pod comes: its chain, and the way there, in one transaction.
//! let batch = Batch::new(Family::Ip, "npc")
//!     .replace_chain(
//!         Chain::regular("pod-1")
//!             .with_rule("ip saddr @clients accept")
//!             .with_rule("counter name refused drop"),
//!     )
//!     .add_to_map("pods", [("10.32.0.9".to_owned(), Verdict::Jump("pod-1".to_owned()))]);
//! assert!(batch.script()?.ends_with("add element ip npc pods { 10.32.0.9 : jump pod-1 }\n"));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod backend;
mod counter;
mod error;
mod firewall;
mod generation;
pub mod ipset;
pub mod iptables;
mod ipv6;
pub mod nftables;
mod outcome;
mod program;

pub use backend::{Backend, BackendError, in_use};
pub use counter::Counter;
pub use error::FirewallError;
pub use firewall::{Firewall, Leftovers, Rules, find_everywhere, remove_everywhere};
pub use generation::Generation;
pub use outcome::Outcome;
