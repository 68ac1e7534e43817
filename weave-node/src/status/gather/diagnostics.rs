//! How transports do, and what is known of the kernel.

use std::collections::BTreeMap;

use serde_json::Value;
use weave_core::router;
use weave_core::switch::MemberState;
use weave_fastdp::EngineStatus;
use weave_fastdp::ipsec::IpsecStatus;

use super::HostStatus;

/// How each transport of each connection does. Under `fastdp` there is also what the original has
/// there: what is known of the kernel.
pub(super) fn overlay_diagnostics(report: &router::Report, host: &HostStatus) -> Value {
    let mut overlays: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for link in report.links.values() {
        for member in &link.overlays {
            let (state, reason) = match &member.state {
                MemberState::Pending => ("pending", None),
                MemberState::Established => ("established", None),
                MemberState::Held => ("held", None),
                MemberState::Gone { reason } => ("gone", Some(reason.as_str())),
            };
            overlays.entry(member.name).or_default().push(serde_json::json!({
                "Peer": link.peer.to_string(),
                "State": state,
                "Reason": reason,
            }));
        }
    }
    let mut all: serde_json::Map<String, Value> =
        overlays.into_iter().map(|(name, links)| (name.to_owned(), Value::Array(links))).collect();
    if let Some(engine) = &host.engine {
        let links = all.remove("fastdp").unwrap_or(Value::Null);
        let mut known = engine_diagnostics(engine, links);
        if let Some(IpsecStatus { states, policies, .. }) = &host.ipsec {
            known["Ipsec"] = serde_json::json!({ "States": states, "Policies": policies });
        }
        all.insert("fastdp".to_owned(), known);
    }
    if all.is_empty() { Value::Null } else { Value::Object(all) }
}

fn engine_diagnostics(engine: &EngineStatus, links: Value) -> Value {
    let ports = engine
        .ports
        .iter()
        .map(|port| serde_json::json!({ "ID": port.id, "Name": port.name, "TypeName": port.kind }));
    let flows = engine.flows.iter().map(|flow| {
        serde_json::json!({
            "FlowKeys": flow.keys,
            "Actions": flow.actions,
            "Packets": flow.packets,
            "Bytes": flow.bytes,
            "Used": flow.used.unwrap_or(0),
        })
    });
    let mut known = serde_json::json!({
        "Vports": ports.collect::<Vec<_>>(),
        "Flows": flows.collect::<Vec<_>>(),
        "Links": links,
    });
    let left_out = engine.flow_count.saturating_sub(engine.flows.len());
    if left_out > 0 {
        known["FlowsLeftOut"] = left_out.into();
    }
    known
}
