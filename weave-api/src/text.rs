//! The status pages (spec cli-http.md, section 6; router.md, section 14).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use crate::report::{
    Connection, IpamEntry, IpamStatus, PaxosStatus, Report, RouterStatus, VersionCheck,
};

/// Peers that the page of the whole router names.
const MOST_NAMED: usize = 4;
/// Conflicts that the page of the allocator tells.
const MOST_CONFLICTS: usize = 32;

/// `/status`, of a router with no parts but those of this crate.
pub fn status(report: &Report) -> String {
    router_section(report) + &ipam_section(report)
}

/// The lines of version and router in the page of the whole router.
pub fn router_section(report: &Report) -> String {
    let router = &report.router;
    let versions = match (router.protocol_min_version, router.protocol_max_version) {
        (min, max) if min == max => max.to_string(),
        (min, max) => format!("{min}..{max}"),
    };
    let switch = |on| if on { "enabled" } else { "disabled" };
    let counted = |state: &str, itself| {
        let counted = |c: &&Connection| c.itself == itself && (itself || c.state == state);
        router.connections.iter().filter(counted).count()
    };
    let states = ["established", "pending", "retrying", "failed", "connecting"];
    let states = states.map(|state| (counted(state, false), state));
    let itself = (counted("", true), "to itself");
    let connections =
        with_counts(router.connections.len(), "", &[&states[..], &[itself]].concat(), "");
    let of_peers = || router.peers.iter().flat_map(|peer| &peer.connections);
    let established = of_peers().filter(|connection| connection.established).count();
    let peers = with_counts(
        router.peers.len(),
        "with ",
        &[(established, "established"), (of_peers().count() - established, "pending")],
        " connections",
    );
    let subnets = match router.trusted_subnets.as_slice() {
        [] => "none".to_owned(),
        subnets => subnets.join(", "),
    };
    let mut lines = vec![
        ("Version", format!("{} ({})", report.version, remark(&report.version_check))),
        ("", String::new()),
        ("Service", "router".to_owned()),
        ("Protocol", format!("{} {versions}", router.protocol)),
        ("Name", format!("{}({})", router.name, router.nick_name)),
        ("Encryption", switch(router.encryption).to_owned()),
        ("PeerDiscovery", switch(router.peer_discovery).to_owned()),
        ("Targets", router.targets.len().to_string()),
        ("Connections", connections),
        ("Peers", peers),
        ("TrustedSubnets", subnets),
    ];
    if !router.interface.is_empty() {
        lines.push(("Capture", router.interface.clone()));
    }
    if let Some(stations) = stations(router) {
        lines.push(("Stations", stations));
    }
    if !router.storage.is_empty() {
        lines.push(("Storage", router.storage.clone()));
    }
    if !router.firewall.is_empty() {
        lines.push(("Firewall", router.firewall.clone()));
    }
    if !router.fastdp.is_empty() {
        lines.push(("Fastdp", router.fastdp.clone()));
    }
    section(&lines)
}

