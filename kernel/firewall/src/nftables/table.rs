//! A table as a whole.

use std::fmt::Write as _;

use super::Family;
use super::parts::{Chain, Set, VerdictMap, name};
use crate::error::FirewallError;

/// A table of the caller's own, with all that is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    family: Family,
    name: String,
    counters: Vec<String>,
    sets: Vec<Set>,
    maps: Vec<VerdictMap>,
    chains: Vec<Chain>,
}

impl Table {
    /// Returns an empty table.
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self {
            family,
            name: name.into(),
            counters: Vec::new(),
            sets: Vec::new(),
            maps: Vec::new(),
            chains: Vec::new(),
        }
    }

    /// Returns the packets that it sees.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a named counter: rules count with `counter name NAME`.
    #[must_use]
    pub fn with_counter(mut self, name: impl Into<String>) -> Self {
        self.counters.push(name.into());
        self
    }

    /// Adds a set: rules refer to it as `@NAME`.
    #[must_use]
    pub fn with_set(mut self, set: Set) -> Self {
        self.sets.push(set);
        self
    }

    /// Adds a map: rules refer to it as `vmap @NAME`.
    #[must_use]
    pub fn with_map(mut self, map: VerdictMap) -> Self {
        self.maps.push(map);
        self
    }

    /// Adds a chain; those come first to which others, or maps, jump.
    #[must_use]
    pub fn with_chain(mut self, chain: Chain) -> Self {
        self.chains.push(chain);
        self
    }

    /// Returns what replaces it in one transaction, as input of `nft -f`.
    ///
    /// # Errors
    /// Fails if a name, an element or a rule is malformed.
    pub fn script(&self) -> Result<String, FirewallError> {
        let table = format!("table {} {}", self.family.name(), name(&self.name)?);
        // To name it makes it, so that there is something to delete.
        let mut text = format!("{table}\ndelete {table}\n{table} {{\n");
        for counter in &self.counters {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "counter {} {{}}", name(counter)?);
        }
        for set in &self.sets {
            set.write(&mut text)?;
        }
        // Maps refer to chains, and chains to maps; nft reads the chains of a block first.
        for map in &self.maps {
            map.write(&mut text)?;
        }
        for chain in &self.chains {
            chain.write(&mut text)?;
        }
        text.push_str("}\n");
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::{Hook, Verdict};
    use super::*;

    #[test]
    fn a_table_is_replaced_whole() {
        let table = Table::new(Family::Ip, "t")
            .with_counter("refused")
            .with_set(Set::new("nets", "ipv4_addr").with_intervals().with_elements(["10.0.0.0/8"]))
            .with_map(
                VerdictMap::new("pods", "ipv4_addr")
                    .with_elements([("10.0.0.1".to_owned(), Verdict::Goto("pod".to_owned()))]),
            )
            .with_chain(Chain::regular("pod").with_rule("counter name refused drop"))
            .with_chain(Chain::base("in", Hook::Input).with_priority(-5).with_rule("drop"));
        assert_eq!(
            table.script().unwrap(),
            "table ip t\ndelete table ip t\ntable ip t {\n\
             counter refused {}\n\
             set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }\n\
             map pods { type ipv4_addr : verdict; elements = { 10.0.0.1 : goto pod } }\n\
             chain pod {\ncounter name refused drop\n}\n\
             chain in {\ntype filter hook input priority -5; policy accept;\ndrop\n}\n}\n"
        );
        let broken = Table::new(Family::Ip, "t").with_chain(Chain::regular("a b"));
        assert!(broken.script().is_err());
    }
}
