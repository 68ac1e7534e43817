//! The whole table.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weave_firewall::nftables::{self, Hook, Set, Table, Verdict, VerdictMap};

use super::{LOG_GROUP, Options, TABLE, address_type, map, own, protocol, refused};
use crate::block::Family;
use crate::compile::{AddressSet, Chain, ChainRule, PortMatch, Ruleset};
use crate::object::{Direction, Protocol};

/// Neighbour discovery and router discovery (RFC 4861), and multicast listener discovery (RFC 2710,
/// RFC 3810): without them there is no IPv6 on a link, whatever policies say.
const LINK_LOCAL: &str = "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, \
                          nd-neighbor-advert, mld-listener-query, mld-listener-report, \
                          mld-listener-done, mld2-listener-report } accept";

/// What is logged of refused packets, at most: who floods a pod is not to flood the log.
const LOG_RATE: &str = "limit rate 10/second burst 20 packets";

/// Linux keeps 128 bytes with each rule for a comment, `NFTNL_UDATA_COMMENT_MAXLEN` of nft.
const LONGEST_COMMENT: usize = 127;

/// Returns the table that holds these rules.
pub fn table(ruleset: &Ruleset, options: Options) -> Table {
    let mut table = Table::new(nftables::Family::Inet, TABLE);
    for (name, set) in &ruleset.sets {
        table = table.with_set(full_set(name, set));
    }
    let own_addresses = own_addresses(ruleset);
    for family in Family::ALL {
        let kind = address_type(family);
        let own = Set::new(own(family), format!("{kind} . {kind}"));
        table = table.with_set(own.with_elements(pairs(family, &own_addresses)));
        for direction in Direction::ALL {
            let elements = isolated(ruleset, direction, family)
                .map(|(address, chain)| (address.to_string(), Verdict::Jump(chain.to_owned())));
            let map = VerdictMap::new(map(direction, family), kind);
            table = table.with_map(map.with_elements(elements));
        }
    }
    for direction in Direction::ALL {
        let name = refused(direction);
        table = table.with_counter(name).with_chain(
            nftables::Chain::regular(name)
                .with_rule(format!(
                    "{LOG_RATE} log prefix \"weave-npc {direction} \" group {LOG_GROUP}"
                ))
                .with_rule(format!("counter name \"{name}\" drop")),
        );
    }
    for (name, chain) in &ruleset.chains {
        table = table.with_chain(class(name, chain));
    }
    table.with_chain(post(options))
}

/// Returns the chain that packets meet first.
fn post(options: Options) -> nftables::Chain {
    let mut chain = nftables::Chain::base("post", Hook::Postrouting)
        .with_rule("ct state established,related accept")
        .with_rule(LINK_LOCAL);
    if options.multicast {
        chain =
            chain.with_rule("ip daddr 224.0.0.0/4 accept").with_rule("ip6 daddr ff00::/8 accept");
    }
    chain = chain.with_rule("fib saddr type local accept");
    for family in Family::ALL {
        let ip = protocol(family);
        chain = chain.with_rule(format!("{ip} saddr . {ip} daddr @{} accept", own(family)));
    }
    // Egress first: what may be sent still has to be let in.
    for (direction, end) in [(Direction::Egress, "saddr"), (Direction::Ingress, "daddr")] {
        for family in Family::ALL {
            let (ip, map) = (protocol(family), map(direction, family));
            chain = chain.with_rule(format!("{ip} {end} vmap @{map}"));
        }
    }
    chain
}

/// Returns the chain of pods with the same policies.
pub(super) fn class(name: &str, chain: &Chain) -> nftables::Chain {
    let rules = chain.rules.iter().map(|one| rule(chain.direction, one));
    nftables::Chain::regular(name)
        .with_rules(rules)
        .with_rule(format!("counter goto {}", refused(chain.direction)))
}

