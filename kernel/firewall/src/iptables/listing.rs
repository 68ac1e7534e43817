//! Rules as iptables prints them.

use std::collections::BTreeMap;

use crate::counter::Counter;
use crate::error::FirewallError;

/// Rules by table and chain, as they are printed, without `-A CHAIN`. A chain that is not there is
/// missing here, too.
pub type Listing = BTreeMap<(&'static str, String), Vec<String>>;

/// Returns the rules of a chain in what `iptables -S` prints; none if there is no such chain.
pub(super) fn rules_of(chain: &str, text: &str) -> Option<Vec<String>> {
    let is_there = |line: &str| {
        let mut words = line.split(' ');
        matches!(words.next(), Some("-P" | "-N")) && words.next() == Some(chain)
    };
    let prefix = format!("-A {chain} ");
    let rules = text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned);
    text.lines().any(is_there).then(|| rules.collect())
}

/// Returns the same with what the rules have counted, in what `iptables -v -S` prints: `-c PACKETS
/// BYTES` is a part of each.
pub(super) fn counted_rules_of(
    chain: &str,
    text: &str,
) -> Result<Option<Vec<(String, Counter)>>, FirewallError> {
    let Some(rules) = rules_of(chain, text) else { return Ok(None) };
    let counted = rules.into_iter().map(|rule| {
        counted(&rule).ok_or_else(|| FirewallError::Output {
            program: "iptables -v -S",
            text: rule.clone(),
            expected: "a rule with its counters",
        })
    });
    counted.collect::<Result<_, _>>().map(Some)
}

fn counted(rule: &str) -> Option<(String, Counter)> {
    let start = rule.find("-c ")?;
    let (before, after) = rule.split_at(start);
    let mut words = after.splitn(4, ' ').skip(1);
    let packets = words.next()?.parse().ok()?;
    let bytes = words.next()?.parse().ok()?;
    let rest = words.next().unwrap_or_default();
    Some((format!("{before}{rest}"), Counter { packets, bytes }))
}

/// Returns the words of a rule, which may be quoted.
pub(super) fn words(rule: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut characters = rule.chars();
    while let Some(character) = characters.next() {
        match (character, words.last_mut()) {
            ('"', _) => quoted = !quoted,
            ('\\', Some(word)) if quoted => word.extend(characters.next()),
            (' ', _) if !quoted => words.push(String::new()),
            (character, Some(word)) => word.push(character),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns whether two rules are the same word by word, however they are quoted.
pub fn is_same_rule(a: &str, b: &str) -> bool {
    words(a) == words(b)
}

/// Returns whether a rule is like a pattern, in which a word `*` stands for any.
pub(super) fn is_like(rule: &str, pattern: &str) -> bool {
    let (rule, pattern) = (words(rule), words(pattern));
    let like = |(word, pattern): (&String, &String)| pattern == "*" || word == pattern;
    rule.len() == pattern.len() && rule.iter().zip(&pattern).all(like)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_printed() {
        let text = "-P INPUT ACCEPT\n-A INPUT -m comment --comment \"a \\\"b\\\" c\" -j DROP\n\
                    -A INPUT -m comment --comment a -j DROP\n-A INPUT-2 -j DROP\n-N EMPTY\n";
        let rules = rules_of("INPUT", text).unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!(words(&rules[0]), ["-m", "comment", "--comment", "a \"b\" c", "-j", "DROP"]);
        assert!(is_same_rule(&rules[1], "-m comment --comment \"a\" -j DROP"));
        assert_eq!(rules_of("EMPTY", text), Some(Vec::new()));
        assert_eq!(rules_of("INPUT-2", text), None, "it is not said to be there");
    }

    #[test]
    fn counters_are_a_part_of_a_rule() {
        let text = "-N IN -c 0 0\n-A IN -s 10.0.0.1/32 -c 3 252 -j DROP\n-A IN -c 1 84\n";
        let rules = counted_rules_of("IN", text).unwrap().unwrap();
        let counter = |packets, bytes| Counter { packets, bytes };
        assert_eq!(rules[0], ("-s 10.0.0.1/32 -j DROP".to_owned(), counter(3, 252)));
        assert_eq!(rules[1], (String::new(), counter(1, 84)));
        assert_eq!(counted_rules_of("OUT", text), Ok(None));
        assert!(counted_rules_of("IN", "-N IN\n-A IN -j DROP\n").is_err());
    }

    #[test]
    fn a_star_is_like_any_word() {
        assert!(is_like("-i docker0 -o weave -j DROP", "-i * -o weave -j DROP"));
        assert!(!is_like("-i docker0 -o weave -j ACCEPT", "-i * -o weave -j DROP"));
        assert!(!is_like("-i docker0 -p tcp -o weave -j DROP", "-i * -o weave -j DROP"));
    }
}
