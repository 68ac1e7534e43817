//! The metrics of the allocator.

use std::collections::BTreeSet;

use weave_api::metric::Metric;
use weave_api::report::Report;

use crate::number::count;

/// None without an allocator.
pub(super) fn metrics(report: &Report) -> Vec<Metric> {
    let Some(ipam) = &report.ipam else { return Vec::new() };
    let gauge = |name: &str, help| Metric::new(name, "gauge", help);
    let out_of_reach = || ipam.entries.iter().filter(|entry| !entry.is_known_peer);
    let peers: BTreeSet<&str> = out_of_reach().map(|entry| entry.peer.as_str()).collect();
    let lost: f64 = out_of_reach().map(|entry| f64::from(entry.size)).sum();
    let share = lost * 100.0 / f64::from(ipam.range_size.max(1));
    vec![
        gauge("weave_ips", "Number of IP addresses.")
            .value(&[("state", "local-used")], f64::from(ipam.active)),
        gauge("weave_max_ips", "Size of IP address space used by allocator.")
            .value(&[], f64::from(ipam.range_size)),
        gauge("weave_ipam_unreachable_count", "Number of unreachable peers that own IP addresses.")
            .value(&[], count(peers.len())),
        gauge(
            "weave_ipam_unreachable_percentage",
            "Percentage of all IP addresses owned by unreachable peers.",
        )
        .value(&[], share),
        gauge("weave_ipam_pending_allocates", "Number of pending allocates.")
            .value(&[], count(ipam.pending_allocates.len())),
        gauge("weave_ipam_pending_claims", "Number of pending claims.")
            .value(&[], count(ipam.pending_claims.len())),
        gauge("weave_ipam_conflicts", "Claims of other peers to addresses that do not fit.")
            .value(&[], count(ipam.conflicts.len())),
    ]
}

#[cfg(test)]
mod tests {
    use weave_api::report::IpamStatus;

    use super::*;

    #[test]
    fn no_address_is_out_of_reach_of_nobody() {
        let report = Report { ipam: Some(IpamStatus::default()), ..Report::default() };
        let mut text = String::new();
        metrics(&report).iter().for_each(|metric| metric.print(&mut text));
        assert!(text.contains("\nweave_ipam_unreachable_percentage 0\n"), "{text}");
    }
}
