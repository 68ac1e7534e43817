//! The numbers of the router as metrics (spec cli-http.md, section 8). What is counted says by
//! itself what it is; here is how the metrics are called.

use std::collections::BTreeMap;

use serde_json::Value;
use weave_api::metric::Metric;
use weave_api::report::{Connection, RouterStatus};
use weave_core::metric::{Kind, Reading};
use weave_core::router;

use super::HostStatus;
use crate::number::{as_f64, count};

/// `readings` are those of the whole router, each with what its name begins with.
pub(super) fn metrics(
    report: &router::Report,
    host: &HostStatus,
    status: &RouterStatus,
    readings: &[(&str, Reading)],
) -> Vec<Metric> {
    let gauge = |name: &str, help| Metric::new(name, "gauge", help);
    let terminations = Metric::new(
        "weave_connection_terminations_total",
        "counter",
        "Number of peer-to-peer connections terminated.",
    );
    let storage = gauge(
        "weave_storage_failing",
        "Whether the state of the router cannot be stored, and so no addresses are given out.",
    );
    let mut metrics = vec![
        connections(&status.connections),
        terminations.value(&[], as_f64(status.termination_count)),
        gauge("weave_peers", "Number of peers known, this one included.")
            .value(&[], count(status.peers.len())),
        gauge("weave_stations", "Number of Ethernet addresses known.")
            .value(&[], count(status.stations)),
        storage.value(&[], f64::from(u8::from(host.state_fault.is_some()))),
    ];
    let mut all = Named::default();
    for reading in host.engine.iter().flat_map(|engine| engine.gauges()) {
        all.add("", reading, &[]);
    }
    for reading in host.ipsec.iter().flat_map(|ipsec| ipsec.gauges()) {
        all.add("ipsec_", reading, &[]);
    }
    for (prefix, reading) in readings {
        all.add(prefix, *reading, &[]);
    }
    for reading in &host.capture {
        all.add("capture_", *reading, &[]);
        if reading.name == "capture_errors" {
            // The other one, `weave_capture_capture_errors_total`, is kept for one release.
            all.add("", *reading, &[]);
        }
    }
    links(report, &mut all);
    metrics.extend(all.0.into_values());
    metrics.push(round_trips(&status.connections));
    metrics
}

/// Metrics by name, so that readings of one name come together.
#[derive(Default)]
struct Named(BTreeMap<String, Metric>);

