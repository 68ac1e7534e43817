//! The metrics: Prometheus text, version 0.0.4 (spec cli-http.md, section 8).

mod process;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;

use super::{Control, help};
use process::process;
use weave_api::Detail;
use weave_api::metric::Metric;
use weave_api::report::{Connection, Report};

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new().route("/metrics", get(metrics::<C>))
}

async fn metrics<C: Control>(State(control): State<Arc<C>>) -> Response {
    match control.report(Detail::Metrics).await {
        Ok(report) => {
            let parts = super::parts::<C>();
            let of_parts = parts.iter().flat_map(|part| (part.metrics)(&report)).collect();
            let text = render(&report, of_parts) + &process();
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// `of_parts` are the metrics of the parts of the router.
fn render(report: &Report, of_parts: Vec<Metric>) -> String {
    let router = &report.router;
    let mut metrics = vec![
        connections(&router.connections),
        Metric::new(
            "weave_connection_terminations_total",
            "counter",
            "Number of peer-to-peer connections terminated.",
        )
        .value(&[], as_f64(router.termination_count)),
        Metric::new("weave_peers", "gauge", "Number of peers known, this one included.")
            .value(&[], count(router.peers.len())),
        Metric::new("weave_stations", "gauge", "Number of Ethernet addresses known.")
            .value(&[], count(router.stations)),
    ];
    if let Some(flows) = router.flows {
        let metric = Metric::new("weave_flows", "gauge", "Number of FastDP flows.");
        metrics.push(metric.value(&[], count(flows)));
    }
    for (key, name, help) in [
        ("States", "weave_ipsec_states", "Number of keys of the fast datapath in the kernel."),
        ("Policies", "weave_ipsec_policies", "Number of neighbours whose frames are to be sealed."),
    ] {
        let found = router.overlay_diagnostics.pointer(&format!("/fastdp/Ipsec/{key}"));
        if let Some(number) = found.and_then(Value::as_u64) {
            metrics.push(Metric::new(name, "gauge", help).value(&[], as_f64(number)));
        }
    }
    let mut dropped = Metric::new(
        "weave_frames_dropped_total",
        "counter",
        "Number of frames that went nowhere, by cause.",
    );
    for (name, value) in &router.counters {
        if let Some(cause) = name.strip_prefix("frames_dropped.") {
            dropped = dropped.value(&[("cause", cause)], as_f64(*value));
            continue;
        }
        let help = help::of_counter(name).unwrap_or("Not described.");
        let metric = Metric::new(format!("weave_{name}_total"), "counter", help);
        metrics.push(metric.value(&[], as_f64(*value)));
    }
    for (name, value) in router.capture_stats.as_object().into_iter().flatten() {
        if let (Some(help), Some(value)) = (help::of_capture(name), value.as_u64()) {
            let mut push = |name: &str| {
                let metric = Metric::new(name, "counter", help);
                metrics.push(metric.value(&[], as_f64(value)));
            };
            if name == "capture_errors" {
                push("weave_capture_errors_total");
            }
            // `weave_capture_capture_errors_total` is an old name, kept for one release.
            push(&format!("weave_capture_{name}_total"));
        }
    }
    let help =
        "Whether the state of the router cannot be stored, and so no addresses are given out.";
    let unwritable = f64::from(u8::from(!router.storage.is_empty()));
    metrics.push(Metric::new("weave_storage_failing", "gauge", help).value(&[], unwritable));
    metrics.extend(of_parts);
    metrics.push(dropped);
    metrics.push(round_trips(&router.connections));
    metrics.extend(links(&router.connections));
    let mut text = String::new();
    for metric in metrics {
        metric.print(&mut text);
    }
    text
}

/// By state, overlay and encryption; for each pair of the first two that is seen both values of
/// the last are given, as the original does.
fn connections(connections: &[Connection]) -> Metric {
    let mut counts: BTreeMap<(&str, &str), [usize; 2]> = BTreeMap::new();
    // A list of peers that is the same on all hosts names each of them to itself.
    for connection in connections.iter().filter(|connection| !connection.itself) {
        let attribute = |name| connection.attrs.as_ref().and_then(|attrs| attrs.get(name));
        let overlay = match attribute("name") {
            Some(Value::String(name)) => name,
            _ => "unknown",
        };
        let encrypted = attribute("encrypted") == Some(&Value::Bool(true));
        let counts = counts.entry((&connection.state, overlay)).or_default();
        counts[usize::from(encrypted)] += 1;
    }
    let metric = Metric::new("weave_connections", "gauge", "Number of peer-to-peer connections.");
    counts.into_iter().fold(metric, |metric, ((state, overlay), [clear, encrypted])| {
        metric
            .value(&[("state", state), ("type", overlay), ("encryption", "")], count(clear))
            .value(&[("state", state), ("type", overlay), ("encryption", "yes")], count(encrypted))
    })
}

fn round_trips(connections: &[Connection]) -> Metric {
    let metric = Metric::new(
        "weave_connection_rtt_seconds",
        "gauge",
        "Round-trip time of the TCP connection to the neighbour.",
    );
    connections.iter().fold(metric, |metric, connection| {
        let Some(seconds) = connection.round_trip_seconds else { return metric };
        metric.value(&[("peer", &connection.peer), ("address", &connection.address)], seconds)
    })
}

/// What the links count: `sleeve.tx_bytes` becomes `weave_link_tx_bytes_total{overlay="sleeve"}`,
/// and `sleeve.tx_trains.2-7` becomes
/// `weave_link_tx_trains_total{overlay="sleeve",datagrams="2-7"}`.
fn links(connections: &[Connection]) -> Vec<Metric> {
    let mut metrics: BTreeMap<&str, Metric> = BTreeMap::new();
    for connection in connections {
        for (key, value) in &connection.counters {
            let Some((overlay, counter)) = key.split_once('.') else { continue };
            let (counter, class) = match counter.split_once('.') {
                Some((counter, class)) => (counter, Some(class)),
                None => (counter, None),
            };
            let metric = metrics.remove(counter).unwrap_or_else(|| {
                let help = help::of_link_counter(counter).unwrap_or("Not described.");
                Metric::new(format!("weave_link_{counter}_total"), "counter", help)
            });
            // Two connections to one neighbour may exist for a moment, from other ports.
            let mut labels = vec![
                ("peer", connection.peer.as_str()),
                ("address", connection.address.as_str()),
                ("overlay", overlay),
            ];
            labels.extend(class.map(|class| ("datagrams", class)));
            metrics.insert(counter, metric.value(&labels, as_f64(*value)));
        }
    }
    metrics.into_values().collect()
}

pub(super) fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// Prometheus knows no other numbers; above 2^53 the last digits are lost.
#[expect(clippy::cast_precision_loss, reason = "as said")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use weave_api::report::RouterStatus;

    fn connection(state: &str, attrs: Value) -> Connection {
        let attrs = match attrs {
            Value::Object(map) => Some(map.into_iter().collect()),
            _ => None,
        };
        Connection { state: state.to_owned(), attrs, ..Connection::default() }
    }

    #[test]
    fn connections_are_counted_by_state_overlay_and_encryption() {
        let mut first = connection("established", json!({"name": "sleeve", "encrypted": true}));
        first.address = "192.0.2.1:6783".to_owned();
        first.peer = "7a:9f:eb:b6:0c:6e".to_owned();
        first.round_trip_seconds = Some(0.00025);
        first.counters.insert("sleeve.tx_bytes".to_owned(), 7);
        first.counters.insert("sleeve.tx_trains.1".to_owned(), 8);
        first.counters.insert("sleeve.tx_trains.2-7".to_owned(), 9);
        let report = Report {
            router: RouterStatus {
                connections: vec![
                    first,
                    connection("established", json!({"name": "sleeve"})),
                    connection("waiting", Value::Null),
                ],
                termination_count: 3,
                counters: [
                    ("mesh_bytes_sent".to_owned(), 5),
                    ("frames_dropped.no_route".to_owned(), 9),
                ]
                .into(),
                capture_stats: json!({"captured": 11, "capture_errors": 12}),
                ..RouterStatus::default()
            },
            ..Report::default()
        };
        let text = render(&report, Vec::new());
        for line in [
            r#"weave_connections{state="established",type="sleeve",encryption=""} 1"#,
            r#"weave_connections{state="established",type="sleeve",encryption="yes"} 1"#,
            r#"weave_connections{state="waiting",type="unknown",encryption=""} 1"#,
            r#"weave_connections{state="waiting",type="unknown",encryption="yes"} 0"#,
            "# TYPE weave_connection_terminations_total counter",
            "weave_connection_terminations_total 3",
            "weave_mesh_bytes_sent_total 5",
            r#"weave_frames_dropped_total{cause="no_route"} 9"#,
            "weave_capture_captured_total 11",
            "weave_capture_errors_total 12",
            "weave_capture_capture_errors_total 12",
            concat!(
                r#"weave_link_tx_bytes_total{peer="7a:9f:eb:b6:0c:6e","#,
                r#"address="192.0.2.1:6783",overlay="sleeve"} 7"#
            ),
            "# HELP weave_link_tx_bytes_total Bytes sent to the neighbour.",
            concat!(
                r#"weave_connection_rtt_seconds{peer="7a:9f:eb:b6:0c:6e","#,
                r#"address="192.0.2.1:6783"} 0.00025"#
            ),
            concat!(
                r#"weave_link_tx_trains_total{peer="7a:9f:eb:b6:0c:6e","#,
                r#"address="192.0.2.1:6783",overlay="sleeve",datagrams="2-7"} 9"#
            ),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("# TYPE weave_link_tx_trains_total counter").count(), 1);
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = String::new();
        Metric::new("m", "gauge", "h").value(&[("l", "a\"b\\c\nd")], 1.0).print(&mut text);
        assert!(text.ends_with("m{l=\"a\\\"b\\\\c\\nd\"} 1\n"), "{text}");
    }

    #[test]
    fn the_process_is_measured() {
        let text = process();
        for name in
            ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"]
        {
            assert!(text.contains(&format!("\n{name} ")), "{text}");
        }
    }
}
