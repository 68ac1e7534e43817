//! The address allocator in the page of the whole router, and its own page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::section;
use crate::report::{IpamEntry, IpamHolder, IpamStatus, PaxosStatus, Report};

/// Peers that the page of the whole router names.
const MOST_NAMED: usize = 4;
/// Conflicts that the page of the allocator tells.
const MOST_CONFLICTS: usize = 32;

/// The lines of the address allocator in the page of the whole router; nothing without one.
pub fn lines(report: &Report) -> String {
    let Some(ipam) = &report.ipam else { return String::new() };
    let is_unwritable = !report.router.storage.is_empty();
    let mut lines = vec![
        ("", String::new()),
        ("Service", "ipam".to_owned()),
        ("Status", ipam_state(ipam, is_unwritable)),
        ("Range", ipam.range.clone()),
        ("DefaultSubnet", ipam.default_subnet.clone()),
    ];
    if !ipam.conflicts.is_empty() {
        let peers: BTreeSet<&str> =
            ipam.conflicts.iter().map(|conflict| conflict.peer.as_str()).collect();
        let peers = peers.into_iter().take(MOST_NAMED).collect::<Vec<_>>().join(", ");
        lines.push(("Conflicts", format!("with {peers}: see `weave status ipam`")));
    }
    section(&lines)
}

/// The first of these that applies, as in the original.
fn ipam_state(ipam: &IpamStatus, is_unwritable: bool) -> String {
    let reachable = ipam.entries.iter().any(|entry| entry.size > 0 && entry.is_known_peer);
    match &ipam.paxos {
        _ if !ipam.entries.is_empty() && !reachable => {
            "all IP ranges owned by unreachable peers - use 'rmpeer' if they are dead".to_owned()
        }
        _ if is_unwritable => "no addresses are given out: see Storage".to_owned(),
        _ if ipam.settling && !ipam.entries.is_empty() => {
            "waiting for peers to tell which addresses are in use".to_owned()
        }
        _ if !ipam.entries.is_empty() && !ipam.pending_allocates.is_empty() => {
            "waiting for IP(s) to become available".to_owned()
        }
        _ if !ipam.entries.is_empty() => "ready".to_owned(),
        Some(PaxosStatus { elector: true, known_nodes, quorum }) => {
            format!("awaiting consensus (quorum: {quorum}, known: {known_nodes})")
        }
        Some(_) => "priming".to_owned(),
        None => "idle".to_owned(),
    }
}

/// `/status/ipam`: who owns how much, this peer first.
pub fn page(report: &Report) -> String {
    let Some(ipam) = &report.ipam else { return String::new() };
    let mut peers: BTreeMap<(bool, &str), (&IpamEntry, u32)> = BTreeMap::new();
    for entry in &ipam.entries {
        let is_other = entry.peer != report.router.name;
        peers.entry((is_other, entry.peer.as_str())).or_insert((entry, 0)).1 += entry.size;
    }
    let mut text = String::new();
    for ((is_other, peer), (entry, size)) in peers {
        let name = format!("{peer}({})", entry.nickname);
        let share = f64::from(size) * 100.0 / f64::from(ipam.range_size.max(1));
        let remark = match (is_other, entry.is_known_peer) {
            (false, _) => format!("({} active)", ipam.active),
            (true, true) => String::new(),
            (true, false) => "- unreachable!".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<37} {size:>8} IPs ({share:04.1}% of total) {remark}");
    }
    for conflict in ipam.conflicts.iter().take(MOST_CONFLICTS) {
        let _ = writeln!(text, "conflict: {}", conflict.text);
    }
    if let Some(more) = ipam.conflicts.len().checked_sub(MOST_CONFLICTS).filter(|more| *more > 0) {
        let _ = writeln!(text, "and {more} more conflicts: see `weave report`");
    }
    for IpamHolder { holder, addresses, presence, label } in &ipam.holders {
        let line = format!("{:<18} {presence:<9} {holder} {label}", addresses.join(" "));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
