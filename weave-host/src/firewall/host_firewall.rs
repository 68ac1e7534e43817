//! What keeps the rules of a router.

use weave_firewall::nftables::Family;
use weave_firewall::{Backend, Leftovers, Outcome, Rules, remove_everywhere};

use super::original::POLICIES;
use super::policy::{Policy, RuleNames};
use super::{iptables, nftables, sealing};
use crate::error::HostError;

/// What keeps the rules of one router.
#[derive(Debug)]
pub struct Firewall(weave_firewall::Firewall);

impl Firewall {
    /// Finds the back end that this host uses, or takes the one that is asked for.
    ///
    /// # Errors
    /// If the one that is asked for is not there.
    pub fn open(wanted: Option<Backend>) -> Result<Self, HostError> {
        Ok(Self(weave_firewall::Firewall::open(wanted)?))
    }

    /// Returns where the rules are.
    pub const fn backend(&self) -> Backend {
        self.0.backend()
    }

    /// Makes the rules be as the policy says. A look that finds nothing to do changes nothing, and
    /// starts no program if nobody has changed any rule of nftables since the last one.
    ///
    /// # Errors
    /// If a program of the host fails.
    pub fn apply(&mut self, policy: &Policy) -> Result<Outcome, HostError> {
        let rules = Rules {
            ipv4: iptables::tables(policy),
            ipv6: iptables::tables_ipv6(policy),
            nftables: nftables::tables(policy),
        };
        Ok(self.0.apply(&rules)?)
    }

    /// Returns whether this back end cannot undo that a chain of somebody else drops what is
    /// forwarded.
    pub fn is_overruled(&self) -> bool {
        self.0.is_overruled()
    }

    /// Returns whether packets of IPv6 meet the rules, if the host has such packets.
    pub fn covers_ipv6(&self) -> bool {
        self.0.covers_ipv6()
    }

    /// Removes the rules that a router of this bridge left in any other back end.
    ///
    /// # Errors
    /// If a program of the host fails.
    pub fn remove_elsewhere(&self, bridge: &str) -> Result<(), HostError> {
        remove_everywhere(&leftovers(bridge), Some(self.backend()))?;
        Ok(())
    }
}

/// Returns what a router of this bridge may have left. The control port and the Docker bridge may
/// be others now: the rules say whose they are.
fn leftovers(bridge: &str) -> Leftovers {
    let RuleNames { table, .. } = RuleNames::of(bridge);
    Leftovers {
        ipv4: iptables::leftovers(bridge),
        ipv6: iptables::leftovers_ipv6(bridge),
        nftables: nftables::FAMILIES.map(|family| (family, table.clone())).into(),
    }
}

/// Removes all rules of a router of this bridge, in all back ends, and says in which there were
/// any.
///
/// # Errors
/// If a program of the host fails.
pub fn remove_rules(bridge: &str) -> Result<Vec<Backend>, HostError> {
    let mut found = remove_everywhere(&leftovers(bridge), None)?;
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
    Ok(remove_everywhere(&sealing::leftovers(bridge), None)?)
}

/// Removes the rules of network policies, which mislead when nobody keeps them up to date, and says
/// whether there were any.
///
/// # Errors
/// If a program of the host fails.
pub fn remove_policies() -> Result<bool, HostError> {
    let table = (Family::Inet, POLICIES.to_owned());
    let leftovers = Leftovers { nftables: vec![table], ..Leftovers::default() };
    Ok(!remove_everywhere(&leftovers, None)?.is_empty())
}
