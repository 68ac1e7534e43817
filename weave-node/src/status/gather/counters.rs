//! All that is counted.

use std::collections::BTreeMap;

use serde_json::Value;
use weave_core::{mesh, router};

use super::HostStatus;

/// What the port counts; for a datapath, as in the original, how often it had no flow.
pub(super) fn capture_stats(host: &HostStatus) -> Value {
    let named = |(name, n): (&str, u64)| (name.to_owned(), Value::from(n));
    let port = host.capture.iter().map(|(name, n)| named((name, *n)));
    let engine = host.engine.iter().flat_map(|engine| &engine.counters);
    let misses = engine.filter(|(name, _)| *name == "flow_misses");
    let all: serde_json::Map<_, _> =
        port.chain(misses.map(|&(_, n)| named(("FlowMisses", n)))).collect();
    if all.is_empty() { Value::Null } else { Value::Object(all) }
}

/// Names never change: they are part of the metrics.
pub(super) fn counters(report: &router::Report, host: &HostStatus) -> BTreeMap<String, u64> {
    let mesh::Counters {
        messages_received,
        messages_sent,
        bytes_received,
        bytes_sent,
        gossip_received,
        gossip_sent,
        unicasts_relayed,
        unicasts_unroutable,
        gossip_refused,
        gossip_malformed,
        gossip_circled,
        records_dropped,
        dropped_backlog,
        messages_ignored,
        route_calculations,
        crowded_out,
        turned_away,
        handshakes_failed,
        passwords_differed,
        reassembly_exhausted,
        backlog_exhausted,
        messages_delayed,
        dropped_too_long,
        ..
    } = report.mesh.counters;
    let switch = &report.switch;
    let mut counters: BTreeMap<String, u64> = [
        ("mesh_messages_received", messages_received),
        ("mesh_messages_sent", messages_sent),
        ("mesh_bytes_received", bytes_received),
        ("mesh_bytes_sent", bytes_sent),
        ("gossip_messages_received", gossip_received),
        ("gossip_messages_sent", gossip_sent),
        ("unicasts_relayed", unicasts_relayed),
        ("unicasts_unroutable", unicasts_unroutable),
        ("gossip_dropped_backlog", dropped_backlog),
        ("gossip_dropped_refused", gossip_refused),
        ("gossip_dropped_malformed", gossip_malformed),
        ("gossip_dropped_circled", gossip_circled),
        ("topology_records_dropped", records_dropped),
        ("mesh_messages_ignored", messages_ignored),
        ("route_calculations", route_calculations),
        ("mesh_messages_too_long", dropped_too_long),
        ("handshakes_crowded_out", crowded_out),
        ("handshakes_turned_away", turned_away),
        ("handshakes_failed", handshakes_failed),
        ("passwords_differed", passwords_differed),
        ("reassembly_exhausted", reassembly_exhausted),
        ("backlog_exhausted", backlog_exhausted),
        ("mesh_messages_delayed", messages_delayed),
        ("frames_captured", switch.captured),
        ("frames_received", switch.received),
        ("frames_injected", switch.injected),
        ("frames_forwarded", switch.forwarded),
        ("too_big_answers", switch.too_big_answers),
        ("station_moves", switch.moves),
        ("station_disputes", switch.disputes),
        ("station_contests", switch.contests),
        ("station_evictions", switch.evictions),
    ]
    .map(|(name, n)| (name.to_owned(), n))
    .into();
    let drops = switch.dropped.iter();
    counters.extend(drops.map(|(cause, n)| (format!("frames_dropped.{}", cause.name()), n)));
    let socket = host.sleeve.iter();
    counters.extend(socket.map(|(name, n)| (format!("sleeve_{name}"), *n)));
    let engine = host.engine.iter().flat_map(|engine| &engine.counters);
    counters.extend(engine.map(|(name, n)| (format!("fastdp_{name}"), *n)));
    let ipsec = host.ipsec.iter().flat_map(|ipsec| &ipsec.counters);
    counters.extend(ipsec.map(|(name, n)| (format!("ipsec_{name}"), *n)));
    counters
}
