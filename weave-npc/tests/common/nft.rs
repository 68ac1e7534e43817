//! An interpreter of the part of nftables that the compiled table uses.
//!
//! It is as strict as the kernel: what is deleted must be there, and what something refers to must
//! stay. Words that it does not know end the test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weave_npc::{Packet, Protocol, Traffic};

/// The table, as the kernel would have it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Kernel {
    sets: BTreeMap<String, BTreeSet<String>>,
    maps: BTreeMap<String, BTreeMap<String, String>>,
    chains: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Accept,
    Drop,
    Return,
    /// The chain came to its end.
    Through,
}

impl Kernel {
    /// Runs a script as one transaction: what refers to something is looked at when all is done.
    pub fn run(&mut self, script: &str) {
        let mut lines = script.lines();
        while let Some(line) = lines.next() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["table", "inet", "weave-npc"] => {}
                ["delete", "table", ..] => *self = Self::default(),
                ["table", "inet", "weave-npc", "{"] => self.block(&mut lines),
                ["add", "element", _, _, name, ..] => {
                    for element in inside(line).split(", ") {
                        if let Some(map) = self.maps.get_mut(name) {
                            let (key, verdict) = element.split_once(" : ").unwrap();
                            let old = map.insert(key.to_owned(), verdict.to_owned());
                            assert_eq!(old, None, "{key} is in {name}");
                        } else {
                            self.sets.get_mut(name).unwrap().insert(element.to_owned());
                        }
                    }
                }
                ["delete", "element", _, _, name, ..] => {
                    for element in inside(line).split(", ") {
                        let found = match self.maps.get_mut(name) {
                            Some(map) => map.remove(element).is_some(),
                            None => self.sets.get_mut(name).unwrap().remove(element),
                        };
                        assert!(found, "no {element} in {name}");
                    }
                }
                ["add", "chain", _, _, name] => _ = self.chains.entry(name.to_owned()).or_default(),
                ["flush", "chain", _, _, name] => self.chains.get_mut(name).unwrap().clear(),
                ["add", "rule", _, _, name, ..] => {
                    self.chains.get_mut(name).unwrap().push(words[5..].join(" "));
                }
                ["delete", "chain", _, _, name] => {
                    assert_eq!(self.chains.remove(name), Some(Vec::new()), "{name}");
                    let goal = format!("jump {name}");
                    let led = self.maps.values().flat_map(BTreeMap::values).any(|to| *to == goal);
                    assert!(!led, "something leads to {name}");
                }
                ["delete", "set", _, _, name] => {
                    assert!(self.sets.remove(name).is_some(), "no {name}");
                    let reference = format!("@{name} ");
                    let mut rules = self.chains.values().flatten();
                    assert!(!rules.any(|rule| rule.contains(&reference)), "{name} is in use");
                }
                _ => unreachable!("{line}"),
            }
        }
        self.check();
    }

    fn block<'a>(&mut self, lines: &mut impl Iterator<Item = &'a str>) {
        while let Some(line) = lines.next() {
            let words: Vec<_> = line.split(' ').collect();
            let elements = line
                .split_once("elements = { ")
                .map_or("", |(_, rest)| rest.split_once(" }").unwrap().0);
            let elements = elements.split(", ").filter(|element| !element.is_empty());
            match words[..] {
                ["}"] => return,
                ["counter", ..] => {}
                ["set", name, ..] => {
                    let set = self.sets.entry(name.to_owned()).or_default();
                    set.extend(elements.map(str::to_owned));
                }
                ["map", name, ..] => {
                    let pair = |element: &str| {
                        let (key, verdict) = element.split_once(" : ").unwrap();
                        (key.to_owned(), verdict.to_owned())
                    };
                    self.maps.insert(name.to_owned(), elements.map(pair).collect());
                }
                ["chain", name, "{"] => {
                    let rules = lines.by_ref().take_while(|line| *line != "}");
                    let rules = rules.filter(|line| !line.starts_with("type ")).map(str::to_owned);
                    self.chains.insert(name.to_owned(), rules.collect());
                }
                _ => unreachable!("{line}"),
            }
        }
    }

    /// Checks that all that is referred to is there.
    fn check(&self) {
        for verdict in self.maps.values().flat_map(BTreeMap::values) {
            assert!(self.chains.contains_key(verdict.strip_prefix("jump ").unwrap()), "{verdict}");
        }
        for rule in self.chains.values().flatten() {
            for set in rule.split(' ').filter_map(|word| word.strip_prefix('@')) {
                assert!(self.sets.contains_key(set) || self.maps.contains_key(set), "{rule}");
            }
        }
    }

    /// Whether the first packet of a connection passes a node that has these addresses.
    pub fn passes(&self, packet: &Packet, local: &[IpAddr]) -> bool {
        // What is for the node itself does not pass postrouting.
        local.contains(&packet.destination) || self.chain("post", packet, local) != End::Drop
    }

    fn chain(&self, name: &str, packet: &Packet, local: &[IpAddr]) -> End {
        for rule in &self.chains[name] {
            match self.rule(rule, packet, local) {
                End::Through => {}
                end => return end,
            }
        }
        End::Through
    }

    /// Returns where a rule ends: a chain that it jumps to and that returns lets it go on.
    fn rule(&self, rule: &str, packet: &Packet, local: &[IpAddr]) -> End {
        let (head, rest) = rule.split_once(' ').unwrap();
        let (mut words, mut keys) = (rest.split(' '), Vec::new());
        let mut next = Some(head);
        while let Some(word) = next {
            let key = match word {
                "ip" | "ip6" => {
                    let address = match words.next().unwrap() {
                        "saddr" => packet.source,
                        "daddr" => packet.destination,
                        other => unreachable!("{other}"),
                    };
                    if address.is_ipv4() != (word == "ip") {
                        return End::Through;
                    }
                    Some(address.to_string())
                }
                "meta" => {
                    assert_eq!(words.next(), Some("l4proto"));
                    let own = match packet.traffic {
                        Traffic::Port(protocol, _) => keyword(protocol),
                        Traffic::Portless => "icmp",
                    };
                    match words.clone().next() {
                        Some(".") => Some(own.to_owned()),
                        protocol if protocol == Some(own) => words.next().and(None),
                        _ => return End::Through,
                    }
                }
                "th" | "tcp" | "udp" | "sctp" => {
                    assert_eq!(words.next(), Some("dport"));
                    match packet.traffic {
                        Traffic::Port(own, port) if word == "th" || keyword(own) == word => {
                            Some(port.to_string())
                        }
                        _ => return End::Through,
                    }
                }
                // New connections are asked about, and no messages of a link.
                "ct" | "icmpv6" => return End::Through,
                "limit" => return End::Through,
                "fib" => {
                    let rest: Vec<_> = words.by_ref().take(3).collect();
                    assert_eq!(rest, ["saddr", "type", "local"]);
                    if !local.contains(&packet.source) {
                        return End::Through;
                    }
                    None
                }
                "." | "counter" => None,
                "name" => words.next().and(None),
                "comment" => return End::Through,
                "accept" => return End::Accept,
                "drop" => return End::Drop,
                "return" => return End::Return,
                "goto" => return self.chain(words.next().unwrap(), packet, local),
                "vmap" => {
                    let map = &self.maps[words.next().unwrap().strip_prefix('@').unwrap()];
                    return match map.get(&keys.join(" . ")) {
                        None => End::Through,
                        Some(verdict) => {
                            let chain = verdict.strip_prefix("jump ").unwrap();
                            match self.chain(chain, packet, local) {
                                End::Return => End::Through,
                                end => end,
                            }
                        }
                    };
                }
                "{" => {
                    let inside: String = words.by_ref().take_while(|word| *word != "}").collect();
                    if !inside.split(',').any(|element| is_in(element, &keys.join(" . "))) {
                        return End::Through;
                    }
                    keys.clear();
                    None
                }
                set if set.starts_with('@') => {
                    let set = &self.sets[&set[1..]];
                    if !set.iter().any(|element| is_in(element, &keys.join(" . "))) {
                        return End::Through;
                    }
                    keys.clear();
                    None
                }
                value => {
                    let key = keys.join(" . ");
                    let fits = match value.parse::<IpAddr>() {
                        Ok(_) => unreachable!("{value}"),
                        Err(_) if value.contains('/') => {
                            let block = weave_core::Cidr::network(value).unwrap();
                            block.contains(key.parse().unwrap())
                        }
                        Err(_) => key == value,
                    };
                    if !fits {
                        return End::Through;
                    }
                    keys.clear();
                    None
                }
            };
            keys.extend(key);
            next = words.next();
        }
        End::Through
    }
}

/// Returns what stands between braces.
fn inside(line: &str) -> &str {
    line.split_once("{ ").unwrap().1.strip_suffix(" }").unwrap()
}

/// Whether a key is an element of a set, or in the range that it is.
fn is_in(element: &str, key: &str) -> bool {
    let Some((first, last)) = element.split_once('-') else { return element == key };
    match (first.parse::<IpAddr>(), last.parse::<IpAddr>(), key.parse::<IpAddr>()) {
        (Ok(first), Ok(last), Ok(key)) => (first..=last).contains(&key),
        _ => {
            let [first, last, key] = [first, last, key].map(|text| text.parse::<u16>().unwrap());
            (first..=last).contains(&key)
        }
    }
}

fn keyword(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
