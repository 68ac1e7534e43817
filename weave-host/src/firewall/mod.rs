//! The rules that the switch needs in the firewall of its host (spec router.md, section 7).
//!
//! ```text
//!   Policy     ──▶ iptables, nftables: rules as data ─┐
//!   SealPolicy ──▶ sealing: the same                  ├─▶ weave_firewall ──▶ the host's back end
//! ```
//!
//! [`weave_firewall`] finds the back end and makes the rules; which rules there are is said here.

mod host_firewall;
mod iptables;
mod nftables;
mod original;
mod policy;
mod sealing;

pub use host_firewall::{Firewall, remove_policies, remove_rules, remove_seal_rules};
pub use original::{original_policies_stand, remove_original_rules};
pub use policy::{ClosedPorts, HostAddress, Policy, VxlanSenders};
pub use sealing::{SealFirewall, SealPolicy, SealedState, SealedTunnel};
pub use weave_firewall::{Backend, BackendError, FirewallError, Generation, Outcome};
