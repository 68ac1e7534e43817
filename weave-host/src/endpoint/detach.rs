//! Taking a container off the switch (spec cni.md, section 6).

use weave_rtnl::Client;

use super::veth_peer::VethPeer;
use crate::bridge::PortNote;
use crate::error::HostError;
use crate::links::{self, delete, remove_address};
use crate::lock::HostLock;
use crate::names::{CONTAINER_INTERFACE, HOST_END};
use crate::namespace::{Namespace, run_here};
use weave_core::Cidr;

/// What detaching changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetachChanges {
    /// The addresses that were taken away.
    pub removed: Vec<Cidr>,
    /// No address was left, so the interface is gone too.
    pub interface_removed: bool,
}

/// Takes addresses, or with an empty list all of them, from a container, and the interface when
/// none is left. What is not there is fine.
///
/// # Errors
/// If the interface of the container is not on this bridge, or the kernel refuses.
pub fn detach(
    container: &Namespace,
    bridge: &str,
    addresses: &[Cidr],
) -> Result<DetachChanges, HostError> {
    let _lock = HostLock::acquire()?;
    let inside = &mut container.client()?;
    let veth = VethPeer::find(&mut Client::open()?, inside, container, CONTAINER_INTERFACE)?;
    if let Some(veth) = veth {
        veth.of_bridge_or_orphan(container, bridge)?;
    }
    let Some(interface) = inside.link_by_name(CONTAINER_INTERFACE)? else {
        return Ok(DetachChanges { removed: Vec::new(), interface_removed: false });
    };
    let present = links::addresses(inside, interface.index)?;
    let (removed, left): (Vec<_>, Vec<_>) =
        present.into_iter().partition(|cidr| addresses.is_empty() || addresses.contains(cidr));
    if left.is_empty() {
        // The other end goes with it.
        inside.delete(&interface)?;
    } else {
        for cidr in &removed {
            remove_address(inside, interface.index, *cidr)?;
        }
    }
    Ok(DetachChanges { removed, interface_removed: left.is_empty() })
}

/// Removes the interface whose port is noted to be this holder's, wherever it is by now, and says
/// whether there was one. The end in the container goes with the one on the host, so that no
/// namespace has to be entered, and nothing can be done to another container that has its path or
/// number by now.
///
/// Without the lock of the host: what has a note is whole, and the kernel takes long to remove
/// it, most of which several removals at once share.
///
/// # Errors
/// If the kernel refuses.
pub fn remove_port_of(holder: &str) -> Result<bool, HostError> {
    run_here(|netlink| {
        let mut found = false;
        for port in netlink.links()? {
            // Other programs may note the ids of containers, too.
            let is_ours = port.kind == "veth" && port.name.starts_with(HOST_END);
            if is_ours && PortNote::of(&port).holder == Some(holder) {
                delete(netlink, &port)?;
                found = true;
            }
        }
        Ok(found)
    })
}

/// Removes an interface that has no note of its holder, as the original and earlier versions made
/// them, if it is on this bridge and has one of the addresses of the container that is meant. Says
/// whether it did.
///
/// # Errors
/// If the kernel refuses.
pub fn remove_unnoted_port(
    container: &Namespace,
    bridge: &str,
    interface: &str,
    addresses: &[Cidr],
) -> Result<bool, HostError> {
    let (host, inside) = (&mut Client::open()?, &mut container.client()?);
    let Some(veth) = VethPeer::find(host, inside, container, interface)? else { return Ok(false) };
    veth.of_bridge_or_orphan(container, bridge)?;
    let (Some(host_end), _) = veth.place() else { return Ok(false) };
    if PortNote::of(&host_end).holder.is_some() {
        return Ok(false);
    }
    let present = match inside.link_by_name(interface)? {
        Some(found) => links::addresses(inside, found.index)?,
        None => Vec::new(),
    };
    let meant = |cidr: &Cidr| addresses.iter().any(|other| other.address() == cidr.address());
    if !present.iter().any(meant) {
        return Ok(false);
    }
    host.delete(&host_end)?;
    Ok(true)
}
