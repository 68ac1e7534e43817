//! The same rules, whichever back end the host uses.

use crate::backend::{self, Backend};
use crate::error::FirewallError;
use crate::generation::InOrder;
use crate::iptables::{self, Iptables};
use crate::nftables::{self, Family, Nftables};
use crate::outcome::Outcome;

/// What the back ends are to hold: each takes its own part.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rules {
    /// For iptables of IPv4.
    pub ipv4: Vec<iptables::Table>,
    /// For iptables of IPv6.
    pub ipv6: Vec<iptables::Table>,
    /// For nftables.
    pub nftables: Vec<nftables::Table>,
}

/// What may be left of earlier rules.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Leftovers {
    /// In iptables of IPv4, in the order in which it is to go.
    pub ipv4: Vec<iptables::Table>,
    /// In iptables of IPv6.
    pub ipv6: Vec<iptables::Table>,
    /// Tables of nftables.
    pub nftables: Vec<(Family, String)>,
}

/// What keeps the rules of one program.
#[derive(Debug)]
pub struct Firewall {
    engine: Engine,
    in_order: InOrder<Rules>,
}

#[derive(Debug)]
enum Engine {
    Iptables(Iptables),
    Nftables(Nftables),
    None,
}

impl Firewall {
    /// Finds the back end that this host uses, [`Backend::None`] if none works, or takes the one
    /// that is asked for.
    ///
    /// # Errors
    /// Fails if the one that is asked for is not there.
    pub fn open(wanted: Option<Backend>) -> Result<Self, FirewallError> {
        let engine = match wanted {
            Some(backend) => Engine::open(backend)?,
            None => Engine::first_that_works(&backend::preferred()),
        };
        Ok(Self { engine, in_order: InOrder::default() })
    }

    /// Returns where the rules are.
    pub const fn backend(&self) -> Backend {
        match &self.engine {
            Engine::Iptables(iptables) => iptables.backend(),
            Engine::Nftables(_) => Backend::Nftables,
            Engine::None => Backend::None,
        }
    }

    /// Makes the rules be these. A look that finds nothing to do changes nothing, and starts no
    /// program if nobody has changed any rule of nftables since the last one.
    ///
    /// # Errors
    /// Fails if a program of the host fails.
    pub fn apply(&mut self, rules: &Rules) -> Result<Outcome, FirewallError> {
        let backend = self.backend();
        let Self { engine, in_order } = self;
        in_order.or_look(backend, rules, || match engine {
            Engine::Iptables(iptables) => iptables.apply(&rules.ipv4, &rules.ipv6),
            Engine::Nftables(nftables) => nftables.apply(&rules.nftables),
            Engine::None => Ok(Outcome::InOrder),
        })
    }

    /// Makes what is missing for these rules. What an earlier program left is in use: a chain for
    /// which there are no rules here keeps those it has, and so does a table of nftables.
    ///
    /// # Errors
    /// Fails if a program of the host fails.
    pub fn prepare(&mut self, rules: &Rules) -> Result<(), FirewallError> {
        match &mut self.engine {
            Engine::Iptables(iptables) => iptables.prepare(&rules.ipv4),
            Engine::Nftables(nftables) => {
                for table in &rules.nftables {
                    if nftables.show(table.family(), table.name())?.is_none() {
                        nftables.replace(table)?;
                    }
                }
                Ok(())
            }
            Engine::None => Ok(()),
        }
    }

    /// Removes what is left of rules, and returns whether there was anything.
    ///
    /// # Errors
    /// Fails if a program of the host fails.
    pub fn remove(&mut self, leftovers: &Leftovers) -> Result<bool, FirewallError> {
        self.in_order = InOrder::default();
        match &mut self.engine {
            Engine::Iptables(iptables) => iptables.remove(&leftovers.ipv4, &leftovers.ipv6),
            Engine::Nftables(nftables) => {
                let mut found = false;
                for (family, table) in &leftovers.nftables {
                    found |= nftables.delete(*family, table)?;
                }
                Ok(found)
            }
            Engine::None => Ok(false),
        }
    }

    /// Returns whether anything is left of rules, without a change.
    ///
    /// # Errors
    /// Fails if a program of the host fails.
    pub fn finds(&self, leftovers: &Leftovers) -> Result<bool, FirewallError> {
        match &self.engine {
            Engine::Iptables(iptables) => iptables.finds(&leftovers.ipv4, &leftovers.ipv6),
            Engine::Nftables(nftables) => {
                for (family, table) in &leftovers.nftables {
                    if nftables.show(*family, table)?.is_some() {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Engine::None => Ok(false),
        }
    }

    /// Returns whether this back end cannot undo that a chain of somebody else drops what is
    /// forwarded.
    pub fn is_overruled(&self) -> bool {
        matches!(&self.engine, Engine::Nftables(nftables) if nftables.is_overruled())
    }

    /// Returns whether packets of IPv6 meet the rules, if the host has such packets.
    pub fn covers_ipv6(&self) -> bool {
        match &self.engine {
            Engine::Iptables(iptables) => iptables.covers_ipv6(),
            Engine::Nftables(_) => true,
            Engine::None => false,
        }
    }
}

/// Removes what is left of rules in all back ends but one, and returns in which there was
/// anything.
///
/// # Errors
/// Fails if a program of the host fails.
pub fn remove_everywhere(
    leftovers: &Leftovers,
    spare: Option<Backend>,
) -> Result<Vec<Backend>, FirewallError> {
    let mut found = Vec::new();
    for backend in backend::in_use().into_iter().filter(|backend| Some(*backend) != spare) {
        if Firewall::open(Some(backend))?.remove(leftovers)? {
            found.push(backend);
        }
    }
    Ok(found)
}

/// Returns in which back ends anything is left of rules.
///
/// # Errors
/// Fails if a program of the host fails.
pub fn find_everywhere(leftovers: &Leftovers) -> Result<Vec<Backend>, FirewallError> {
    let mut found = Vec::new();
    for backend in backend::in_use() {
        if Firewall::open(Some(backend))?.finds(leftovers)? {
            found.push(backend);
        }
    }
    Ok(found)
}

impl Engine {
    fn open(backend: Backend) -> Result<Self, FirewallError> {
        Ok(match backend {
            Backend::IptablesNft | Backend::IptablesLegacy => {
                Self::Iptables(Iptables::open(backend)?)
            }
            Backend::Nftables => Self::Nftables(Nftables::open()?),
            Backend::None => Self::None,
        })
    }

    /// Opens the first that works: a program may be there without the kernel's part of it.
    fn first_that_works(backends: &[Backend]) -> Self {
        let works = |backend: &Backend| {
            let engine = Self::open(*backend)?;
            match &engine {
                Self::Iptables(iptables) => iptables.probe()?,
                Self::Nftables(nftables) => nftables.probe()?,
                Self::None => {}
            }
            Ok(engine)
        };
        for backend in backends {
            match works(backend) {
                Ok(engine) => return engine,
                Err::<_, FirewallError>(error) => {
                    tracing::debug!(%backend, %error, "no firewall");
                }
            }
        }
        Self::None
    }
}
