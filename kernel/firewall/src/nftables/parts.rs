//! What tables consist of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::error::FirewallError;

/// `NFT_NAME_MAXLEN` of the kernel, less the zero at the end.
const LONGEST_NAME: usize = 255;

/// Where packets meet a chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hook {
    /// Those for this host.
    Input,
    /// Those that this host forwards.
    Forward,
    /// Those of this host.
    Output,
    /// Those that go out, of this host and forwarded: addresses of Services are translated by then,
    /// and where a packet comes from is not hidden yet.
    Postrouting,
    /// Those of this host, before it looks for a route once more: a mark may change it.
    RouteOutput,
    /// Those that come in, before the host decides whose they are, for address translation.
    NatPrerouting,
    /// Those that go out, for address translation.
    NatPostrouting,
}

impl Hook {
    const fn text(self) -> &'static str {
        match self {
            Self::Input => "type filter hook input",
            Self::Forward => "type filter hook forward",
            Self::Output => "type filter hook output",
            Self::Postrouting => "type filter hook postrouting",
            Self::RouteOutput => "type route hook output",
            Self::NatPrerouting => "type nat hook prerouting",
            Self::NatPostrouting => "type nat hook postrouting",
        }
    }

    /// Returns the priorities of the tables of iptables, `filter`, `mangle` and `nat`, or one beside.
    const fn priority(self) -> i32 {
        match self {
            Self::Input | Self::Forward | Self::Output => 0,
            Self::RouteOutput => -150,
            Self::NatPrerouting => -100,
            Self::NatPostrouting => 100,
            // `srcnat`, less a little.
            Self::Postrouting => 95,
        }
    }
}

/// A chain, and all its rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    name: String,
    base: Option<(Hook, i32)>,
    rules: Vec<String>,
}

impl Chain {
    /// Returns a chain that others jump to.
    pub fn regular(name: impl Into<String>) -> Self {
        Self { name: name.into(), base: None, rules: Vec::new() }
    }

    /// Returns a chain that packets meet at a hook, at its usual priority. It accepts what no rule
    /// drops.
    pub fn base(name: impl Into<String>, hook: Hook) -> Self {
        Self { base: Some((hook, hook.priority())), ..Self::regular(name) }
    }

    /// Sets the priority of a base chain: lower ones come first.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.base = self.base.map(|(hook, _)| (hook, priority));
        self
    }

    /// Appends a rule, in the words of `nft`.
    #[must_use]
    pub fn with_rule(mut self, rule: impl Into<String>) -> Self {
        self.rules.push(rule.into());
        self
    }

    /// Appends rules.
    #[must_use]
    pub fn with_rules(mut self, rules: impl IntoIterator<Item = String>) -> Self {
        self.rules.extend(rules);
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn rules(&self) -> &[String] {
        &self.rules
    }

    /// Returns what stands between the braces of its definition.
    pub(super) fn head(&self) -> String {
        match self.base {
            Some((hook, priority)) => {
                format!("{} priority {priority}; policy accept;", hook.text())
            }
            None => String::new(),
        }
    }

    pub(super) fn write(&self, text: &mut String) -> Result<(), FirewallError> {
        let head = self.head();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "chain {} {{", name(&self.name)?);
        if !head.is_empty() {
            let _ = writeln!(text, "{head}");
        }
        for one in &self.rules {
            let _ = writeln!(text, "{}", rule(one)?);
        }
        text.push_str("}\n");
        Ok(())
    }
}

/// A named set of elements of one type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set {
    name: String,
    key: String,
    interval: bool,
    elements: BTreeSet<String>,
}

impl Set {
    /// Returns an empty set; `key` is a type of `nft`, e.g. `ipv4_addr` or `ipv4_addr .
    /// inet_service`.
    pub fn new(name: impl Into<String>, key: impl Into<String>) -> Self {
        let (name, key) = (name.into(), key.into());
        Self { name, key, interval: false, elements: BTreeSet::new() }
    }

    /// Lets it hold networks and ranges.
    #[must_use]
    pub const fn with_intervals(mut self) -> Self {
        self.interval = true;
        self
    }

    /// Adds elements.
    #[must_use]
    pub fn with_elements<E: Into<String>>(mut self, elements: impl IntoIterator<Item = E>) -> Self {
        self.elements.extend(elements.into_iter().map(Into::into));
        self
    }

