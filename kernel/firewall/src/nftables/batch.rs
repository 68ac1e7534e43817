//! Changes of a table that is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Family;
use super::parts::{Chain, Set, Verdict, VerdictMap, elements, name, pairs, rule};
use crate::error::FirewallError;

/// Changes of one table, in this order, in one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    family: Family,
    table: String,
    steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    AddSet(Set),
    AddMap(VerdictMap),
    AddCounter(String),
    AddElements(String, BTreeSet<String>),
    DeleteElements(String, BTreeSet<String>),
    AddToMap(String, BTreeMap<String, Verdict>),
    FlushSet(String),
    DeleteSet(String),
    ReplaceChain(Chain),
    DeleteChain(String),
}

impl Batch {
    /// No change yet.
    pub fn new(family: Family, table: impl Into<String>) -> Self {
        Self { family, table: table.into(), steps: Vec::new() }
    }

    /// Returns whether it changes nothing.
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn with(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds a set with its elements; one that is there gets these as well.
    #[must_use]
    pub fn add_set(self, set: Set) -> Self {
        self.with(Step::AddSet(set))
    }

    /// Adds a map with its elements; one that is there gets these as well.
    #[must_use]
    pub fn add_map(self, map: VerdictMap) -> Self {
        self.with(Step::AddMap(map))
    }

    /// Adds a named counter.
    #[must_use]
    pub fn add_counter(self, name: impl Into<String>) -> Self {
        self.with(Step::AddCounter(name.into()))
    }

    /// Adds elements to a set; those that are there are fine.
    #[must_use]
    pub fn add_elements<E: Into<String>>(
        self,
        set: impl Into<String>,
        elements: impl IntoIterator<Item = E>,
    ) -> Self {
        let elements = elements.into_iter().map(Into::into).collect();
        self.with(Step::AddElements(set.into(), elements))
    }

    /// Deletes elements, or keys, from a set or map. Each must be there.
    #[must_use]
    pub fn delete_elements<E: Into<String>>(
        self,
        set: impl Into<String>,
        elements: impl IntoIterator<Item = E>,
    ) -> Self {
        let elements = elements.into_iter().map(Into::into).collect();
        self.with(Step::DeleteElements(set.into(), elements))
    }

    /// Adds elements to a map. A key that is there must have the same verdict.
    #[must_use]
    pub fn add_to_map(
        self,
        map: impl Into<String>,
        elements: impl IntoIterator<Item = (String, Verdict)>,
    ) -> Self {
        self.with(Step::AddToMap(map.into(), elements.into_iter().collect()))
    }

    /// Empties a set or map.
    #[must_use]
    pub fn flush_set(self, set: impl Into<String>) -> Self {
        self.with(Step::FlushSet(set.into()))
    }

    /// Deletes a set that no rule refers to.
    #[must_use]
    pub fn delete_set(self, set: impl Into<String>) -> Self {
        self.with(Step::DeleteSet(set.into()))
    }

    /// Makes a chain have these rules and no others, whether it is there or not.
    #[must_use]
    pub fn replace_chain(self, chain: Chain) -> Self {
        self.with(Step::ReplaceChain(chain))
    }

    /// Deletes a chain, and its rules, that nothing leads to.
    #[must_use]
    pub fn delete_chain(self, chain: impl Into<String>) -> Self {
        self.with(Step::DeleteChain(chain.into()))
    }

    /// Returns what changes the table in one transaction, as input of `nft -f`.
    ///
    /// # Errors
    /// Fails if a name, an element or a rule is malformed.
    pub fn script(&self) -> Result<String, FirewallError> {
        let place = format!("{} {}", self.family.name(), name(&self.table)?);
        let mut text = String::new();
        for step in &self.steps {
            step.write(&place, &mut text)?;
        }
        Ok(text)
    }
}

impl Step {
    fn write(&self, place: &str, text: &mut String) -> Result<(), FirewallError> {
        // Writing to a String cannot fail.
        let _ = match self {
            Self::AddSet(set) => {
                let mut block = String::new();
                set.write(&mut block)?;
                write!(text, "table {place} {{\n{block}}}\n")
            }
            Self::AddMap(map) => {
                let mut block = String::new();
                map.write(&mut block)?;
                write!(text, "table {place} {{\n{block}}}\n")
            }
            Self::AddCounter(counter) => writeln!(text, "add counter {place} {}", name(counter)?),
            Self::AddElements(_, some) | Self::DeleteElements(_, some) if some.is_empty() => Ok(()),
            Self::AddToMap(_, some) if some.is_empty() => Ok(()),
            Self::AddElements(set, some) => {
                let (set, some) = (name(set)?, elements(some)?);
                writeln!(text, "add element {place} {set} {{ {some} }}")
            }
            Self::DeleteElements(set, some) => {
                let (set, some) = (name(set)?, elements(some)?);
                writeln!(text, "delete element {place} {set} {{ {some} }}")
            }
            Self::AddToMap(map, some) => {
                let (map, some) = (name(map)?, pairs(some)?);
                writeln!(text, "add element {place} {map} {{ {some} }}")
            }
            Self::FlushSet(set) => writeln!(text, "flush set {place} {}", name(set)?),
            Self::DeleteSet(set) => writeln!(text, "delete set {place} {}", name(set)?),
            Self::ReplaceChain(chain) => {
                let (chain_name, head) = (name(chain.name())?, chain.head());
                let head = if head.is_empty() { head } else { format!(" {{ {head} }}") };
                let _ = writeln!(text, "add chain {place} {chain_name}{head}");
                let _ = writeln!(text, "flush chain {place} {chain_name}");
                for one in chain.rules() {
                    let _ = writeln!(text, "add rule {place} {chain_name} {}", rule(one)?);
                }
                Ok(())
            }
            Self::DeleteChain(chain) => {
                let chain = name(chain)?;
                write!(text, "flush chain {place} {chain}\ndelete chain {place} {chain}\n")
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::Hook;
    use super::*;

    #[test]
    fn steps_come_in_their_order() {
        let batch = Batch::new(Family::Inet, "t")
            .add_set(Set::new("s", "ipv4_addr"))
            .add_elements("s", ["10.0.0.1", "10.0.0.2"])
            .delete_elements("s", ["10.0.0.3"])
            .add_elements("s", [""; 0])
            .replace_chain(Chain::base("in", Hook::Input).with_rule("ip saddr @s drop"))
            .delete_chain("old")
            .flush_set("s");
        assert_eq!(
            batch.script().unwrap(),
            "table inet t {\nset s { type ipv4_addr; }\n}\n\
             add element inet t s { 10.0.0.1, 10.0.0.2 }\n\
             delete element inet t s { 10.0.0.3 }\n\
             add chain inet t in { type filter hook input priority 0; policy accept; }\n\
             flush chain inet t in\n\
             add rule inet t in ip saddr @s drop\n\
             flush chain inet t old\ndelete chain inet t old\n\
             flush set inet t s\n"
        );
        assert!(Batch::new(Family::Ip, "t").is_empty());
        assert!(batch.add_elements("s", ["x }"]).script().is_err());
    }
}