/// The lines of the address allocator in the page of the whole router; nothing without one.
pub fn ipam_section(report: &Report) -> String {
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

/// Lines of a part in the page of the whole router: labels and values, or empty ones.
pub fn section(lines: &[(&str, String)]) -> String {
    let line = |(label, value): &(&str, String)| match *label {
        "" => "\n".to_owned(),
        label => format!("{label:>15}: {value}\n"),
    };
    lines.iter().map(line).collect()
}

/// How many stations are known, and what came of claims about where they are, if there were any.
fn stations(router: &RouterStatus) -> Option<String> {
    let counts = [
        ("station_moves", "moved"),
        ("station_disputes", "claimed while silent"),
        ("station_contests", "claims refused"),
    ]
    .map(|(name, what)| {
        let count = router.counters.get(name).copied().unwrap_or_default();
        (usize::try_from(count).unwrap_or(usize::MAX), what)
    });
    let any = counts.iter().any(|(count, _)| *count > 0);
    any.then(|| with_counts(router.stations, "", &counts, ""))
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
pub fn ipam(report: &Report) -> String {
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
    text
}

/// `/status/targets`.
pub fn targets(report: &Report) -> String {
    report.router.targets.iter().map(|target| format!("{target}\n")).collect()
}

/// `/status/connections`. The original left no room between the attributes; the MTU is the last
/// one as it was there, where scripts look for it. What is wrong with a transport that would be
/// better is on a line of its own.
pub fn connections(report: &Report) -> String {
    let mut text = String::new();
    for connection in &report.router.connections {
        let arrow = arrow(connection.outbound);
        let (address, state, info) = (&connection.address, &connection.state, &connection.info);
        let (mtu, others): (Vec<_>, Vec<_>) = connection
            .attrs
            .iter()
            .flatten()
            .filter(|(key, _)| *key != "name")
            .partition(|(key, _)| *key == "mtu");
        // A sentence would be hard to tell from the attributes around it.
        let (sentences, others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(_, value)| bare(value).contains(' '));
        let attributes = others.iter().chain(&mtu);
        let attributes: Vec<_> =
            attributes.map(|(key, value)| format!("{key}={}", bare(value))).collect();
        let attributes = attributes.join(" ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{arrow} {address:<21} {state:<11} {info} {attributes}");
        for (about, value) in sentences {
            let _ = writeln!(text, "   {about}: {}", bare(value));
        }
    }
    text
}

/// `/status/peers`.
pub fn peers(report: &Report) -> String {
    let mut text = String::new();
    for peer in &report.router.peers {
        let _ = writeln!(text, "{}({})", peer.name, peer.nick_name);
        for connection in &peer.connections {
            let arrow = arrow(connection.outbound);
            let other = format!("{}({})", connection.name, connection.nick_name);
            let state = if connection.established { "established" } else { "pending" };
            let _ = writeln!(text, "   {arrow} {:<21} {other:<37} {state}", connection.address);
        }
    }
    text
}

fn arrow(outbound: bool) -> &'static str {
    if outbound { "->" } else { "<-" }
}

fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `5 (with 2 established, 1 pending connections)`; the brackets only if something is counted.
fn with_counts(total: usize, before: &str, counts: &[(usize, &str)], after: &str) -> String {
    let some: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if some.is_empty() {
        total.to_string()
    } else {
        format!("{total} ({before}{}{after})", some.join(", "))
    }
}

fn remark(check: &VersionCheck) -> String {
    // `2021-01-25T12:30:00Z` as `2021/01/25 12:30:00`.
    let next = || {
        let (date, time) = check.next_check_at.split_once('T').unwrap_or_default();
        let time = time.get(..8).unwrap_or(time);
        format!("next check at {} {time}", date.replace('-', "/"))
    };
    if !check.enabled {
        "version check update disabled".to_owned()
    } else if !check.success {
        format!("failed to check latest version - see logs; {}", next())
    } else if !check.new_version.is_empty() {
        format!("version {} available - please upgrade!", check.new_version)
    } else {
        format!("up to date; {}", next())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::json::indented;

    /// The documents and texts of the original.
    fn cases() -> Vec<(Report, Value)> {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/status.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 6);
        cases
            .iter()
            .map(|case| (Report::deserialize(&case["report"]).unwrap(), case.clone()))
            .collect()
    }

    #[test]
    fn pages_are_those_of_the_original() {
        for (report, case) in cases() {
            let name = &case["name"];
            let expected = |page: &str| case[page].as_str().unwrap();
            let blocks = if report.ipam.is_some() { 3 } else { 2 };
            let known_blocks: String = expected("status")
                .split_inclusive("\n\n")
                .take(blocks)
                .collect::<String>()
                .trim_end()
                .to_owned();
            assert_eq!(status(&report).trim_end(), known_blocks, "{name}");
            if let Some(page) = case["ipam"].as_str() {
                assert_eq!(ipam(&report), page, "{name}");
            }
            assert_eq!(targets(&report), expected("targets"), "{name}");
            assert_eq!(peers(&report), expected("peers"), "{name}");
            let mended = expected("connections").replace("truemtu", "true mtu");
            assert_eq!(connections(&report), mended, "{name}");
        }
    }

    #[test]
    fn the_mtu_of_a_connection_ends_its_line() {
        let attrs = serde_json::json!({"cipher": "c", "mtu": 1410, "name": "sleeve", "rtt": "1ms"});
        let connection = serde_json::json!({"Address": "a", "Attrs": attrs, "Info": "sleeve b(b)",
            "Outbound": true, "State": "established"});
        let (mut report, _) = cases().swap_remove(0);
        report.router.connections = vec![serde_json::from_value(connection).unwrap()];
        let line = connections(&report);
        assert!(line.ends_with(" sleeve b(b) cipher=c rtt=1ms mtu=1410\n"), "{line}");
    }

    #[test]
    fn reports_are_printed_as_by_the_original() {
        for (report, case) in cases() {
            // A real router is one of its peers; the other documents were made up, with lists
            // that are `null` in one and `[]` in another.
            if report.router.peers.is_empty() {
                continue;
            }
            let expected = case["report_as_printed"].as_str().unwrap();
            // The other services belong to other parts.
            let known = match expected.split_once(",\n    \"DNS\"") {
                Some((known, _)) => format!("{known}\n}}"),
                None => expected.to_owned(),
            };
            assert_eq!(indented(&report).unwrap(), known, "{}", case["name"]);
        }
    }
}
