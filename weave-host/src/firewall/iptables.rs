//! Rules in the chains of iptables (spec router.md, section 7).
//!
//! Chains of our own are written whole. In those that all share, only what is missing is added:
//! what is there is compared word by word with how `iptables -S` prints our rules, so they are
//! written here in just that order.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Outcome;
use super::backend::{Backend, Family, IptablesPrograms};
use super::policy::{Policy, RuleNames, VxlanSenders, has_ipv6};
use crate::error::HostError;

/// Somebody else may be changing the rules, for at most these seconds.
const WAIT: &[&str] = &["-w", "5"];

/// One kind of iptables.
pub(super) struct Iptables {
    backend: Backend,
    programs: IptablesPrograms,
    /// For IPv6, if the host has it and they work.
    programs_ipv6: Option<IptablesPrograms>,
    /// Whether the ports of what is masqueraded are drawn by lot: without, two packets that
    /// leave at once can be given the same one, and one is lost (Linux 3.13, iptables 1.6.2).
    random_fully: bool,
}

impl std::fmt::Debug for Iptables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iptables").field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// Rules of the chains we look at, as they are printed, without `-A CHAIN`. A chain that is not
/// there is missing here, too.
pub(super) type Listing = BTreeMap<(&'static str, String), Vec<String>>;

impl Iptables {
    pub(super) fn open(backend: Backend) -> Result<Self, HostError> {
        let program = match backend {
            Backend::IptablesLegacy => "iptables-legacy",
            _ => "iptables-nft",
        };
        let programs = IptablesPrograms::find(backend, Family::Ipv4);
        let programs = programs.ok_or(HostError::NoProgram { program })?;
        let works = |programs: &IptablesPrograms| programs.chain("filter", "FORWARD").is_ok();
        let programs_ipv6 = has_ipv6().then(|| IptablesPrograms::find(backend, Family::Ipv6));
        let programs_ipv6 = programs_ipv6.flatten().filter(works);
        Ok(Self { backend, programs, programs_ipv6, random_fully: true })
    }

    pub(super) const fn backend(&self) -> Backend {
        self.backend
    }

    /// Whether packets of IPv6 meet the rules, if the host has such packets.
    pub(super) fn covers_ipv6(&self) -> bool {
        self.programs_ipv6.is_some() || !has_ipv6()
    }

    /// Whether the kernel answers.
    pub(super) fn probe(&self) -> Result<(), HostError> {
        self.programs.chain("filter", "FORWARD").map(drop)
    }

    pub(super) fn apply(&mut self, policy: &Policy) -> Result<Outcome, HostError> {
        let outcome = self.apply_ipv4(policy)?;
        match self.programs_ipv6.as_ref().map(|programs| apply_ipv6(programs, policy)) {
            Some(Ok(Outcome::Changed)) => Ok(Outcome::Changed),
            Some(Err(error)) => Err(error),
            Some(Ok(Outcome::InOrder)) | None => Ok(outcome),
        }
    }

    fn apply_ipv4(&mut self, policy: &Policy) -> Result<Outcome, HostError> {
        let present = self.present(&policy.bridge)?;
        let missing = |random_fully| transaction(&tables(policy, random_fully), &present);
        let Some(text) = missing(self.random_fully) else { return Ok(Outcome::InOrder) };
        if let Err(error) = self.restore(&text) {
            let simpler = missing(false).filter(|_| self.random_fully);
            let Some(simpler) = simpler.filter(|simpler| *simpler != text) else {
                return Err(error);
            };
            self.restore(&simpler).map_err(|_| error)?;
            self.random_fully = false;
        }
        let tables = tables(policy, self.random_fully);
        made(transaction(&tables, &self.present(&policy.bridge)?))
    }

    pub(super) fn remove(&self, bridge: &str) -> Result<bool, HostError> {
        let mut found = false;
        if let Some(text) = removal(bridge, &self.present(bridge)?) {
            self.restore(&text)?;
            found = true;
        }
        if let Some(programs) = &self.programs_ipv6
            && let Some(text) = removal(bridge, &present_ipv6(programs)?)
        {
            programs.restore(&text)?;
            found = true;
        }
        Ok(found)
    }

    fn present(&self, bridge: &str) -> Result<Listing, HostError> {
        let RuleNames { nat, expose, vxlan, .. } = RuleNames::of(bridge);
        let mut listing = self.listing("filter", &["INPUT", "FORWARD", &expose, &vxlan])?;
        listing.append(&mut self.listing("nat", &["POSTROUTING", &nat])?);
        Ok(listing)
    }

    /// What is in these chains of a table.
    pub(super) fn listing(
        &self,
        table: &'static str,
        chains: &[&str],
    ) -> Result<Listing, HostError> {
        self.programs.listing(table, chains)
    }

    pub(super) fn restore(&self, text: &str) -> Result<(), HostError> {
        self.programs.restore(text)
    }
}

/// What is there of IPv6: nothing is exposed or masqueraded, so there are only shared chains.
fn present_ipv6(programs: &IptablesPrograms) -> Result<Listing, HostError> {
    programs.listing("filter", &["INPUT", "FORWARD"])
}

fn apply_ipv6(programs: &IptablesPrograms, policy: &Policy) -> Result<Outcome, HostError> {
    let tables = [table_ipv6(policy)];
    let Some(text) = transaction(&tables, &present_ipv6(programs)?) else {
        return Ok(Outcome::InOrder);
    };
    programs.restore(&text)?;
    made(transaction(&tables, &present_ipv6(programs)?))
}

/// What came of it if this is still missing.
fn made(missing: Option<String>) -> Result<Outcome, HostError> {
    match missing {
        None => Ok(Outcome::Changed),
        Some(missing) => {
            Err(HostError::Rules { rules: missing.lines().collect::<Vec<_>>().join("; ") })
        }
    }
}

impl IptablesPrograms {
    /// What is in these chains of a table: all by one program, because to start one takes longer
    /// than to print a table.
    fn listing(&self, table: &'static str, chains: &[&str]) -> Result<Listing, HostError> {
        let arguments = [WAIT, &["-t", table, "-S"]].concat();
        let text = match self.list.run(&arguments, "") {
            Ok(text) => Some(text),
            // Somebody keeps rules in another chain that only nft can print.
            Err(HostError::Program { complaint, .. }) if is_absence(&complaint) => None,
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

    fn chain(&self, table: &str, chain: &str) -> Result<Option<Vec<String>>, HostError> {
        let arguments = [WAIT, &["-t", table, "-S", chain]].concat();
        match self.list.run(&arguments, "") {
            Ok(text) => Ok(rules_of(chain, &text)),
            Err(HostError::Program { complaint, .. }) if is_absence(&complaint) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn restore(&self, text: &str) -> Result<(), HostError> {
        self.restore.run(&[WAIT, &["--noflush"]].concat(), text).map(drop)
    }
}

/// What the kinds of iptables say of a chain that is not there. "Incompatible" is what 1.8.9 on
/// nftables calls it; one that really is shows when it is written.
fn is_absence(complaint: &str) -> bool {
    ["No chain/target/match by that name", "does not exist", "is incompatible, use 'nft' tool"]
        .iter()
        .any(|text| complaint.contains(text))
}

/// The rules of a chain in what `iptables -S` prints; none if there is no such chain.
fn rules_of(chain: &str, text: &str) -> Option<Vec<String>> {
    let is_there = |line: &str| {
        let mut words = line.split(' ');
        matches!(words.next(), Some("-P" | "-N")) && words.next() == Some(chain)
    };
    let prefix = format!("-A {chain} ");
    let rules = text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned);
    text.lines().any(is_there).then(|| rules.collect())
}

/// The words of a rule, which may be quoted.
fn words(rule: &str) -> Vec<String> {
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

pub(super) fn same(a: &str, b: &str) -> bool {
    words(a) == words(b)
}

/// What a table shall hold for us.
struct Table {
    name: &'static str,
    /// Chains of our own, and all their rules.
    own: Vec<(String, Vec<String>)>,
    /// Those that there should not be now.
    gone: Vec<String>,
    /// Chain, and rules that stand in it in this order.
    ordered: Option<(&'static str, Vec<String>)>,
    /// Chain, and rules that stand anywhere in it.
    anywhere: (&'static str, Vec<String>, Entry),
    /// Chains, and rules that must not be in them.
    unwanted: Vec<(&'static str, String)>,
    /// Rules with these comments are ours; there are no others of them than those above.
    comments: Vec<String>,
}

/// Where a rule enters a chain.
#[derive(Clone, Copy)]
enum Entry {
    /// Before the rules of others, who may accept what it drops.
    First,
    Last,
}

fn tables(policy: &Policy, random_fully: bool) -> [Table; 2] {
    let bridge = &policy.bridge;
    let names = RuleNames::of(bridge);
    let masquerade = if random_fully { "MASQUERADE --random-fully" } else { "MASQUERADE" };
    let accept = |network: &String| format!("-d {network} -j ACCEPT");
    let translate = |network: &String| {
        [
            format!("-s {network} -d 224.0.0.0/4 -j RETURN"),
            format!("! -s {network} -d {network} -j {masquerade}"),
            format!("-s {network} ! -d {network} -j {masquerade}"),
        ]
    };
    // The original spares answers. There are none to that port: what begins there is dropped.
    let guard = policy.control_port.map(|port| {
        let comment = &names.guard;
        format!(
            "-d 127.0.0.1/32 -p tcp -m tcp --dport {port} -m addrtype ! --src-type LOCAL \
             -m comment --comment \"{comment}\" -j DROP"
        )
    });
    let Closed { input, mut forward } = closed(policy, &names);
    let [inside, expose, out, answers] = accepted(bridge, &names);
    let senders = policy.vxlan.iter().flat_map(|senders| &senders.ports).map(|port| {
        format!(
            "-p udp -m udp --dport {port} -m comment --comment \"{}\" -j {}",
            names.senders, names.vxlan
        )
    });
    let input = guard.into_iter().chain(input).chain(senders).collect();
    let mut own = vec![(names.expose, policy.networks().iter().map(accept).collect())];
    let mut gone = Vec::new();
    match &policy.vxlan {
        Some(VxlanSenders { neighbours, .. }) => {
            let let_through = neighbours.iter().map(|address| format!("-s {address}/32 -j RETURN"));
            own.push((names.vxlan, let_through.chain(["-j DROP".to_owned()]).collect()));
        }
        None => gone.push(names.vxlan),
    }
    forward.extend(
        policy
            .docker
            .iter()
            .filter(|name| *name != bridge)
            .map(|name| format!("-i {name} -o {bridge} -j DROP")),
    );
    forward.extend([inside, expose, out]);
    // Version 2.6.3 of the original closed all ports of 127.0.0.1.
    let all_closed = "-d 127.0.0.1/32 -p tcp -m addrtype ! --src-type LOCAL \
                      -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP";
    let mut unwanted = vec![("INPUT", all_closed.to_owned())];
    if policy.routed {
        forward.push(answers);
    } else {
        unwanted.push(("FORWARD", answers));
    }
    [
        Table {
            name: "filter",
            own,
            gone,
            ordered: Some(("FORWARD", forward)),
            anywhere: ("INPUT", input, Entry::First),
            unwanted,
            comments: vec![names.guard, names.closed, names.senders],
        },
        Table {
            name: "nat",
            anywhere: ("POSTROUTING", vec![format!("-j {}", names.nat)], Entry::Last),
            own: vec![(names.nat, policy.masqueraded().iter().flat_map(translate).collect())],
            gone: Vec::new(),
            ordered: None,
            unwanted: Vec::new(),
            comments: Vec::new(),
        },
    ]
}

fn table_ipv6(policy: &Policy) -> Table {
    let names = RuleNames::of(&policy.bridge);
    let Closed { input, forward } = closed(policy, &names);
    Table {
        name: "filter",
        own: Vec::new(),
        gone: Vec::new(),
        ordered: Some(("FORWARD", forward)),
        anywhere: ("INPUT", input, Entry::First),
        unwanted: Vec::new(),
        comments: vec![names.closed],
    }
}

/// The rules that close ports to containers. What goes from one container to another is theirs.
struct Closed {
    input: Vec<String>,
    forward: Vec<String>,
}

fn closed(policy: &Policy, names: &RuleNames) -> Closed {
    let rules = |out: bool| {
        let rule = |(bridge, protocol, port): (&str, &str, u16)| {
            let out = if out { format!("! -o {bridge} ") } else { String::new() };
            format!(
                "-i {bridge} {out}-p {protocol} -m {protocol} --dport {port} \
                 -m comment --comment \"{}\" -j DROP",
                names.closed
            )
        };
        policy.closed.list().map(rule).collect()
    };
    Closed { input: rules(false), forward: rules(true) }
}

/// What passes the bridge: from container to container, to what is exposed, from containers
/// elsewhere, and the answers.
fn accepted(bridge: &str, names: &RuleNames) -> [String; 4] {
    [
        format!("-i {bridge} -o {bridge} -j ACCEPT"),
        format!("-o {bridge} -j {}", names.expose),
        format!("-i {bridge} ! -o {bridge} -j ACCEPT"),
        format!("-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
    ]
}

/// What makes the rules complete, as input of `iptables-restore --noflush`; none if they are.
fn transaction(tables: &[Table], present: &Listing) -> Option<String> {
    let none = Vec::new();
    let in_chain =
        |table: &Table, chain: &str| present.get(&(table.name, chain.to_owned())).unwrap_or(&none);
    let mut text = String::new();
    for table in tables {
        let mut lines = String::new();
        for (chain, rules) in &table.own {
            let found = present.get(&(table.name, chain.clone()));
            let in_order = found.is_some_and(|found| {
                found.len() == rules.len() && found.iter().zip(rules).all(|(a, b)| same(a, b))
            });
            if !in_order {
                // Makes it, or empties it.
                let _ = writeln!(lines, ":{chain} - [0:0]");
                for rule in rules {
                    let _ = writeln!(lines, "-A {chain} {rule}");
                }
            }
        }
        let (input, incoming, entry) = &table.anywhere;
        let shared = table.ordered.iter().map(|(chain, rules)| (*chain, rules));
        for (chain, rules) in shared.chain([(*input, incoming)]) {
            let wanted = |rule: &String| rules.iter().any(|other| same(other, rule));
            for rule in in_chain(table, chain).iter().filter(|rule| !wanted(rule)) {
                if words(rule).iter().any(|word| table.comments.contains(word)) {
                    let _ = writeln!(lines, "-D {chain} {rule}");
                }
            }
        }
        if let Some((chain, rules)) = &table.ordered {
            let found = in_chain(table, chain);
            let places = rules.iter().map(|rule| found.iter().position(|other| same(other, rule)));
            let places: Option<Vec<_>> = places.collect();
            if !places.is_some_and(|places| places.is_sorted()) {
                let ours = |other: &&String| rules.iter().any(|rule| same(other, rule));
                for rule in found.iter().filter(ours) {
                    let _ = writeln!(lines, "-D {chain} {rule}");
                }
                for (number, rule) in (1..).zip(rules) {
                    let _ = writeln!(lines, "-I {chain} {number} {rule}");
                }
            }
        }
        for (chain, unwanted) in &table.unwanted {
            for rule in in_chain(table, chain).iter().filter(|rule| same(rule, unwanted)) {
                let _ = writeln!(lines, "-D {chain} {rule}");
            }
        }
        let found = in_chain(table, input);
        let missing = |rule: &&String| !found.iter().any(|other| same(other, rule));
        match entry {
            Entry::First => {
                for rule in incoming.iter().filter(missing).rev() {
                    let _ = writeln!(lines, "-I {input} 1 {rule}");
                }
            }
            Entry::Last => {
                for rule in incoming.iter().filter(missing) {
                    let _ = writeln!(lines, "-A {input} {rule}");
                }
            }
        }
        // Nothing leads there any more.
        for chain in &table.gone {
            if present.contains_key(&(table.name, chain.clone())) {
                let _ = writeln!(lines, "-F {chain}\n-X {chain}");
            }
        }
        if !lines.is_empty() {
            let _ = write!(text, "*{}\n{lines}COMMIT\n", table.name);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// What takes away all that is there for a bridge; none if nothing is.
fn removal(bridge: &str, present: &Listing) -> Option<String> {
    let names = RuleNames::of(bridge);
    let comments = [&names.guard, &names.closed, &names.senders];
    let accepted = accepted(bridge, &names);
    let ours = |chain: &str, rule: &str| {
        let words = words(rule);
        let is_docker_s = || {
            words.len() == 6
                && words.first().is_some_and(|word| word == "-i")
                && words.iter().skip(2).eq(["-o", bridge, "-j", "DROP"].iter())
        };
        let is_commented = || words.iter().any(|word| comments.contains(&word));
        match chain {
            "INPUT" => is_commented(),
            "FORWARD" => {
                is_commented() || accepted.iter().any(|own| same(rule, own)) || is_docker_s()
            }
            "POSTROUTING" => same(rule, &format!("-j {}", names.nat)),
            _ => false,
        }
    };
    let mut text = String::new();
    let own_chains = [("filter", vec![&names.expose, &names.vxlan]), ("nat", vec![&names.nat])];
    for (table, own) in own_chains {
        let mut lines = String::new();
        for ((_, chain), rules) in present.iter().filter(|((found, _), _)| *found == table) {
            for rule in rules.iter().filter(|rule| ours(chain, rule)) {
                let _ = writeln!(lines, "-D {chain} {rule}");
            }
        }
        for chain in own {
            if present.contains_key(&(table, chain.clone())) {
                let _ = writeln!(lines, "-F {chain}\n-X {chain}");
            }
        }
        if !lines.is_empty() {
            let _ = write!(text, "*{table}\n{lines}COMMIT\n");
        }
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
