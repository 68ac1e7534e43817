//! The status pages (spec cli-http.md, section 6; router.md, section 14).

pub mod ipam;
pub mod kubernetes;

use std::fmt::Write as _;

use serde_json::Value;

use crate::report::{Connection, Report, RouterStatus, VersionCheck};

/// `/status`, of a router with no parts but those of this crate.
pub fn status(report: &Report) -> String {
    router_section(report) + &ipam::lines(report) + &kubernetes::lines(report)
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
                assert_eq!(ipam::page(&report), page, "{name}");
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
