//! The cluster in the page of the whole router.

use super::section;
use crate::report::Report;

/// The lines of the cluster; nothing for a router that is in none.
pub fn lines(report: &Report) -> String {
    let Some(cluster) = &report.kubernetes else { return String::new() };
    let server = match (cluster.reachable, cluster.since) {
        (_, 0) => "not asked yet".to_owned(),
        (true, since) => format!("answers since {since} (seconds since 1970)"),
        (false, since) => format!("away since {since} (seconds since 1970): frames go on"),
    };
    let mut lines = vec![
        ("", String::new()),
        ("Service", "kubernetes".to_owned()),
        ("Node", cluster.node.clone()),
        ("ApiServer", server),
        ("Nodes", cluster.nodes.to_string()),
    ];
    if !cluster.last_error.is_empty() {
        lines.push(("LastError", cluster.last_error.clone()));
    }
    if cluster.reclaimed_peers > 0 {
        let (peers, addresses) = (cluster.reclaimed_peers, cluster.reclaimed_addresses);
        lines.push(("Reclaimed", format!("{addresses} addresses of {peers} peers")));
    }
    for (peer, by) in &cluster.locks {
        lines.push(("Reclaiming", format!("{peer} by {by}")));
    }
    section(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::KubernetesStatus;

    #[test]
    fn a_cluster_has_a_section() {
        let mut report = Report::default();
        assert_eq!(lines(&report), "");
        report.kubernetes = Some(KubernetesStatus {
            node: "node-1".to_owned(),
            since: 7,
            last_error: "list nodes: it is away".to_owned(),
            nodes: 3,
            reclaimed_peers: 1,
            reclaimed_addresses: 512,
            locks: [("a".to_owned(), "b".to_owned())].into(),
            ..KubernetesStatus::default()
        });
        let text = lines(&report);
        for line in [
            "        Service: kubernetes\n",
            "           Node: node-1\n",
            "      ApiServer: away since 7 (seconds since 1970): frames go on\n",
            "          Nodes: 3\n",
            "      LastError: list nodes: it is away\n",
            "      Reclaimed: 512 addresses of 1 peers\n",
            "     Reclaiming: a by b\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
