//! Rules in the chains of iptables, of either kind.
//!
//! Chains of the caller's own are written whole. In those that all share, only what is missing is
//! added: what is there is compared word by word with how `iptables -S` prints rules, so rules are
//! to be written in just that order.

mod listing;
mod table;

pub use listing::{Listing, is_same_rule};
pub use table::{Chain, Place, Shared, Table, removal, transaction};

use crate::backend::{Backend, Family, IptablesPrograms};
use crate::counter::Counter;
use crate::error::FirewallError;
use crate::ipv6::has_ipv6;
use crate::outcome::Outcome;
use listing::{counted_rules_of, rules_of};

/// Somebody else may be changing the rules, for at most these seconds.
const WAIT: &[&str] = &["-w", "5"];

/// Draws the ports of what is masqueraded by lot: without, two packets that leave at once can be
/// given the same one, and one is lost. Linux 3.13 and iptables 1.6.2 have it; it is left out
/// where they do not.
pub const RANDOM_FULLY: &str = " --random-fully";

/// One kind of iptables.
pub struct Iptables {
    backend: Backend,
    programs: IptablesPrograms,
    /// For IPv6, if the host has it and they work.
    programs_ipv6: Option<IptablesPrograms>,
    /// Whether [`RANDOM_FULLY`] is known.
    random_fully: bool,
}

