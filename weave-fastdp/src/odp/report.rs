//! Ports and flows in the form of the original's report.

use weave_odp::{Action, Client, DumpedFlow, Error, FlowMatch, Tunnel, Vport};

use super::shared::Shared;
use crate::engine::{EngineFlow, EnginePort};

/// Lists at most so many flows of the datapath, and returns how many it has. If none are to be
/// listed, only the datapath's own count is read.
pub(super) fn flows(shared: &Shared, most: usize) -> Result<(Vec<EngineFlow>, usize), Error> {
    let mut client = Client::open()?;
    if most == 0
        && let Some(stats) = client.datapath(&shared.config.datapath)?.stats
    {
        return Ok((Vec::new(), usize::try_from(stats.flows).unwrap_or(usize::MAX)));
    }
    let flows = client.flows(shared.datapath)?.flows;
    Ok((flows.iter().take(most).map(flow).collect(), flows.len()))
}

pub(super) fn port(vport: &Vport) -> EnginePort {
    let kind = vport.kind.name().to_owned();
    EnginePort { id: vport.number.0, name: vport.name.clone(), kind }
}

fn flow(dumped: &DumpedFlow) -> EngineFlow {
    EngineFlow {
        keys: keys(&dumped.flow.matches),
        actions: dumped.flow.actions.iter().map(action).collect(),
        packets: dumped.stats.packets,
        bytes: dumped.stats.bytes,
        used: dumped.stats.used,
    }
}

fn keys(matches: &FlowMatch) -> Vec<String> {
    let mut keys = Vec::new();
    keys.extend(matches.in_port.map(|port| format!("InPortFlowKey{{vport: {port}}}")));
    keys.extend(matches.tag.map(|kind| format!("VLANFlowKey{{tpid: {kind:#06x}}}")));
    let (key, mask) = (matches.ethernet.key(), matches.ethernet.mask());
    if mask != weave_odp::Ethernet::ANY {
        let (source, destination) = (mac(key.source), mac(key.destination));
        keys.push(format!("EthernetFlowKey{{src: {source}, dst: {destination}}}"));
    }
    keys.extend(matches.tunnel.map(|tunnel| {
        let Tunnel { id, source, destination, .. } = tunnel.key();
        format!("TunnelFlowKey{{id: {id:016x}, ipv4src: {source}, ipv4dst: {destination}}}")
    }));
    keys
}

fn action(action: &Action) -> String {
    match action {
        Action::Output(port) => format!("OutputAction{{vport: {port}}}"),
        Action::SetTunnel(tunnel) => {
            let Tunnel { id, source, destination, tos, ttl, dont_fragment, .. } = tunnel;
            format!(
                "SetTunnelAction{{id: {id:016x}, ipv4src: {source}, ipv4dst: {destination}, \
                 tos: {tos}, ttl: {ttl}, df: {dont_fragment}}}"
            )
        }
    }
}

fn mac(bytes: [u8; 6]) -> String {
    weave_core::wire::MacAddress(bytes).to_string()
}
