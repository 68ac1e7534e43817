//! What the router asks of this host before it gives addresses to containers: who has some already,
//! and which network they would hide.

use anyhow::Result;
use tokio::task::block_in_place;
use weave_api::HOST_HOLDER;
use weave_core::mesh::Config;
use weave_ipam::allocator::Found;

use crate::ipam;
use crate::settings::Bridge;

/// Warns if containers will hide a network from this host. It is no reason not to start.
pub(crate) fn warn_of_hidden_route(range: weave_ipam::Subnet, bridge: &Bridge) {
    match block_in_place(|| hidden_route(range, &bridge.name)) {
        Ok(None) => {}
        Ok(Some(text)) => tracing::warn!("{text}"),
        Err(error) => tracing::warn!("the routes of this host are not looked at: {error:#}"),
    }
}

/// A network of this host that cannot be reached from here once containers have addresses of it.
pub fn hidden_route(
    range: weave_ipam::Subnet,
    bridge: &str,
) -> Result<Option<String>, weave_host::HostError> {
    let found = weave_host::overlapping_route(range.cidr().into(), bridge)?;
    Ok(found.map(|weave_host::HostRoute { destination, interface }| {
        format!(
            "the range for containers, {range}, overlaps the route to {destination} that this host \
             has through {interface}"
        )
    }))
}

/// The addresses of the host and of the containers on the bridge: whoever has them keeps them.
pub(crate) fn in_use(bridge: &Bridge) -> Vec<Found> {
    let (proc, bridge) = (&bridge.proc_path, &bridge.name);
    let found = |holder: &str, cidr: &weave_host::Cidr, is_container| {
        let cidr = cidr.to_string().parse().ok()?;
        Some(Found { holder: holder.to_owned(), cidr, is_container })
    };
    let host = weave_host::bridge_addresses(bridge).unwrap_or_else(|error| {
        tracing::warn!("the addresses of bridge {bridge} are not claimed: {error}");
        Vec::new()
    });
    let containers = weave_host::endpoints(bridge, proc);
    let containers = containers.unwrap_or_else(|error| {
        tracing::warn!("the addresses of containers on bridge {bridge} are not claimed: {error}");
        Vec::new()
    });
    // In a container of its own, the router finds no way into others but by their ports.
    let mut behind = weave_host::addresses_behind_ports(bridge).unwrap_or_else(|error| {
        tracing::warn!("the ports of bridge {bridge} are not asked for addresses: {error}");
        Vec::new()
    });
    behind.retain(|behind| containers.iter().all(|container| container.port != behind.port));
    let of_containers = containers.iter().map(|container| (&container.id, &container.addresses));
    let behind = behind.iter().map(|behind| (&behind.id, &behind.addresses));
    let of_containers = of_containers
        .chain(behind)
        .flat_map(|(id, cidrs)| cidrs.iter().filter_map(move |cidr| found(id, cidr, true)));
    host.iter().filter_map(|cidr| found(HOST_HOLDER, cidr, false)).chain(of_containers).collect()
}

/// What the allocator is told of the mesh.
pub(crate) fn allocator(settings: &ipam::Settings, config: &Config) -> weave_ipam::Config {
    weave_ipam::Config {
        name: config.name,
        uid: config.uid,
        nickname: config.nickname.clone(),
        universe: settings.range,
        origin: settings.origin.clone(),
    }
}
