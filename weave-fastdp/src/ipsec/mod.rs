//! Encryption of the fast datapath by the kernel's IPsec (spec fastdp.md, section 9).
//!
//! Each direction of a tunnel has a key of its own, agreed on over the mesh connection, and no
//! frame enters a tunnel before both are in the kernel.
//!
//! ```text
//!   LinkKeys ── message 1 ──▶ KeyExchange ── KeyCommand ──▶ Installer, on a thread of its own
//!            ◀── message 1 ──             ◀── KeyOutcome ──   │         │
//!                                                           Kernel   Firewall
//! ```
//!
//! * [`Ipsec`] is one per router, [`LinkKeys`] one per encrypted connection.
//! * [`KeyExchange`] is the state machine by which two neighbours agree on their keys.
//! * [`Installer`] keeps states, policies and firewall rules in an order in which nothing leaves in
//!   clear; it uses a [`Kernel`] and a [`Firewall`], which the caller implements.

mod announcement;
mod error;
mod installer;
mod key_exchange;
mod key_stats;
mod keys;
mod link_keys;
mod nonce;
mod reqid;
mod rules;
mod service;
#[cfg(test)]
mod tests;
mod worker;

pub use announcement::{ANNOUNCEMENT_LEN, Announcement, AnnouncementError};
pub use error::{FirewallError, IpsecError};
pub use installer::{Installer, Kernel};
pub use key_exchange::{KeyCommand, KeyExchange};
pub use keys::{NONCE_LEN, derive};
pub use link_keys::{KeyEvent, LinkKeys};
pub use reqid::ReqidRegistry;
pub use rules::{Firewall, FirewallRules, MARK, TunnelEnds};
pub use service::{Ipsec, IpsecStatus, is_in_use, remove_leftovers};
pub use worker::KeyOutcome;