fn rule(direction: Direction, rule: &ChainRule) -> String {
    let end = match direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    };
    let mut text = String::new();
    if let Some((family, set)) = &rule.addresses {
        text += &format!("{} {end} @{set} ", protocol(*family));
    }
    match &rule.ports {
        PortMatch::Any => {}
        PortMatch::Numbers(protocol, ranges) if ranges[..] == [(0, u16::MAX)] => {
            text += &format!("meta l4proto {} ", name(*protocol));
        }
        PortMatch::Numbers(protocol, ranges) => {
            let ranges = ranges.iter().map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            });
            let ranges = ranges.collect::<Vec<_>>().join(", ");
            text += &format!("{} dport {{ {ranges} }} ", name(*protocol));
        }
        PortMatch::Named(family, set) => {
            text += &format!("{} daddr . meta l4proto . th dport @{set} ", protocol(*family));
        }
    }
    let comment = comment(&format!("{} {direction} {}", rule.origin.policy, rule.origin.rule));
    text + &format!("counter return comment \"{comment}\"")
}

/// Leaves only what cannot end a comment; names of objects have nothing else.
fn comment(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || " ./-_".contains(c) { c } else { '?' };
    text.chars().map(plain).take(LONGEST_COMMENT).collect()
}

const fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Returns a set with its elements.
pub(super) fn full_set(name: &str, set: &AddressSet) -> Set {
    let made = match set {
        AddressSet::Addresses(family, _) => Set::new(name, address_type(*family)),
        AddressSet::Ranges(ranges) => {
            let family = ranges.first().map_or(Family::V4, |range| Family::of(range.first));
            Set::new(name, address_type(family)).with_intervals()
        }
        AddressSet::Ports(family, _) => {
            Set::new(name, format!("{} . inet_proto . inet_service", address_type(*family)))
        }
    };
    made.with_elements(elements(set))
}

/// Returns the elements of a set.
fn elements(set: &AddressSet) -> Vec<String> {
    match set {
        AddressSet::Addresses(_, addresses) => addresses.iter().map(IpAddr::to_string).collect(),
        AddressSet::Ranges(ranges) => ranges
            .iter()
            .map(|range| match range.first == range.last {
                true => range.first.to_string(),
                false => format!("{}-{}", range.first, range.last),
            })
            .collect(),
        AddressSet::Ports(_, ports) => ports.iter().map(port).collect(),
    }
}

fn port((address, protocol, port): &(IpAddr, Protocol, u16)) -> String {
    format!("{address} . {} . {port}", name(*protocol))
}

/// Returns the elements of a set that another of its kind has not. Those of ranges never differ:
/// they are in the name of the set.
pub(super) fn missing(set: &AddressSet, other: &AddressSet) -> Vec<String> {
    match (set, other) {
        (AddressSet::Addresses(_, own), AddressSet::Addresses(_, other)) => {
            own.difference(other).map(IpAddr::to_string).collect()
        }
        (AddressSet::Ports(_, own), AddressSet::Ports(_, other)) => {
            own.difference(other).map(port).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the addresses that are isolated for a direction, with their chains.
pub(super) fn isolated(
    ruleset: &Ruleset,
    direction: Direction,
    family: Family,
) -> impl Iterator<Item = (IpAddr, &str)> {
    let same = move |found: Direction, address: IpAddr| {
        found == direction && Family::of(address) == family
    };
    ruleset.isolated.iter().filter_map(move |((found, address), chain)| {
        same(*found, *address).then_some((*address, chain.as_str()))
    })
}

/// Returns the addresses that are isolated for any direction.
pub(super) fn own_addresses(ruleset: &Ruleset) -> BTreeSet<IpAddr> {
    ruleset.isolated.keys().map(|(_, address)| *address).collect()
}

/// Returns each address of a family, paired with itself.
pub(super) fn pairs(family: Family, addresses: &BTreeSet<IpAddr>) -> BTreeSet<String> {
    let same = addresses.iter().filter(|address| Family::of(**address) == family);
    same.map(|address| format!("{address} . {address}")).collect()
}
