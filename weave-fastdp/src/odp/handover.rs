//! The flows that a router leaves to the next one, and takes over from the one before.

use std::collections::BTreeSet;

use weave_odp::{Client, DumpedFlow, Errno, Error};

use super::bridge::BridgePort;
use super::local_ports::PortRole;
use super::shared::Shared;
use super::unicast_flow::UnicastFlow;

/// Deletes the flows of an earlier router, but for those that may go on for a moment. The stations
/// of these are learned: as long as a flow carries everything that a station sends, no miss shows
/// where it is.
pub(super) fn adopt_flows(shared: &Shared, client: &mut Client) -> Result<(), Error> {
    let dump = client.flows(shared.datapath)?;
    // Flows that cannot be decoded can only be deleted with all others.
    if !shared.config.adopt || !dump.skipped.is_empty() {
        return client.delete_flows(shared.datapath);
    }
    let (now, own) = (shared.now(), shared.switch.own());
    let mut table = shared.state.flows();
    let mut remotes = BTreeSet::new();
    for DumpedFlow { flow, .. } in &dump.flows {
        let unicast = UnicastFlow::of(&flow.matches, &flow.actions).filter(|unicast| {
            let roles = shared.state.local(|local| unicast.ports().map(|port| local.role(port)));
            roles == [Some(PortRole::Tunnel), Some(PortRole::Local)]
        });
        match unicast {
            Some(unicast) if table.has_room_for(&flow.matches) => {
                remotes.insert(unicast.remote());
                table.put(flow);
                let (station, port) = unicast.station();
                shared.switch.refresh_station(now, station, own);
                shared.learn(station, BridgePort::Vport(port));
            }
            _ => client.delete_flow(shared.datapath, &flow.matches)?,
        }
    }
    drop(table);
    if !remotes.is_empty() {
        tracing::info!(hosts = remotes.len(), "flows of the router before this one go on");
    }
    shared.change_tunnel_ports(|ports| {
        remotes.iter().for_each(|remote| ports.retain_flows(now, *remote));
    });
    Ok(())
}

/// Deletes the flows that would stay wrong when the mesh changes.
pub(super) fn release_flows(shared: &Shared) -> Result<(), Error> {
    let mut client = Client::open()?;
    let table = shared.state.flows();
    let tunnel_ports = shared.tunnel_ports();
    let deleted = shared.state.local(|local| {
        table.all_but(|matches, actions| {
            local.bridge.has_flow(matches, actions)
                || tunnel_ports.retained(matches, actions).is_some()
        })
    });
    for matches in deleted {
        match client.delete_flow(shared.datapath, &matches) {
            Err(error) if error.errno() != Some(Errno::ENOENT) => {
                tracing::warn!("flow {matches} stays in the datapath: {error}");
            }
            _ => {}
        }
    }
    Ok(())
}
