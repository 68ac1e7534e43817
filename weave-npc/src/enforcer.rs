//! Keeps the table in the kernel.

use weave_firewall::nftables::{Family, Nftables};
use weave_firewall::{FirewallError, Generation, Outcome};

use crate::compile::Ruleset;
use crate::nft::{self, Options, TABLE};

/// Keeps the table in the kernel what it should be.
///
/// The first ruleset replaces the table that an earlier process left, in one transaction: until then
/// that one stays in force, and it stays when this process ends. Later ones change what differs,
/// also in one transaction. If that fails, or if somebody else has changed the table, it is replaced
/// again.
#[derive(Debug)]
pub struct Enforcer {
    nftables: Nftables,
    options: Options,
    applied: Option<Ruleset>,
    /// The number of the last change of nftables, if it was ours.
    generation: Option<Generation>,
    /// How the kernel shows the table when it is as it should be.
    shown: Option<String>,
}

impl Enforcer {
    /// Finds nftables.
    ///
    /// # Errors
    /// Fails if there is no `nft`, or if the kernel does not know nftables.
    pub fn open(options: Options) -> Result<Self, FirewallError> {
        let nftables = Nftables::open()?;
        nftables.probe()?;
        Ok(Self { nftables, options, applied: None, generation: None, shown: None })
    }

    /// Makes the table hold these rules.
    ///
    /// # Errors
    /// Fails if the kernel takes neither the change nor the whole: then what was there stays.
    pub fn enforce(&mut self, ruleset: &Ruleset) -> Result<Outcome, FirewallError> {
        if self.applied.as_ref() == Some(ruleset) {
            return Ok(Outcome::InOrder);
        }
        if let Some(applied) = &self.applied {
            let batch = nft::change(applied, ruleset);
            let undisturbed = self.generation.is_some() && self.generation == Generation::current();
            match self.nftables.change(&batch) {
                Ok(()) => {
                    // Somebody's change in between shows as a gap, and at the next check.
                    let now = Generation::current().zip(self.generation);
                    let ours = now.filter(|(now, old)| undisturbed && now.follows(*old));
                    self.generation = ours.map(|(now, _)| now);
                    self.shown = None;
                    self.applied = Some(ruleset.clone());
                    return Ok(Outcome::Changed);
                }
                Err(error) => {
                    tracing::warn!(%error, "the rules of policies are replaced, as a change failed");
                }
            }
        }
        self.replace(ruleset)
    }

    fn replace(&mut self, ruleset: &Ruleset) -> Result<Outcome, FirewallError> {
        self.applied = None;
        (self.generation, self.shown) = (None, None);
        let before = Generation::current();
        self.nftables.replace(&nft::table(ruleset, self.options))?;
        let after = Generation::current().zip(before);
        self.generation = after.filter(|(now, old)| now.follows(*old)).map(|(now, _)| now);
        self.applied = Some(ruleset.clone());
        Ok(Outcome::Changed)
    }

    /// Restores the table if somebody else has changed it. Cheap if nobody has changed anything.
    ///
    /// # Errors
    /// Fails if the kernel does not take the table.
    pub fn check(&mut self) -> Result<Outcome, FirewallError> {
        let Some(applied) = self.applied.clone() else { return Ok(Outcome::InOrder) };
        let before = Generation::current();
        let ours = before.is_some() && before == self.generation;
        if ours && self.shown.is_some() {
            return Ok(Outcome::InOrder);
        }
        let shown = self.nftables.show(Family::Inet, TABLE)?;
        let still = before == Generation::current();
        if ours && still && shown.is_some() {
            // Nobody had a hand in it: so it looks when it is right.
            self.shown = shown;
            return Ok(Outcome::InOrder);
        }
        if shown.is_some() && shown == self.shown {
            // The change was in another table.
            self.generation = before.filter(|_| still);
            return Ok(Outcome::InOrder);
        }
        tracing::warn!(table = TABLE, "the rules of policies are restored: they were changed");
        self.replace(&applied)
    }
}
