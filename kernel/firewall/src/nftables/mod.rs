//! Tables of the caller's own in nftables.
//!
//! A table is replaced whole, in one transaction, or changed by a [`Batch`], which is one
//! transaction too: no packet sees half of either.

mod batch;
mod parts;
mod table;

use std::collections::BTreeMap;

pub use batch::Batch;
pub use parts::{Chain, Hook, Set, Verdict, VerdictMap};
pub use table::Table;

use crate::counter::Counter;
use crate::error::FirewallError;
use crate::ipv6::has_ipv6;
use crate::outcome::Outcome;
use crate::program::Program;

/// The packets that a table sees.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    /// Those of IPv4.
    Ip,
    /// Those of IPv6.
    Ip6,
    /// Both.
    Inet,
    /// Those of bridges.
    Bridge,
}

impl Family {
    /// Returns its name in `nft`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        }
    }
}

/// The program `nft`, and what it was told last.
#[derive(Debug)]
pub struct Nftables {
    program: Program,
    /// What was asked for last, and how the kernel showed it then. Any difference means that
    /// somebody changed it.
    applied: Option<(Vec<Table>, String)>,
}

impl Nftables {
    /// Finds the program.
    ///
    /// # Errors
    /// Fails if it is not there.
    pub fn open() -> Result<Self, FirewallError> {
        let program = Program::find("nft").ok_or(FirewallError::NoProgram { program: "nft" })?;
        Ok(Self { program, applied: None })
    }

    /// Asks the kernel for something.
    ///
    /// # Errors
    /// Fails if it does not answer.
    pub fn probe(&self) -> Result<(), FirewallError> {
        self.program.run(&["list", "tables"], "").map(drop)
    }

    /// Makes these tables be as they are here, if somebody changed one since the last time or they
    /// are others now. Tables of IPv6 are left out on a host without it.
    ///
    /// # Errors
    /// Fails if a name or rule is malformed, or if the program fails.
    pub fn apply(&mut self, tables: &[Table]) -> Result<Outcome, FirewallError> {
        let ipv6 = has_ipv6();
        let tables: Vec<_> =
            tables.iter().filter(|table| ipv6 || table.family() != Family::Ip6).cloned().collect();
        if let (Some((applied, shown)), Some(now)) = (&self.applied, self.show_all(&tables)?)
            && *applied == tables
            && *shown == now
        {
            return Ok(Outcome::InOrder);
        }
        let script: String = tables.iter().map(Table::script).collect::<Result<_, _>>()?;
        self.run(&script)?;
        let shown = self.show_all(&tables)?.unwrap_or_default();
        self.applied = Some((tables, shown));
        Ok(Outcome::Changed)
    }

    /// Replaces a table, whatever it was.
    ///
    /// # Errors
    /// Fails if a name or rule is malformed, or if the program fails.
    pub fn replace(&self, table: &Table) -> Result<(), FirewallError> {
        self.run(&table.script()?)
    }

    /// Changes a table by a batch.
    ///
    /// # Errors
    /// Fails if a name or rule is malformed, or if the program fails: then nothing is changed.
    pub fn change(&self, batch: &Batch) -> Result<(), FirewallError> {
        match batch.script()? {
            script if script.is_empty() => Ok(()),
            script => self.run(&script),
        }
    }

    fn run(&self, script: &str) -> Result<(), FirewallError> {
        self.program.run(&["-f", "-"], script).map(drop)
    }

    /// Deletes a table, and returns whether it was there.
    ///
    /// # Errors
    /// Fails if the program fails.
    pub fn delete(&mut self, family: Family, table: &str) -> Result<bool, FirewallError> {
        self.applied = None;
        if self.show(family, table)?.is_none() {
            return Ok(false);
        }
        self.program.run(&["delete", "table", family.name(), table], "").map(|_| true)
    }

    /// Returns a table as the kernel has it, if it has.
    ///
    /// # Errors
    /// Fails if the program fails.
    pub fn show(&self, family: Family, table: &str) -> Result<Option<String>, FirewallError> {
        absent_is_none(self.program.run(&["-n", "-s", "list", "table", family.name(), table], ""))
    }

    /// Returns all these tables, if all are there.
    fn show_all(&self, tables: &[Table]) -> Result<Option<String>, FirewallError> {
        tables.iter().map(|table| self.show(table.family(), table.name())).collect()
    }

    /// Returns what the named counters of a table have counted; none if there is no such table.
    ///
    /// # Errors
    /// Fails if the program fails, or prints what cannot be read.
    pub fn counters(
        &self,
        family: Family,
        table: &str,
    ) -> Result<Option<BTreeMap<String, Counter>>, FirewallError> {
        if self.show(family, table)?.is_none() {
            return Ok(None);
        }
        let text = self.program.run(&["list", "counters", "table", family.name(), table], "")?;
        read_counters(&text).map(Some)
    }

    /// Returns whether another chain drops what is forwarded unless it is accepted there.
    pub fn is_overruled(&self) -> bool {
        let chains = self.program.run(&["list", "chains"], "").unwrap_or_default();
        chains.lines().any(|line| line.contains("hook forward") && line.contains("policy drop"))
    }
}

/// Turns the absence of a table into none. A kernel without a family has no table of it.
fn absent_is_none(result: Result<String, FirewallError>) -> Result<Option<String>, FirewallError> {
    const ABSENT: [&str; 2] = ["No such file or directory", "not supported"];
    match result {
        Ok(text) => Ok(Some(text)),
        Err(FirewallError::Program { complaint, .. })
            if ABSENT.iter().any(|text| complaint.contains(text)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// ```text
///   table ip policy {
///     counter refused {
///       packets 3 bytes 252
///     }
///   }
/// ```
fn read_counters(text: &str) -> Result<BTreeMap<String, Counter>, FirewallError> {
    let mut counters = BTreeMap::new();
    let mut name = None;
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["counter", found, "{"] => name = Some(found.to_owned()),
            ["packets", packets, "bytes", bytes] => {
                let unreadable = || FirewallError::Output {
                    program: "nft list counters",
                    text: line.trim().to_owned(),
                    expected: "the numbers of a counter",
                };
                let (Some(name), Ok(packets), Ok(bytes)) =
                    (name.take(), packets.parse(), bytes.parse())
                else {
                    return Err(unreadable());
                };
                counters.insert(name, Counter { packets, bytes });
            }
            _ => {}
        }
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read() {
        let text = "table ip policy {\n\tcounter refused {\n\t\tpackets 3 bytes 252\n\t}\n\
                    \tcounter other {\n\t\tcomment \"x\"\n\t\tpackets 0 bytes 0\n\t}\n}\n";
        let counters = read_counters(text).unwrap();
        assert_eq!(counters["refused"], Counter { packets: 3, bytes: 252 });
        assert_eq!((counters.len(), counters["other"]), (2, Counter::default()));
        assert!(read_counters("packets 3 bytes 252").is_err(), "whose?");
        assert!(read_counters("counter a {\npackets many bytes 2\n").is_err());
    }
}
