//! What a table is to hold, and the way there.

use std::fmt::Write as _;

use super::listing::{Listing, is_like, is_same_rule, words};

/// What a table of iptables is to hold for the caller, in the words in which it is printed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Table {
    /// Its name: `filter`, `nat`, `mangle`.
    pub name: &'static str,
    /// Chains of the caller's own. Those come first to which others jump.
    pub own: Vec<Chain>,
    /// Chains of the caller's own that there should not be now.
    pub gone: Vec<String>,
    /// Rules in chains that all share.
    pub shared: Vec<Shared>,
    /// Shared chains, and rules that must not be in them.
    pub unwanted: Vec<(&'static str, String)>,
    /// Rules in shared chains with these comments are the caller's; there are no others of them
    /// than those above.
    pub comments: Vec<String>,
}

/// A chain of the caller's own, and all its rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Its name, 28 characters at most.
    pub name: String,
    /// Its rules.
    pub rules: Vec<String>,
}

/// Rules in a chain that all share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shared {
    /// Its name.
    pub chain: &'static str,
    /// The rules.
    pub rules: Vec<String>,
    /// Where they stand.
    pub place: Place,
}

/// Where rules stand in a shared chain. Nobody fights for a place: rules that others put before
/// them stay there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In this order, entering before the rules of others.
    InOrder,
    /// Anywhere, entering before the rules of others, who may accept what these drop.
    First,
    /// Anywhere, entering behind the rules of others.
    Last,
}

impl Table {
    /// Returns all chains that this is about.
    pub fn chains(&self) -> Vec<&str> {
        let own = self.own.iter().map(|chain| chain.name.as_str());
        let gone = self.gone.iter().map(String::as_str);
        let shared = self.shared.iter().map(|shared| shared.chain);
        let unwanted = self.unwanted.iter().map(|(chain, _)| *chain);
        let mut chains: Vec<_> = own.chain(gone).chain(shared).chain(unwanted).collect();
        chains.sort_unstable();
        chains.dedup();
        chains
    }

    /// Returns the table without this text in rules.
    pub(super) fn without(&self, text: &str) -> Self {
        let mut table = self.clone();
        let own = table.own.iter_mut().flat_map(|chain| &mut chain.rules);
        for rule in own.chain(table.shared.iter_mut().flat_map(|shared| &mut shared.rules)) {
            *rule = rule.replace(text, "");
        }
        table
    }

    /// Lines that delete from a shared chain the rules that are the caller's by their comment, but
    /// for those that are wanted.
    fn delete_others(&self, shared: &Shared, found: &[String], lines: &mut String) {
        let wanted = |rule: &String| shared.rules.iter().any(|other| is_same_rule(other, rule));
        for rule in found.iter().filter(|rule| !wanted(rule)) {
            if self.is_commented(rule) {
                // Writing to a String cannot fail.
                let _ = writeln!(lines, "-D {} {rule}", shared.chain);
            }
        }
    }

    fn is_commented(&self, rule: &str) -> bool {
        words(rule).iter().any(|word| self.comments.contains(word))
    }
}

impl Shared {
    /// Lines that put what is missing into a chain.
    fn complete(&self, found: &[String], lines: &mut String) {
        let Self { chain, rules, place } = self;
        let missing = |rule: &&String| !found.iter().any(|other| is_same_rule(other, rule));
        match place {
            Place::InOrder => {
                let place =
                    |rule: &String| found.iter().position(|other| is_same_rule(other, rule));
                let places: Option<Vec<_>> = rules.iter().map(place).collect();
                if places.is_some_and(|places| places.is_sorted()) {
                    return;
                }
                let ours = |other: &&String| rules.iter().any(|rule| is_same_rule(other, rule));
                for rule in found.iter().filter(ours) {
                    let _ = writeln!(lines, "-D {chain} {rule}");
                }
                for (number, rule) in (1..).zip(rules) {
                    let _ = writeln!(lines, "-I {chain} {number} {rule}");
                }
            }
            Place::First => {
                for rule in rules.iter().filter(missing).rev() {
                    let _ = writeln!(lines, "-I {chain} 1 {rule}");
                }
            }
            Place::Last => {
                for rule in rules.iter().filter(missing) {
                    let _ = writeln!(lines, "-A {chain} {rule}");
                }
            }
        }
    }
}

/// Returns what makes the rules complete, as input of `iptables-restore --noflush`; none if they
/// are.
pub fn transaction(tables: &[Table], present: &Listing) -> Option<String> {
    let mut text = String::new();
    for table in tables {
        let found = |chain: &str| present.get(&(table.name, chain.to_owned()));
        let in_chain = |chain: &str| found(chain).map_or(&[][..], Vec::as_slice);
        let (mut chains, mut lines) = (String::new(), String::new());
        for Chain { name, rules } in &table.own {
            let in_order = found(name).is_some_and(|found| {
                let mut pairs = found.iter().zip(rules);
                found.len() == rules.len() && pairs.all(|(a, b)| is_same_rule(a, b))
            });
            if !in_order {
                // Makes it, or empties it.
                let _ = writeln!(chains, ":{name} - [0:0]");
                for rule in rules {
                    let _ = writeln!(lines, "-A {name} {rule}");
                }
            }
        }
        for shared in &table.shared {
            table.delete_others(shared, in_chain(shared.chain), &mut lines);
        }
        for (chain, unwanted) in &table.unwanted {
            for rule in in_chain(chain).iter().filter(|rule| is_same_rule(rule, unwanted)) {
                let _ = writeln!(lines, "-D {chain} {rule}");
            }
        }
        for shared in &table.shared {
            shared.complete(in_chain(shared.chain), &mut lines);
        }
        // Nothing leads there any more.
        for chain in table.gone.iter().filter(|chain| found(chain).is_some()) {
            let _ = writeln!(lines, "-F {chain}\n-X {chain}");
        }
        if !(chains.is_empty() && lines.is_empty()) {
            let _ = write!(text, "*{}\n{chains}{lines}COMMIT\n", table.name);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Returns what takes away all that is there for the caller, as input of
/// `iptables-restore --noflush`; none if nothing is. Rules of shared chains are patterns, in which
/// a word `*` stands for any.
pub fn removal(tables: &[Table], present: &Listing) -> Option<String> {
    let mut text = String::new();
    for table in tables {
        let found = |chain: &str| present.get(&(table.name, chain.to_owned()));
        let mut lines = String::new();
        for shared in &table.shared {
            let ours = |rule: &&String| {
                table.is_commented(rule) || shared.rules.iter().any(|like| is_like(rule, like))
            };
            for rule in found(shared.chain).into_iter().flatten().filter(ours) {
                let _ = writeln!(lines, "-D {} {rule}", shared.chain);
            }
        }
        let own = table.own.iter().map(|chain| &chain.name).chain(&table.gone);
        let own: Vec<_> = own.filter(|chain| found(chain).is_some()).collect();
        for command in ["-F", "-X"] {
            for chain in &own {
                let _ = writeln!(lines, "{command} {chain}");
            }
        }
        if !lines.is_empty() {
            let _ = write!(text, "*{}\n{lines}COMMIT\n", table.name);
        }
    }
    (!text.is_empty()).then_some(text)
}
