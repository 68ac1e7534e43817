//! Addresses of the host on the bridge (spec router.md, section 8).

use crate::arp::announce;
use crate::error::HostError;
use crate::links::{add_address, addresses, remove_address, required};
use crate::lock::HostLock;
use crate::namespace::run_here;
use weave_core::Cidr;

/// Returns the IPv4 addresses of a bridge; none if it is not there.
///
/// # Errors
/// If the kernel refuses.
pub fn bridge_addresses(bridge: &str) -> Result<Vec<Cidr>, HostError> {
    run_here(|netlink| match netlink.link_by_name(bridge)? {
        Some(found) => {
            let addresses = addresses(netlink, found.index)?;
            Ok(addresses.into_iter().filter(|cidr| cidr.address().is_ipv4()).collect())
        }
        None => Ok(Vec::new()),
    })
}

/// Gives the bridge an address and tells the neighbours; says whether it is new.
///
/// # Errors
/// If the bridge is not there, or the kernel refuses.
pub fn expose(bridge: &str, cidr: Cidr) -> Result<bool, HostError> {
    let _lock = HostLock::acquire()?;
    run_here(|netlink| {
        let found = required(netlink, bridge)?;
        if addresses(netlink, found.index)?.contains(&cidr) {
            return Ok(false);
        }
        add_address(netlink, found.index, cidr)?;
        announce::by_hand(&found, cidr);
        Ok(true)
    })
}

/// Takes an address from the bridge; none is fine.
///
/// # Errors
/// If the kernel refuses.
pub fn hide(bridge: &str, cidr: Cidr) -> Result<(), HostError> {
    let _lock = HostLock::acquire()?;
    run_here(|netlink| match netlink.link_by_name(bridge)? {
        Some(found) => remove_address(netlink, found.index, cidr),
        None => Ok(()),
    })
}
