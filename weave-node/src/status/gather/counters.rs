//! All that is counted.

use std::collections::BTreeMap;

use serde_json::Value;
use weave_core::metric::Reading;
use weave_core::router;

use super::HostStatus;

/// What the port counts; for a datapath, as in the original, how often it had no flow.
pub(super) fn capture_stats(host: &HostStatus) -> Value {
    let port = host.capture.iter().map(|counter| (counter.name, counter.value));
    let engine = host.engine.iter().flat_map(|engine| &engine.counters);
    let misses = engine.filter(|counter| counter.name == "flow_misses");
    let misses = misses.map(|counter| ("FlowMisses", counter.value));
    let named = |(name, n): (&str, u64)| (name.to_owned(), Value::from(n));
    let all: serde_json::Map<_, _> = port.chain(misses).map(named).collect();
    if all.is_empty() { Value::Null } else { Value::Object(all) }
}

/// What is counted for the whole router, each with what its name begins with in the report.
pub(super) fn readings(report: &router::Report, host: &HostStatus) -> Vec<(&'static str, Reading)> {
    let engine = host.engine.iter().flat_map(|engine| &engine.counters);
    let ipsec = host.ipsec.iter().flat_map(|ipsec| &ipsec.counters);
    let mesh = report.mesh.counters.readings().into_iter().map(|reading| ("", reading));
    let switch = report.switch.readings().into_iter().map(|reading| ("", reading));
    mesh.chain(switch)
        .chain(host.sleeve.iter().map(|reading| ("sleeve_", *reading)))
        .chain(engine.map(|reading| ("fastdp_", *reading)))
        .chain(ipsec.map(|reading| ("ipsec_", *reading)))
        .collect()
}

/// The same as the report has it.
pub(super) fn counters(readings: &[(&str, Reading)]) -> BTreeMap<String, u64> {
    let named =
        |(prefix, reading): &(&str, Reading)| (format!("{prefix}{}", reading.key()), reading.value);
    readings.iter().map(named).collect()
}
