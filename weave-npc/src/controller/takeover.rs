//! What the controller of Weave Net left: chains of iptables, of either kind, and sets.
//!
//! A router of Weave Net 2.x that still runs has rules that jump to `WEAVE-NPC`, and behind them
//! one that drops. For it that chain accepts everything, as our table judges; when nothing jumps
//! to it, it goes as well.

use weave_firewall::ipset::Ipset;
use weave_firewall::iptables::{Chain, Iptables, Table};
use weave_firewall::{Backend, FirewallError, in_use};

const MAIN: &str = "WEAVE-NPC";
const EGRESS: &str = "WEAVE-NPC-EGRESS";
/// The others, those first that jump to others of them.
const INNER: [&str; 5] = [
    "WEAVE-NPC-DEFAULT",
    "WEAVE-NPC-INGRESS",
    "WEAVE-NPC-EGRESS-DEFAULT",
    "WEAVE-NPC-EGRESS-CUSTOM",
    "WEAVE-NPC-EGRESS-ACCEPT",
];
/// How the names of the sets begin. `weaver-no-masq-local` of the router is not one of them.
const SET_PREFIX: &str = "weave-";

/// Removes it. What cannot be removed is told, and nothing else: no leftover stops the start.
pub(super) fn remove_leftovers() {
    for backend in in_use() {
        if !matches!(backend, Backend::IptablesNft | Backend::IptablesLegacy) {
            continue;
        }
        match remove_chains(backend) {
            Ok(true) => tracing::info!(%backend, "removed the rules of Weave Net's controller"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%backend, %error, "rules of Weave Net's controller are left");
            }
        }
    }
    match remove_sets() {
        Ok(0) | Err(FirewallError::NoProgram { .. }) => {}
        Ok(sets) => tracing::info!(sets, "removed the sets of Weave Net's controller"),
        Err(error) => tracing::warn!(%error, "sets of Weave Net's controller are left"),
    }
}

/// Makes the chains harmless, and returns whether there were any.
fn remove_chains(backend: Backend) -> Result<bool, FirewallError> {
    let mut iptables = Iptables::open(backend)?;
    if iptables.counters("filter", MAIN)?.is_none()
        && iptables.counters("filter", EGRESS)?.is_none()
    {
        return Ok(false);
    }
    let chain = |name: &str, rules: Vec<String>| Chain { name: name.to_owned(), rules };
    let own = vec![chain(MAIN, vec!["-j ACCEPT".to_owned()]), chain(EGRESS, Vec::new())];
    let gone = INNER.iter().map(|name| (*name).to_owned()).collect();
    let harmless = Table { name: "filter", own: own.clone(), gone, ..Table::default() };
    iptables.apply(&[harmless], &[])?;
    if let Err(error) = iptables.remove(&[Table { name: "filter", own, ..Table::default() }], &[]) {
        tracing::debug!(%backend, %error, "a router of Weave Net still jumps to {MAIN}");
    }
    Ok(true)
}

/// Destroys the sets, and returns how many there were.
fn remove_sets() -> Result<usize, FirewallError> {
    let ipset = Ipset::open()?;
    let of_original = |name: &String| name.starts_with(SET_PREFIX);
    let mut left: Vec<_> = ipset.names()?.into_iter().filter(of_original).collect();
    let found = left.len();
    // One that is in another goes after that.
    loop {
        let before = left.len();
        let mut last = None;
        left.retain(|name| ipset.destroy(name).map_err(|error| last = Some(error)).is_err());
        match last {
            None => return Ok(found),
            Some(error) if left.len() == before => return Err(error),
            Some(_) => {}
        }
    }
}
