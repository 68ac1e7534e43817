//! Rules of a router of Weave Net 2.x that was here before, and that ours does not make
//! (spec cni.md, section 8). Those with our names are ours by now.
//!
//! Where Weave Net enforced network policies, its rules lead packets to the chains of its
//! controller, and drop what those do not accept. They are as good as they were until our
//! controller has a table of its own; taken away before that, all would be open.

use weave_firewall::ipset::Ipset;
use weave_firewall::iptables::{Chain, Place, Shared, Table};
use weave_firewall::nftables::{Family, Nftables};
use weave_firewall::{Backend, Leftovers, find_everywhere, remove_everywhere};

use crate::error::HostError;
use crate::names::BRIDGE_NAME;

/// The table of our controller of network policies.
pub(super) const POLICIES: &str = "weave-npc";
/// Empty, and there as long as nobody flushes the tables.
const CANARY: &str = "WEAVE-CANARY";
/// The set of the networks whose packets keep their source; a rule in `WEAVE` used it.
const LOCAL_NETWORKS: &str = "weaver-no-masq-local";
const NOTE: &str = "-m comment --comment \"NOTE: this must go before '-j KUBE-FORWARD'\"";

/// Returns whether Weave Net's rules for network policies are all there is for these: they are
/// there, and the table of our controller is not.
///
/// # Errors
/// If a program of the host fails.
pub fn original_policies_stand(bridge: &str) -> Result<bool, HostError> {
    if bridge != BRIDGE_NAME || find_everywhere(&of(jumps(bridge)))?.is_empty() {
        return Ok(false);
    }
    // Without the program there cannot be a table either.
    let table = Nftables::open().and_then(|nft| nft.show(Family::Inet, POLICIES));
    Ok(!matches!(table, Ok(Some(_))))
}

/// Removes what a router of Weave Net left in all back ends, and returns in which there was
/// anything. A router with another bridge than the default one is not in its place.
///
/// # Errors
/// If a program of the host fails.
pub fn remove_original_rules(bridge: &str) -> Result<Vec<Backend>, HostError> {
    if bridge != BRIDGE_NAME {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    if !find_everywhere(&of(jumps(bridge)))?.is_empty() {
        found = remove_everywhere(&of(policies(bridge)), None)?;
    }
    for backend in remove_everywhere(&of(canaries()), None)? {
        if !found.contains(&backend) {
            found.push(backend);
        }
    }
    if let Ok(sets) = Ipset::open() {
        // A rule of somebody may use it still: then it stays.
        if let Err(error) = sets.destroy(LOCAL_NETWORKS) {
            tracing::debug!(%error, "the set {LOCAL_NETWORKS} stays");
        }
    }
    Ok(found)
}

fn of(ipv4: Vec<Table>) -> Leftovers {
    Leftovers { ipv4, ..Leftovers::default() }
}

/// What leads to the chains of the controller.
fn jumps(bridge: &str) -> Vec<Table> {
    let forward = [
        format!("-i {bridge} {NOTE} -j WEAVE-NPC-EGRESS"),
        format!("-o {bridge} {NOTE} -j WEAVE-NPC"),
    ];
    vec![filter(&[("FORWARD", &forward), ("INPUT", &[format!("-i {bridge} -j WEAVE-NPC-EGRESS")])])]
}

/// The same, and what becomes of packets that those chains do not accept.
fn policies(bridge: &str) -> Vec<Table> {
    let forward = [
        format!("-o {bridge} -m state --state NEW -j NFLOG --nflog-group 86"),
        format!("-o {bridge} -j DROP"),
    ];
    let mut tables = jumps(bridge);
    let mut refused = filter(&[("FORWARD", &forward)]);
    for table in &mut tables {
        table.shared.append(&mut refused.shared);
    }
    tables
}

fn canaries() -> Vec<Table> {
    let chain = || Chain { name: CANARY.to_owned(), rules: Vec::new() };
    let table = |name| Table { name, own: vec![chain()], ..Table::default() };
    ["mangle", "nat", "filter"].map(table).into()
}

fn filter(shared: &[(&'static str, &[String])]) -> Table {
    let shared = shared.iter().map(|(chain, rules)| Shared {
        chain,
        rules: rules.to_vec(),
        place: Place::First,
    });
    Table { name: "filter", shared: shared.collect(), ..Table::default() }
}
