//! The rules the switch needs in the firewall of its host (spec router.md, section 7).
//!
//! ```text
//!  Policy ──▶ iptables: rules ──▶ difference from what is there ──▶ iptables-restore
//!         └─▶ nftables: a table of our own ──▶ nft -f
//! ```
//!
//! Who accepts a packet in a table of their own accepts it there alone: the chain of somebody
//! else behind it, say FORWARD with the policy DROP that Docker sets, drops it all the same. So
//! where a host has iptables, the rules go into the chains of iptables, in the back end that its
//! other users are in; nftables itself is for hosts that have nothing else.

mod backend;
mod generation;
mod iptables;
mod nftables;
mod policy;
mod program;
mod sealing;

pub use backend::{Backend, BackendError};
pub use policy::{ClosedPorts, HostAddress, Policy, VxlanSenders};
pub use sealing::{SealFirewall, SealPolicy, SealedState, SealedTunnel};

use crate::error::HostError;
pub use generation::Generation;
use generation::InOrder;
use iptables::Iptables;
use nftables::Nftables;

/// What keeps the rules of one router.
#[derive(Debug)]
pub struct Firewall {
    rules: Rules,
    in_order: InOrder<Policy>,
}

#[derive(Debug)]
enum Rules {
    Iptables(Iptables),
    Nftables(Nftables),
    None,
}

/// What a look at the rules led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// They were as they should be.
    InOrder,
    /// Some were missing, or were others: they are made.
    Changed,
}

impl Firewall {
    /// Finds the back end that this host uses, or takes the one that is asked for.
    ///
    /// # Errors
    /// If the one that is asked for is not there.
    pub fn open(wanted: Option<Backend>) -> Result<Self, HostError> {
        let rules = match wanted {
            Some(backend) => Rules::open(backend)?,
            None => Rules::first_that_works(&backend::preferred()),
        };
        Ok(Self { rules, in_order: InOrder::default() })
    }

    /// Where the rules are.
    pub const fn backend(&self) -> Backend {
        match &self.rules {
            Rules::Iptables(iptables) => iptables.backend(),
            Rules::Nftables(_) => Backend::Nftables,
            Rules::None => Backend::None,
        }
    }

    /// Makes the rules be as the policy says. A look that finds nothing to do changes nothing, and starts no program
    /// if nobody has changed any rule of nftables since the last one.
    ///
    /// # Errors
    /// If a program of the host fails.
    pub fn apply(&mut self, policy: &Policy) -> Result<Outcome, HostError> {
        let backend = self.backend();
        let Self { rules, in_order } = self;
        in_order.or_look(backend, policy, || match rules {
            Rules::Iptables(iptables) => iptables.apply(policy),
            Rules::Nftables(nftables) => nftables.apply(policy),
            Rules::None => Ok(Outcome::InOrder),
        })
    }

    /// Whether this back end cannot undo that a chain of somebody else drops what is forwarded.
    pub fn is_overruled(&self) -> bool {
        matches!(&self.rules, Rules::Nftables(nftables) if nftables.is_overruled())
    }

    /// Whether packets of IPv6 meet the rules, if the host has such packets.
    pub fn covers_ipv6(&self) -> bool {
        match &self.rules {
            Rules::Iptables(iptables) => iptables.covers_ipv6(),
            Rules::Nftables(_) => true,
            Rules::None => false,
        }
    }

    /// Removes the rules that a router of this bridge left in any other back end.
    ///
    /// # Errors
    /// If a program of the host fails.
    pub fn remove_elsewhere(&self, bridge: &str) -> Result<(), HostError> {
        remove(bridge, Some(self.backend())).map(drop)
    }
}

/// Removes all rules of a router of this bridge, in all back ends, and says in which there were
/// any. The control port and the Docker bridge may be others now: the rules say whose they are.
///
/// # Errors
/// If a program of the host fails.
pub fn remove_rules(bridge: &str) -> Result<Vec<Backend>, HostError> {
    let mut found = remove(bridge, None)?;
    for backend in remove_seal_rules(bridge)? {
        if !found.contains(&backend) {
            found.push(backend);
        }
    }
    Ok(found)
}

/// Removes the rules by which a router of this bridge sealed tunnels, in all back ends, and says
/// in which there were any.
///
/// # Errors
/// If a program of the host fails.
pub fn remove_seal_rules(bridge: &str) -> Result<Vec<Backend>, HostError> {
    let mut found = Vec::new();
    for backend in backend::in_use() {
        if sealing::remove(backend, bridge)? {
            found.push(backend);
        }
    }
    Ok(found)
}

fn remove(bridge: &str, spare: Option<Backend>) -> Result<Vec<Backend>, HostError> {
    let mut found = Vec::new();
    for backend in backend::in_use().into_iter().filter(|backend| Some(*backend) != spare) {
        let removed = match Rules::open(backend)? {
            Rules::Iptables(iptables) => iptables.remove(bridge)?,
            Rules::Nftables(nftables) => nftables.remove(bridge)?,
            Rules::None => false,
        };
        if removed {
            found.push(backend);
        }
    }
    Ok(found)
}

impl Rules {
    fn open(backend: Backend) -> Result<Self, HostError> {
        Ok(match backend {
            Backend::IptablesNft | Backend::IptablesLegacy => {
                Self::Iptables(Iptables::open(backend)?)
            }
            Backend::Nftables => Self::Nftables(Nftables::open()?),
            Backend::None => Self::None,
        })
    }

    /// A program may be there without the kernel's part of it.
    fn first_that_works(backends: &[Backend]) -> Self {
        let works = |backend: &Backend| {
            let rules = Self::open(*backend)?;
            match &rules {
                Self::Iptables(iptables) => iptables.probe()?,
                Self::Nftables(nftables) => nftables.probe()?,
                Self::None => {}
            }
            Ok(rules)
        };
        for backend in backends {
            match works(backend) {
                Ok(rules) => return rules,
                Err::<_, HostError>(error) => tracing::debug!(%backend, %error, "no firewall"),
            }
        }
        Self::None
    }
}