    pub(super) fn write(&self, text: &mut String) -> Result<(), FirewallError> {
        let flags = if self.interval { " flags interval;" } else { "" };
        let elements = elements(&self.elements)?;
        let elements =
            if elements.is_empty() { elements } else { format!(" elements = {{ {elements} }}") };
        let (name, key) = (name(&self.name)?, element(&self.key)?);
        let _ = writeln!(text, "set {name} {{ type {key};{flags}{elements} }}");
        Ok(())
    }
}

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// It passes this chain.
    Accept,
    /// It is dropped.
    Drop,
    /// The chain before goes on.
    Return,
    /// Another chain goes on, and then this one.
    Jump(String),
    /// Another chain goes on, and then the one before.
    Goto(String),
}

impl Verdict {
    pub(super) fn text(&self) -> Result<String, FirewallError> {
        Ok(match self {
            Self::Accept => "accept".to_owned(),
            Self::Drop => "drop".to_owned(),
            Self::Return => "return".to_owned(),
            Self::Jump(chain) => format!("jump {}", name(chain)?),
            Self::Goto(chain) => format!("goto {}", name(chain)?),
        })
    }
}

/// A named map from elements of one type to verdicts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerdictMap {
    name: String,
    key: String,
    elements: BTreeMap<String, Verdict>,
}

impl VerdictMap {
    /// Returns an empty map; `key` is a type of `nft`.
    pub fn new(name: impl Into<String>, key: impl Into<String>) -> Self {
        Self { name: name.into(), key: key.into(), elements: BTreeMap::new() }
    }

    /// Adds elements.
    #[must_use]
    pub fn with_elements(mut self, elements: impl IntoIterator<Item = (String, Verdict)>) -> Self {
        self.elements.extend(elements);
        self
    }

    pub(super) fn write(&self, text: &mut String) -> Result<(), FirewallError> {
        let (name, key) = (name(&self.name)?, element(&self.key)?);
        let elements = pairs(&self.elements)?;
        let elements =
            if elements.is_empty() { elements } else { format!(" elements = {{ {elements} }}") };
        let _ = writeln!(text, "map {name} {{ type {key} : verdict;{elements} }}");
        Ok(())
    }
}

/// Elements, as they stand between braces.
pub(super) fn elements(elements: &BTreeSet<String>) -> Result<String, FirewallError> {
    let texts: Vec<_> = elements.iter().map(|one| element(one)).collect::<Result<_, _>>()?;
    Ok(texts.join(", "))
}

pub(super) fn pairs(elements: &BTreeMap<String, Verdict>) -> Result<String, FirewallError> {
    let pair = |(key, verdict): (&String, &Verdict)| {
        Ok(format!("{} : {}", element(key)?, verdict.text()?))
    };
    Ok(elements.iter().map(pair).collect::<Result<Vec<_>, FirewallError>>()?.join(", "))
}

/// Checks that this is a name that `nft` reads as one.
pub(super) fn name(text: &str) -> Result<&str, FirewallError> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let later = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let good = text.starts_with(first) && text.chars().all(later) && text.len() <= LONGEST_NAME;
    checked(good, "a name in nftables", text)
}

/// Checks that this is an element, or the type of one.
pub(super) fn element(text: &str) -> Result<&str, FirewallError> {
    let good = |c: char| c.is_ascii_alphanumeric() || " .:/-_".contains(c);
    checked(!text.is_empty() && text.chars().all(good), "an element in nftables", text)
}

/// Checks that this is one rule: it is the caller's own, and stands on a line of its own.
pub(super) fn rule(text: &str) -> Result<&str, FirewallError> {
    let good = !text.is_empty() && !text.contains(['\n', '\r', '\0']);
    checked(good, "a rule in nftables", text)
}

fn checked<'a>(good: bool, what: &'static str, text: &'a str) -> Result<&'a str, FirewallError> {
    if good { Ok(text) } else { Err(FirewallError::Misuse { what, text: text.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_would_read_as_something_else_is_refused() {
        for text in ["", "1pod", "a b", "a;b", "a{", "a\nb", "a\"", "ä", &"a".repeat(256)] {
            assert!(matches!(name(text), Err(FirewallError::Misuse { .. })), "{text}");
        }
        for text in ["", "10.0.0.1, 10.0.0.2", "x }", "a\n", "#", "\"eth0\""] {
            assert!(element(text).is_err(), "{text}");
        }
        for text in ["10.0.0.0/8", "10.0.0.1 . 80", "fd00::/8", "1-5", "ipv4_addr . inet_service"] {
            assert_eq!(element(text), Ok(text));
        }
        assert!(rule("drop\naccept").is_err() && rule("").is_err());
        assert_eq!(name("WEAVE-pod_1.x"), Ok("WEAVE-pod_1.x"));
    }
}