impl std::fmt::Debug for Iptables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iptables").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl Iptables {
    /// Finds the programs of this kind.
    ///
    /// # Errors
    /// Fails if they are not there.
    pub fn open(backend: Backend) -> Result<Self, FirewallError> {
        let program = match backend {
            Backend::IptablesLegacy => "iptables-legacy",
            _ => "iptables-nft",
        };
        let programs = IptablesPrograms::find(backend, Family::Ipv4);
        let programs = programs.ok_or(FirewallError::NoProgram { program })?;
        let works = |programs: &IptablesPrograms| programs.chain("filter", "FORWARD").is_ok();
        let programs_ipv6 = has_ipv6().then(|| IptablesPrograms::find(backend, Family::Ipv6));
        let programs_ipv6 = programs_ipv6.flatten().filter(works);
        Ok(Self { backend, programs, programs_ipv6, random_fully: true })
    }

    /// Returns which kind it is.
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// Returns whether packets of IPv6 meet the rules, if the host has such packets.
    pub fn covers_ipv6(&self) -> bool {
        self.programs_ipv6.is_some() || !has_ipv6()
    }

    /// Asks the kernel for something.
    ///
    /// # Errors
    /// Fails if it does not answer.
    pub fn probe(&self) -> Result<(), FirewallError> {
        self.programs.chain("filter", "FORWARD").map(drop)
    }

    /// Makes the rules be these.
    ///
    /// # Errors
    /// Fails if a program of the host fails.
    pub fn apply(&mut self, ipv4: &[Table], ipv6: &[Table]) -> Result<Outcome, FirewallError> {
        let outcome = self.apply_ipv4(ipv4)?;
        match self.programs_ipv6.as_ref().map(|programs| programs.apply(ipv6)) {
            Some(Ok(Outcome::Changed)) => Ok(Outcome::Changed),
            Some(Err(error)) => Err(error),
            Some(Ok(Outcome::InOrder)) | None => Ok(outcome),
        }
    }

    fn apply_ipv4(&mut self, tables: &[Table]) -> Result<Outcome, FirewallError> {
        let simpler: Vec<_> = tables.iter().map(|table| table.without(RANDOM_FULLY)).collect();
        let applied = if self.random_fully { tables } else { &simpler };
        match self.programs.apply(applied) {
            Err(error @ FirewallError::Program { .. })
                if self.random_fully && simpler != tables =>
            {
                let outcome = self.programs.apply(&simpler).map_err(|_| error)?;
                self.random_fully = false;
                Ok(outcome)
            }
            result => result,
        }
    }

    /// Makes what is missing. Chains of the caller's own that are there, and for which there are no
    /// rules here, keep those they have.
    ///
    /// # Errors
    /// Fails if a program of the host fails.
    pub fn prepare(&self, tables: &[Table]) -> Result<(), FirewallError> {
        let present = self.programs.present(tables)?;
        let mut tables = tables.to_vec();
        for table in &mut tables {
            let Table { name, own, .. } = table;
            let missing = |chain: &Chain| !present.contains_key(&(*name, chain.name.clone()));
            own.retain(|chain| missing(chain) || !chain.rules.is_empty());
        }
        match transaction(&tables, &present) {
            Some(text) => self.programs.restore(&text),
            None => Ok(()),
        }
    }

    /// Removes the chains of these tables, and all rules that are like those for shared chains, and
    /// returns whether there was anything. A word `*` is like any.
    ///
    /// # Errors
    /// Fails if a program of the host fails.
    pub fn remove(&self, ipv4: &[Table], ipv6: &[Table]) -> Result<bool, FirewallError> {
        let mut found = self.programs.remove(ipv4)?;
        if let Some(programs) = &self.programs_ipv6 {
            found |= programs.remove(ipv6)?;
        }
        Ok(found)
    }

    /// Returns whether there is anything that [`Self::remove`] would remove.
    ///
    /// # Errors
    /// Fails if a program of the host fails.
    pub fn finds(&self, ipv4: &[Table], ipv6: &[Table]) -> Result<bool, FirewallError> {
        let finds = |programs: &IptablesPrograms, tables| {
            Ok(removal(tables, &programs.present(tables)?).is_some())
        };
        let found = finds(&self.programs, ipv4)?;
        match &self.programs_ipv6 {
            Some(programs) if !found => finds(programs, ipv6),
            _ => Ok(found),
        }
    }

    /// Returns the rules of a chain of IPv4 with what they have counted; none if there is no such
    /// chain.
    ///
    /// # Errors
    /// Fails if a program of the host fails, or prints what cannot be read.
    pub fn counters(
        &self,
        table: &str,
        chain: &str,
    ) -> Result<Option<Vec<(String, Counter)>>, FirewallError> {
        let arguments = [WAIT, &["-t", table, "-v", "-S", chain]].concat();
        match self.programs.list.run(&arguments, "") {
            Ok(text) => counted_rules_of(chain, &text),
            Err(FirewallError::Program { complaint, .. }) if is_absence(&complaint) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl IptablesPrograms {
    fn apply(&self, tables: &[Table]) -> Result<Outcome, FirewallError> {
        let Some(text) = transaction(tables, &self.present(tables)?) else {
            return Ok(Outcome::InOrder);
        };
        self.restore(&text)?;
        match transaction(tables, &self.present(tables)?) {
            None => Ok(Outcome::Changed),
            Some(missing) => {
                let rules = missing.lines().collect::<Vec<_>>().join("; ");
                Err(FirewallError::Rules { rules })
            }
        }
    }

    fn remove(&self, tables: &[Table]) -> Result<bool, FirewallError> {
        match removal(tables, &self.present(tables)?) {
            Some(text) => self.restore(&text).map(|()| true),
            None => Ok(false),
        }
    }

    /// Returns what is in the chains of these tables.
    fn present(&self, tables: &[Table]) -> Result<Listing, FirewallError> {
        let mut listing = Listing::new();
        for table in tables {
            listing.append(&mut self.listing(table.name, &table.chains())?);
        }
        Ok(listing)
    }

    /// Returns what is in these chains of a table: all by one program, because to start one takes
    /// longer than to print a table.
    fn listing(&self, table: &'static str, chains: &[&str]) -> Result<Listing, FirewallError> {
        let arguments = [WAIT, &["-t", table, "-S"]].concat();
        let text = match self.list.run(&arguments, "") {
            Ok(text) => Some(text),
            // Somebody keeps rules in another chain that only nft can print.
            Err(FirewallError::Program { complaint, .. }) if is_absence(&complaint) => None,
            Err(error) => return Err(error),
        };
        let mut listing = Listing::new();
        for chain in chains {
            let rules = match &text {
                Some(text) => rules_of(chain, text),
                None => self.chain(table, chain)?,
            };
            listing.extend(rules.map(|rules| ((table, (*chain).to_owned()), rules)));
        }
        Ok(listing)
    }

    fn chain(&self, table: &str, chain: &str) -> Result<Option<Vec<String>>, FirewallError> {
        let arguments = [WAIT, &["-t", table, "-S", chain]].concat();
        match self.list.run(&arguments, "") {
            Ok(text) => Ok(rules_of(chain, &text)),
            Err(FirewallError::Program { complaint, .. }) if is_absence(&complaint) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn restore(&self, text: &str) -> Result<(), FirewallError> {
        self.restore.run(&[WAIT, &["--noflush"]].concat(), text).map(drop)
    }
}

/// Returns whether this is what the kinds of iptables say of a chain that is not there.
/// "Incompatible" is what 1.8.9 on nftables calls it; one that really is shows when it is written.
fn is_absence(complaint: &str) -> bool {
    ["No chain/target/match by that name", "does not exist", "is incompatible, use 'nft' tool"]
        .iter()
        .any(|text| complaint.contains(text))
}
