//! The cluster that the router is the pod network of, as the program that has the node tells it.

use weave_api::metric::Metric;
use weave_api::report::Report;
use weave_api::text;

use super::Control;
use super::part::Part;

pub(super) fn part<C: Control>() -> Part<C> {
    Part {
        report: |control, report| report.kubernetes = control.kubernetes(),
        text: text::kubernetes::lines,
        metrics,
        ..Part::default()
    }
}

fn metrics(report: &Report) -> Vec<Metric> {
    let Some(cluster) = &report.kubernetes else { return Vec::new() };
    let gauge = |name, help, value| Metric::new(name, "gauge", help).value(&[], value);
    let counter = |name, help, value| Metric::new(name, "counter", help).value(&[], value);
    #[expect(clippy::cast_precision_loss)]
    let number = |count: u64| count as f64;
    vec![
        gauge(
            "weave_kubernetes_reachable",
            "Whether the Kubernetes API server answers.",
            f64::from(u8::from(cluster.reachable)),
        ),
        gauge(
            "weave_kubernetes_nodes",
            "Number of nodes of the cluster.",
            number(cluster.nodes as u64),
        ),
        counter(
            "weave_kubernetes_reclaimed_peers_total",
            "Number of peers of removed nodes that this router took over.",
            number(cluster.reclaimed_peers),
        ),
        counter(
            "weave_kubernetes_reclaimed_addresses_total",
            "Number of addresses that this router took over from removed nodes.",
            number(cluster.reclaimed_addresses),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted() {
        let mut report = Report::default();
        assert!(metrics(&report).is_empty());
        report.kubernetes = Some(weave_api::report::KubernetesStatus {
            reachable: true,
            nodes: 3,
            reclaimed_addresses: 512,
            ..Default::default()
        });
        let mut text = String::new();
        metrics(&report).iter().for_each(|metric| metric.print(&mut text));
        assert!(text.contains("\nweave_kubernetes_reachable 1\n"), "{text}");
        assert!(text.contains("\nweave_kubernetes_nodes 3\n"), "{text}");
        assert!(text.contains("\nweave_kubernetes_reclaimed_addresses_total 512\n"), "{text}");
    }
}
