//! Rules that let nothing of a sealed tunnel leave or enter in clear (spec fastdp.md, section
//! 9.4).
//!
//! They mark what IPsec is to seal, mark what arrives for it, and drop what should be sealed and
//! is not, also from hosts that have no tunnel: the kernel's VXLAN takes packets from anybody who
//! guesses a number of 24 bits. Nothing is accepted by them, so they do the same in any back end. They stand before
//! the rules of others, who may accept what these drop.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::Outcome;
use super::backend::{self, Backend};
use super::generation::InOrder;
use super::iptables::{Iptables, Listing, same};
use super::nftables::Nftables;
use crate::address::Cidr;
use crate::error::HostError;
use crate::names::{self, BRIDGE_NAME};

/// The mark of Weave Net 2.x, and its mask, as iptables prints them.
const MARK: &str = "0x20000/0x20000";

/// What the rules are about.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SealPolicy {
    /// The tunnels.
    pub tunnels: BTreeSet<SealedTunnel>,
    /// What ESP arrives with, from which host, at which address of this one.
    pub states: BTreeSet<SealedState>,
    /// UDP ports of this host for which nothing is taken in clear,
    pub guarded: BTreeSet<u16>,
    /// but from hosts in these networks.
    pub trusted: BTreeSet<Cidr>,
}

/// The UDP packets of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SealedTunnel {
    /// This host.
    pub local: Ipv4Addr,
    /// The other one.
    pub remote: Ipv4Addr,
    /// To which both send.
    pub port: u16,
}

/// The packets of ESP for a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SealedState {
    /// Who sends.
    pub remote: Ipv4Addr,
    /// This host.
    pub local: Ipv4Addr,
    /// The number of the key.
    pub spi: u32,
}

/// What keeps these rules, for one router.
#[derive(Debug)]
pub struct SealFirewall {
    rules: Rules,
    names: Names,
    in_order: InOrder<SealPolicy>,
}

#[derive(Debug)]
enum Rules {
    Iptables(Iptables),
    Nftables {
        nftables: Nftables,
        /// What was asked for last, and how the kernel showed it then.
        made: Option<(SealPolicy, String)>,
    },
}

/// Chains and tables of a router. Those of the default bridge are the original's.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Names {
    /// To be put behind the names of chains.
    suffix: String,
    /// Table of nftables.
    table: String,
    /// Comment on the rule in a chain that all share.
    comment: Option<String>,
}

impl Names {
    fn of(bridge: &str) -> Self {
        if bridge == BRIDGE_NAME {
            let table = "weave-ipsec".to_owned();
            return Self { suffix: String::new(), table, comment: None };
        }
        let id = names::id(bridge);
        Self {
            suffix: format!("-{id}"),
            table: format!("weave-ipsec-{id}"),
            comment: Some(format!("Weave Net encryption ({id})")),
        }
    }

    fn incoming(&self) -> String {
        format!("WEAVE-IPSEC-IN{}", self.suffix)
    }

    fn mark_incoming(&self) -> String {
        format!("WEAVE-IPSEC-IN-MARK{}", self.suffix)
    }

    fn outgoing(&self) -> String {
        format!("WEAVE-IPSEC-OUT{}", self.suffix)
    }

    fn mark_outgoing(&self) -> String {
        format!("WEAVE-IPSEC-OUT-MARK{}", self.suffix)
    }
}

impl SealFirewall {
    /// Finds the back end that this host uses, or takes the one that is asked for.
    ///
    /// # Errors
    /// There is none: sealing without rules would let packets through in clear.
    pub fn open(wanted: Option<Backend>, bridge: &str) -> Result<Self, HostError> {
        let none = HostError::NoProgram { program: "iptables or nft" };
        let rules = match wanted {
            Some(backend) => Rules::open(backend)?,
            None => backend::preferred().into_iter().find_map(Rules::working),
        };
        Ok(Self::of(rules.ok_or(none)?, bridge))
    }

    fn of(rules: Rules, bridge: &str) -> Self {
        Self { rules, names: Names::of(bridge), in_order: InOrder::default() }
    }

