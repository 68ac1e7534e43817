//! Rules that let nothing of a sealed tunnel leave or enter in clear (spec fastdp.md, section
//! 9.4).
//!
//! They mark what IPsec is to seal, mark what arrives for it, and drop what should be sealed and is
//! not, also from hosts that have no tunnel: the kernel's VXLAN takes packets from anybody who
//! guesses a number of 24 bits. Nothing is accepted by them, so they do the same in any back end.
//! They stand before the rules of others, who may accept what these drop.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use weave_firewall::iptables::{Chain as IptablesChain, Place, Shared, Table as IptablesTable};
use weave_firewall::nftables::{Chain, Family, Hook, Table};
use weave_firewall::{Backend, Firewall, FirewallError, Leftovers, Outcome, Rules};

use crate::error::HostError;
use crate::names::{self, BRIDGE_NAME};
use weave_core::Cidr;

/// The mark of Weave Net 2.x, and its mask, as iptables prints them.
const MARK: &str = "0x20000/0x20000";

/// The priority of the table mangle of iptables, before filter.
const MANGLE: i32 = -150;

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
    firewall: Firewall,
    names: Names,
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
        let firewall = Firewall::open(wanted)?;
        if firewall.backend() == Backend::None {
            return Err(FirewallError::NoProgram { program: "iptables or nft" }.into());
        }
        Ok(Self { firewall, names: Names::of(bridge) })
    }

    /// Makes the rules that all tunnels need. Those of tunnels that are there stay as they are.
    ///
    /// # Errors
    /// If a program of the host fails.
    pub fn prepare(&mut self) -> Result<(), HostError> {
        Ok(self.firewall.prepare(&rules(&self.names, &SealPolicy::default()))?)
    }

    /// Makes the rules be as the policy says. A look that finds nothing to do changes nothing, and
    /// starts no program if nobody has changed any rule of nftables since the last one.
    ///
    /// # Errors
    /// If a program of the host fails.
    pub fn apply(&mut self, policy: &SealPolicy) -> Result<Outcome, HostError> {
        Ok(self.firewall.apply(&rules(&self.names, policy))?)
    }

    /// Removes all these rules; `false` if there are none.
    ///
    /// # Errors
    /// If a program of the host fails.
    pub fn remove(&mut self) -> Result<bool, HostError> {
        Ok(self.firewall.remove(&leftovers_of(&self.names))?)
    }
}

/// Returns what a router of this bridge may have left.
pub(super) fn leftovers(bridge: &str) -> Leftovers {
    leftovers_of(&Names::of(bridge))
}

fn leftovers_of(names: &Names) -> Leftovers {
    let mut ipv4 = tables(names, &SealPolicy::default());
    // What marks goes before what drops.
    ipv4.reverse();
    Leftovers { ipv4, ipv6: Vec::new(), nftables: vec![(Family::Ip, names.table.clone())] }
}

fn rules(names: &Names, policy: &SealPolicy) -> Rules {
    let nftables = vec![table(&names.table, policy)];
    Rules { ipv4: tables(names, policy), ipv6: Vec::new(), nftables }
}

/// Returns the rules for iptables; what drops comes before what marks.
fn tables(names: &Names, policy: &SealPolicy) -> Vec<IptablesTable> {
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
    let chain = |name: &String, rules| IptablesChain { name: name.clone(), rules };
    let shared = |chain, rule| Shared { chain, rules: vec![rule], place: Place::First };
    let drops = policy.tunnels.iter().map(unmarked).chain(guards).collect();
    vec![
        IptablesTable {
            name: "filter",
            own: vec![chain(&incoming, drops)],
            shared: vec![shared("INPUT", format!("-j {incoming}")), shared("OUTPUT", leaks)],
            ..IptablesTable::default()
        },
        IptablesTable {
            name: "mangle",
            own: vec![
                chain(&mark_incoming, mark()),
                chain(&mark_outgoing, mark()),
                chain(&incoming, policy.states.iter().map(sealed).collect()),
                chain(&outgoing, policy.tunnels.iter().map(to_be_sealed).collect()),
            ],
            shared: vec![
                shared("INPUT", format!("-j {incoming}")),
                shared("OUTPUT", format!("-j {outgoing}")),
            ],
            ..IptablesTable::default()
        },
    ]
}

/// `rt ipsec` needs Linux 4.20.
fn table(name: &str, policy: &SealPolicy) -> Table {
    let (bit, marked) = ("0x20000", "meta mark & 0x20000");
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
    let incoming = tunnels.iter().map(unmarked).chain(guards);
    let leaks = format!("ip protocol != esp {marked} == {bit} rt ipsec missing drop");
    // A mark that is set in a route chain makes the kernel look for a policy once more.
    Table::new(Family::Ip, name)
        .with_chain(
            Chain::base("mark-in", Hook::Input)
                .with_priority(MANGLE)
                .with_rules(states.iter().map(sealed)),
        )
        .with_chain(Chain::base("in", Hook::Input).with_rules(incoming))
        .with_chain(
            Chain::base("mark-out", Hook::RouteOutput).with_rules(tunnels.iter().map(to_be_sealed)),
        )
        .with_chain(Chain::base("out", Hook::Output).with_rule(leaks))
}

#[cfg(test)]
mod tests;