impl Named {
    /// Adds a reading with the labels it has besides its class.
    fn add(&mut self, prefix: &str, reading: Reading, labels: &[(&str, &str)]) {
        let Reading { name, class, kind, help, value } = reading;
        let (name, kind) = match kind {
            Kind::Counter => (format!("weave_{prefix}{name}_total"), "counter"),
            Kind::Gauge => (format!("weave_{prefix}{name}"), "gauge"),
        };
        let labels: Vec<_> = labels.iter().copied().chain(class).collect();
        let metric = self.0.remove(&name).unwrap_or_else(|| Metric::new(&*name, kind, help));
        self.0.insert(name, metric.value(&labels, as_f64(value)));
    }
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

/// What the links count, with the neighbour: `weave_link_tx_bytes_total{overlay="sleeve"}`.
fn links(report: &router::Report, all: &mut Named) {
    for connection in &report.mesh.connections {
        let (peer, address) = (connection.peer.to_string(), connection.address.to_string());
        let members = report.links.get(&connection.id).into_iter().flat_map(|link| &link.overlays);
        for (overlay, status) in members.filter_map(|m| Some((m.name, m.status.as_ref()?))) {
            // Two connections to one neighbour may exist for a moment, from other ports.
            let labels = [("peer", &*peer), ("address", &*address), ("overlay", overlay)];
            for reading in &status.counters {
                all.add("link_", *reading, &labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;
    use weave_api::Detail;
    use weave_core::mesh::{Config, ConnectionId, ConnectionReport, PeerName, Uid};
    use weave_core::router::{LinkReport, Router};
    use weave_core::switch::{LinkStatus, MemberReport, MemberState, NullOverlay, Overlay, Switch};
    use weave_core::time::Instant;

    use super::super::{Now, gather};
    use super::*;

    fn lonely() -> router::Report {
        let name: PeerName = "7a:9f:eb:b6:0c:6f".parse().unwrap();
        let overlays: Vec<Box<dyn Overlay>> = vec![Box::new(NullOverlay)];
        let (config, switch) = (Config::new(name, Uid(1)), Arc::new(Switch::new(name, 1)));
        Router::new(config, switch, overlays, [1; 32], Instant::ORIGIN).report()
    }

    fn shown(report: router::Report, host: &HostStatus) -> String {
        let now = Now { router: Instant::ORIGIN, wall: UNIX_EPOCH };
        let report = gather(report, host, now, Detail::Metrics);
        let mut text = String::new();
        report.router.metrics.iter().for_each(|metric| metric.print(&mut text));
        text
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    #[test]
    fn connections_are_counted_by_state_overlay_and_encryption() {
        let connection = |state: &str, attrs: Value| Connection {
            state: state.to_owned(),
            attrs: attrs.as_object().map(|map| map.clone().into_iter().collect()),
            ..Connection::default()
        };
        let mut text = String::new();
        connections(&[
            connection("established", json!({"name": "sleeve", "encrypted": true})),
            connection("established", json!({"name": "sleeve"})),
            connection("waiting", Value::Null),
        ])
        .print(&mut text);
        for line in [
            r#"weave_connections{state="established",type="sleeve",encryption=""} 1"#,
            r#"weave_connections{state="established",type="sleeve",encryption="yes"} 1"#,
            r#"weave_connections{state="waiting",type="unknown",encryption=""} 1"#,
            r#"weave_connections{state="waiting",type="unknown",encryption="yes"} 0"#,
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn what_is_counted_has_its_name_and_help() {
        let mut report = lonely();
        report.mesh.counters.connections_ended = 3;
        report.mesh.counters.bytes_sent = 5;
        let capture = vec![
            Reading::counter("captured", "Frames taken.", 11),
            Reading::counter("capture_errors", "Calls that failed.", 12),
        ];
        let text = shown(report, &HostStatus { capture, ..HostStatus::default() });
        for line in [
            "# TYPE weave_connection_terminations_total counter",
            "weave_connection_terminations_total 3",
            "# HELP weave_mesh_bytes_sent_total Bytes of messages sent on TCP connections to \
             neighbours.",
            "weave_mesh_bytes_sent_total 5",
            r#"weave_frames_dropped_total{cause="no_route"} 0"#,
            "weave_capture_captured_total 11",
            "weave_capture_errors_total 12",
            "weave_capture_capture_errors_total 12",
            "weave_storage_failing 0",
        ] {
            has(&text, line);
        }
        assert_eq!(text.matches("# TYPE weave_frames_dropped_total counter").count(), 1);
        assert!(!text.contains("weave_ipsec_") && !text.contains("weave_flows"), "{text}");
    }

    #[test]
    fn the_kernel_is_shown_if_it_carries_frames() {
        let ipsec = weave_fastdp::ipsec::IpsecStatus { states: 4, ..Default::default() };
        let engine = weave_fastdp::EngineStatus { flow_count: 7, ..Default::default() };
        let (engine, ipsec) = (Some(engine), Some(ipsec));
        let text = shown(lonely(), &HostStatus { engine, ipsec, ..HostStatus::default() });
        has(&text, "# TYPE weave_flows gauge");
        has(&text, "weave_flows 7");
        has(&text, "weave_ipsec_states 4");
        has(&text, "weave_ipsec_policies 0");
    }

    #[test]
    fn links_are_told_apart_by_their_neighbours() {
        let mut report = lonely();
        let batches = Reading::counter("tx_trains", "GSO batches.", 9);
        let counters = vec![
            Reading::counter("tx_bytes", "Bytes sent to the neighbour.", 7),
            batches.of_class("datagrams", "1"),
            batches.of_class("datagrams", "2-7"),
        ];
        let status = Some(LinkStatus { counters, ..LinkStatus::default() });
        let member = MemberReport { name: "sleeve", state: MemberState::Established, status };
        let peer: PeerName = "7a:9f:eb:b6:0c:6e".parse().unwrap();
        report.mesh.connections.push(ConnectionReport {
            id: ConnectionId(1),
            peer,
            nickname: "host2".to_owned(),
            address: "192.0.2.1:6783".parse().unwrap(),
            outbound: true,
            established: true,
            trusted: false,
            version: 2,
            unsent: 0,
            round_trip: Some(Duration::from_micros(250)),
            since: Instant::ORIGIN,
        });
        let overlays = vec![member];
        let link = LinkReport { peer, encrypted: false, in_use: Some("sleeve"), overlays };
        report.links.insert(ConnectionId(1), link);
        let text = shown(report, &HostStatus::default());
        for line in [
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
            has(&text, line);
        }
        assert_eq!(text.matches("# TYPE weave_link_tx_trains_total counter").count(), 1);
    }
}