    /// Makes the rules that all tunnels need. Those of tunnels that are there stay as they are.
    ///
    /// # Errors
    /// If a program of the host fails.
    pub fn prepare(&mut self) -> Result<(), HostError> {
        match &self.rules {
            Rules::Iptables(iptables) => {
                let mut tables = tables(&self.names, &SealPolicy::default());
                let present = listing(iptables, &tables)?;
                for table in &mut tables {
                    let missing =
                        |chain: &String| !present.contains_key(&(table.name, chain.clone()));
                    table.own.retain(|(chain, rules)| missing(chain) || !rules.is_empty());
                }
                match transaction(&tables, &present) {
                    Some(text) => iptables.restore(&text),
                    None => Ok(()),
                }
            }
            // It is replaced whole, so it is there with all that it needs.
            Rules::Nftables { nftables, .. }
                if nftables.show("ip", &self.names.table)?.is_some() =>
            {
                Ok(())
            }
            Rules::Nftables { .. } => self.apply(&SealPolicy::default()).map(drop),
        }
    }

    /// Makes the rules be as the policy says. A look that finds nothing to do changes nothing, and starts no program
    /// if nobody has changed any rule of nftables since the last one.
    ///
    /// # Errors
    /// If a program of the host fails.
    pub fn apply(&mut self, policy: &SealPolicy) -> Result<Outcome, HostError> {
        let Self { rules, names, in_order } = self;
        in_order.or_look(rules.backend(), policy, || rules.apply(names, policy))
    }

    /// Removes all these rules; `false` if there are none.
    ///
    /// # Errors
    /// If a program of the host fails.
    pub fn remove(&mut self) -> Result<bool, HostError> {
        match &mut self.rules {
            Rules::Iptables(iptables) => remove_from_iptables(iptables, &self.names),
            Rules::Nftables { nftables, made } => {
                *made = None;
                nftables.delete("ip", &self.names.table)
            }
        }
    }
}

/// Removes the rules of a router of this bridge from one kind of iptables.
fn remove_from_iptables(iptables: &Iptables, names: &Names) -> Result<bool, HostError> {
    let tables = tables(names, &SealPolicy::default());
    let present = listing(iptables, &tables)?;
    match removal(&tables, &present) {
        Some(text) => iptables.restore(&text).map(|()| true),
        None => Ok(false),
    }
}

/// Removes the rules of a router of this bridge from a back end; `false` if there are none.
pub(super) fn remove(backend: Backend, bridge: &str) -> Result<bool, HostError> {
    match Rules::open(backend)? {
        Some(rules) => SealFirewall::of(rules, bridge).remove(),
        None => Ok(false),
    }
}

impl Rules {
    const fn backend(&self) -> Backend {
        match self {
            Self::Iptables(iptables) => iptables.backend(),
            Self::Nftables { .. } => Backend::Nftables,
        }
    }

    fn apply(&mut self, names: &Names, policy: &SealPolicy) -> Result<Outcome, HostError> {
        match self {
            Self::Iptables(iptables) => {
                let tables = tables(names, policy);
                let Some(text) = transaction(&tables, &listing(iptables, &tables)?) else {
                    return Ok(Outcome::InOrder);
                };
                iptables.restore(&text)?;
                match transaction(&tables, &listing(iptables, &tables)?) {
                    None => Ok(Outcome::Changed),
                    Some(missing) => {
                        let rules = missing.lines().collect::<Vec<_>>().join("; ");
                        Err(HostError::Rules { rules })
                    }
                }
            }
            Self::Nftables { nftables, made } => {
                let shown = nftables.show("ip", &names.table)?;
                if let (Some((made, before)), Some(now)) = (&*made, &shown)
                    && made == policy
                    && before == now
                {
                    return Ok(Outcome::InOrder);
                }
                nftables.replace(&script(&names.table, policy))?;
                let shown = nftables.show("ip", &names.table)?.unwrap_or_default();
                *made = Some((policy.clone(), shown));
                Ok(Outcome::Changed)
            }
        }
    }

    fn open(backend: Backend) -> Result<Option<Self>, HostError> {
        Ok(match backend {
            Backend::IptablesNft | Backend::IptablesLegacy => {
                Some(Self::Iptables(Iptables::open(backend)?))
            }
            Backend::Nftables => Some(Self::Nftables { nftables: Nftables::open()?, made: None }),
            Backend::None => None,
        })
    }

