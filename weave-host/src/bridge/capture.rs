//! The veth pair through which the router captures with packet sockets.

use weave_rtnl::{LinkChange, VethEnd};

use super::config::Origin;
use super::port::{LARGEST_PACKET, connect};
use crate::error::HostError;
use crate::links::{change, required};
use crate::lock::HostLock;
use crate::names::PortNames;
use crate::namespace::run_here;
use crate::sysctl;

/// Makes or adopts the veth pair for capture with packet sockets.
///
/// # Errors
/// If the bridge is not there, or the kernel refuses.
pub fn prepare_capture_pair(bridge: &str) -> Result<Origin, HostError> {
    let _lock = HostLock::acquire()?;
    let PortNames { bridge_end, router_end, .. } = &PortNames::of(bridge);
    run_here(|netlink| {
        let bridge = required(netlink, bridge)?;
        let mut origin = Origin::Adopted;
        if netlink.link_by_name(router_end)?.is_none() {
            // An end without the other is no veth of ours: the kernel deletes both at once.
            if let Some(found) = netlink.link_by_name(bridge_end)? {
                let (name, found) = (found.name, format!("a {}", found.kind));
                return Err(HostError::Inconsistent { name, found });
            }
            netlink.create_veth(&VethEnd::named(bridge_end), &VethEnd::named(router_end))?;
            origin = Origin::Created;
        }
        let index = required(netlink, router_end)?.index;
        change(netlink, (index, router_end), LinkChange::Mtu(LARGEST_PACKET))?;
        sysctl::ignore_router_advertisements(router_end);
        change(netlink, (index, router_end), LinkChange::Up)?;
        let port = required(netlink, bridge_end)?;
        connect(netlink, &bridge, &port)?;
        Ok(origin)
    })
}
