//! The status pages (spec cli-http.md, section 6; router.md, section 14).

use std::fmt::Write as _;

use serde_json::Value;

use super::report::{Report, VersionCheck};

/// `/status`.
pub(crate) fn status(report: &Report) -> String {
    let router = &report.router;
    let versions = match (router.protocol_min_version, router.protocol_max_version) {
        (min, max) if min == max => max.to_string(),
        (min, max) => format!("{min}..{max}"),
    };
    let switch = |on| if on { "enabled" } else { "disabled" };
    let connections = with_counts(
        router.connections.len(),
        "",
        &["established", "pending", "retrying", "failed", "connecting"].map(|state| {
            let count = router.connections.iter().filter(|c| c.state == state).count();
            (count, state)
        }),
        "",
    );
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
    if !router.firewall.is_empty() {
        lines.push(("Firewall", router.firewall.clone()));
    }
    let line = |(label, value): &(&str, String)| match *label {
        "" => "\n".to_owned(),
        label => format!("{label:>15}: {value}\n"),
    };
    lines.iter().map(line).collect()
}

/// `/status/targets`.
pub(crate) fn targets(report: &Report) -> String {
    report.router.targets.iter().map(|target| format!("{target}\n")).collect()
}

/// `/status/connections`. The original left no room between the attributes; the MTU is the last
/// one as it was there, where scripts look for it.
pub(crate) fn connections(report: &Report) -> String {
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
        let attributes = others.iter().chain(&mtu);
        let attributes: Vec<_> =
            attributes.map(|(key, value)| format!("{key}={}", bare(value))).collect();
        let attributes = attributes.join(" ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{arrow} {address:<21} {state:<11} {info} {attributes}");
    }
    text
}

/// `/status/peers`.
pub(crate) fn peers(report: &Report) -> String {
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
    use crate::status::indented;

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
            let router_blocks: String = expected("status")
                .split_inclusive("\n\n")
                .take(2)
                .collect::<String>()
                .trim_end()
                .to_owned();
            assert_eq!(status(&report).trim_end(), router_blocks, "{name}");
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
            let (router, _) = expected.split_once(",\n    \"IPAM\"").unwrap();
            let router = format!("{router}\n}}");
            assert_eq!(indented(&report).unwrap(), router, "{}", case["name"]);
        }
    }
}
