//! The veth pair through which the router captures with packet sockets.

use super::config::Origin;
use super::port::{LARGEST_PACKET, connect};
use crate::error::HostError;
use crate::lock::HostLock;
use crate::names::PortNames;
use crate::namespace::run_here;
use crate::netlink::Change;
use crate::sysctl;

/// Makes or adopts the veth pair for capture with packet sockets.
///
/// # Errors
/// If the bridge is not there, or the kernel refuses.
pub fn prepare_capture_pair(bridge: &str) -> Result<Origin, HostError> {
    let _lock = HostLock::acquire()?;
    let PortNames { bridge_end, router_end, .. } = &PortNames::of(bridge);
    run_here(async |netlink| {
        let bridge = netlink.required(bridge).await?;
        let mut origin = Origin::Adopted;
        if netlink.find(router_end).await?.is_none() {
            // An end without the other is no veth of ours: the kernel deletes both at once.
            if let Some(found) = netlink.find(bridge_end).await? {
                let (name, found) = (found.name, format!("a {}", found.kind));
                return Err(HostError::Inconsistent { name, found });
            }
            netlink.create_veth(bridge_end, router_end).await?;
            origin = Origin::Created;
        }
        let index = netlink.required(router_end).await?.index;
        netlink.change(index, router_end, Change::Mtu(LARGEST_PACKET)).await?;
        sysctl::ignore_router_advertisements(router_end);
        netlink.change(index, router_end, Change::Up).await?;
        connect(netlink, &bridge, &netlink.required(bridge_end).await?).await?;
        Ok(origin)
    })
}