    /// A program may be there without the kernel's part of it.
    fn working(backend: Backend) -> Option<Self> {
        let rules = Self::open(backend).ok()??;
        let probed = match &rules {
            Self::Iptables(iptables) => iptables.probe(),
            Self::Nftables { nftables, .. } => nftables.probe(),
        };
        probed.is_ok().then_some(rules)
    }
}

/// What a table of iptables shall hold for us, in the words in which it is printed.
struct Table {
    name: &'static str,
    /// Chains of our own with all their rules; those come first to which others jump.
    own: Vec<(String, Vec<String>)>,
    /// Chains that all share, and a rule for each, anywhere in it.
    shared: Vec<(&'static str, String)>,
}

/// What drops comes before what marks.
fn tables(names: &Names, policy: &SealPolicy) -> [Table; 2] {
    let (incoming, outgoing) = (names.incoming(), names.outgoing());
    let (mark_incoming, mark_outgoing) = (names.mark_incoming(), names.mark_outgoing());
    let udp = |source, destination, port| {
        format!("-s {source}/32 -d {destination}/32 -p udp -m udp --dport {port}")
    };
    let unmarked = |tunnel: &SealedTunnel| {
        let packets = udp(tunnel.remote, tunnel.local, tunnel.port);
        format!("{packets} -m mark ! --mark {MARK} -j DROP")
    };
    let guards = policy.guarded.iter().flat_map(|port| {
        let packets = format!("-p udp -m udp --dport {port}");
        let trusted = policy.trusted.iter().filter(|network| network.address().is_ipv4());
        let trusted = trusted.map(|network| match network.prefix() {
            // As it is printed.
            0 => format!("{packets} -j RETURN"),
            _ => format!("-s {network} {packets} -j RETURN"),
        });
        let rest = format!("{packets} -m mark ! --mark {MARK} -j DROP");
        trusted.chain([rest]).collect::<Vec<_>>()
    });
    let sealed = |state: &SealedState| {
        let SealedState { remote, local, spi } = state;
        format!("-s {remote}/32 -d {local}/32 -p esp -m esp --espspi {spi} -j {mark_incoming}")
    };
    let to_be_sealed = |tunnel: &SealedTunnel| {
        let packets = udp(tunnel.local, tunnel.remote, tunnel.port);
        format!("{packets} -j {mark_outgoing}")
    };
    let comment = names.comment.as_ref();
    let comment = comment.map_or(String::new(), |text| format!("-m comment --comment \"{text}\" "));
    let leaks =
        format!("! -p esp -m policy --dir out --pol none -m mark --mark {MARK} {comment}-j DROP");
    let mark = || vec![format!("-j MARK --set-xmark {MARK}")];
    [
        Table {
            name: "filter",
            own: vec![(
                incoming.clone(),
                policy.tunnels.iter().map(unmarked).chain(guards).collect(),
            )],
            shared: vec![("INPUT", format!("-j {incoming}")), ("OUTPUT", leaks)],
        },
        Table {
            name: "mangle",
            own: vec![
                (mark_incoming.clone(), mark()),
                (mark_outgoing.clone(), mark()),
                (incoming.clone(), policy.states.iter().map(sealed).collect()),
                (outgoing.clone(), policy.tunnels.iter().map(to_be_sealed).collect()),
            ],
            shared: vec![("INPUT", format!("-j {incoming}")), ("OUTPUT", format!("-j {outgoing}"))],
        },
    ]
}

fn listing(iptables: &Iptables, tables: &[Table]) -> Result<Listing, HostError> {
    let mut listing = Listing::new();
    for table in tables {
        let own = table.own.iter().map(|(chain, _)| chain.as_str());
        let chains: Vec<_> = own.chain(table.shared.iter().map(|(chain, _)| *chain)).collect();
        listing.append(&mut iptables.listing(table.name, &chains)?);
    }
    Ok(listing)
}

/// What makes the rules complete, as input of `iptables-restore --noflush`; none if they are.
fn transaction(tables: &[Table], present: &Listing) -> Option<String> {
    let mut text = String::new();
    for table in tables {
        let found = |chain: &str| present.get(&(table.name, chain.to_owned()));
        // Writing to a String cannot fail.
        let (mut chains, mut rules) = (String::new(), String::new());
        for (chain, wanted) in &table.own {
            let in_order = found(chain).is_some_and(|found| {
                found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| same(a, b))
            });
            if !in_order {
                // Makes it, or empties it.
                let _ = writeln!(chains, ":{chain} - [0:0]");
                for rule in wanted {
                    let _ = writeln!(rules, "-A {chain} {rule}");
                }
            }
        }
        for (chain, wanted) in &table.shared {
            if !found(chain).is_some_and(|found| found.iter().any(|rule| same(rule, wanted))) {
                let _ = writeln!(rules, "-I {chain} 1 {wanted}");
            }
        }
        if !(chains.is_empty() && rules.is_empty()) {
            let _ = write!(text, "*{}\n{chains}{rules}COMMIT\n", table.name);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// What takes away all that is there; none if nothing is. What marks goes before what drops.
fn removal(tables: &[Table], present: &Listing) -> Option<String> {
    let mut text = String::new();
    for table in tables.iter().rev() {
        let found = |chain: &str| present.get(&(table.name, chain.to_owned()));
        let mut lines = String::new();
        for (chain, ours) in &table.shared {
            for rule in found(chain).into_iter().flatten().filter(|rule| same(rule, ours)) {
                let _ = writeln!(lines, "-D {chain} {rule}");
            }
        }
        let own: Vec<_> = table
            .own
            .iter()
            .map(|(chain, _)| chain)
            .filter(|chain| found(chain).is_some())
            .collect();
        for chain in &own {
            let _ = writeln!(lines, "-F {chain}");
        }
        for chain in &own {
            let _ = writeln!(lines, "-X {chain}");
        }
        if !lines.is_empty() {
            let _ = write!(text, "*{}\n{lines}COMMIT\n", table.name);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Replaces the table of nftables in one transaction. `rt ipsec` needs Linux 4.20.
fn script(table: &str, policy: &SealPolicy) -> String {
    let (bit, marked) = ("0x20000", "meta mark & 0x20000");
    let mut text = format!("table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n");
    let mut chain = |name: &str, hook: &str, priority: &str, rules: Vec<String>| {
        let _ = writeln!(
            text,
            "chain {name} {{\ntype {hook} priority {priority}; policy accept;\n{}}}",
            rules.iter().map(|rule| format!("{rule}\n")).collect::<String>()
        );
    };
    let SealPolicy { tunnels, states, guarded, trusted } = policy;
    let sealed = |state: &SealedState| {
        let SealedState { remote, local, spi } = state;
        format!("ip saddr {remote} ip daddr {local} esp spi {spi} meta mark set meta mark | {bit}")
    };
    let unmarked = |tunnel: &SealedTunnel| {
        let SealedTunnel { local, remote, port } = tunnel;
        format!("ip saddr {remote} ip daddr {local} udp dport {port} {marked} == 0 drop")
    };
    let guards = guarded.iter().flat_map(|port| {
        let trusted = trusted.iter().filter(|network| network.address().is_ipv4());
        let trusted = trusted.map(move |network| match network.prefix() {
            // A network of all hosts is none for nftables.
            0 => format!("udp dport {port} return"),
            _ => format!("ip saddr {network} udp dport {port} return"),
        });
        trusted.chain([format!("udp dport {port} {marked} == 0 drop")])
    });
    let to_be_sealed = |tunnel: &SealedTunnel| {
        let SealedTunnel { local, remote, port } = tunnel;
        format!(
            "ip saddr {local} ip daddr {remote} udp dport {port} meta mark set meta mark | {bit}"
        )
    };
    // The priorities of mangle and filter. A mark that is set in a route chain makes the kernel
    // look for a policy once more.
    let (mangle, filter) = ("-150", "0");
    chain("mark-in", "filter hook input", mangle, states.iter().map(sealed).collect());
    let incoming = tunnels.iter().map(unmarked).chain(guards).collect();
    chain("in", "filter hook input", filter, incoming);
    chain("mark-out", "route hook output", mangle, tunnels.iter().map(to_be_sealed).collect());
    let leaks = format!("ip protocol != esp {marked} == {bit} rt ipsec missing drop");
    chain("out", "filter hook output", filter, vec![leaks]);
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests;
