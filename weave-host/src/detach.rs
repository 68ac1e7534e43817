//! Taking a container off the switch (spec cni.md, section 6).

use crate::Cidr;
use crate::attach::{CONTAINER_INTERFACE, HOST_END};
use crate::error::HostError;
use crate::lock::HostLock;
use crate::namespace::{Namespace, run_here};
use crate::note::PortNote;
use crate::plug::Plug;

/// What detaching changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detached {
    /// The addresses that were taken away.
    pub removed: Vec<Cidr>,
    /// No address was left, so the interface is gone too.
    pub unplugged: bool,
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
) -> Result<Detached, HostError> {
    let _lock = HostLock::acquire()?;
    if let Some(plug) = Plug::find(container, CONTAINER_INTERFACE)? {
        plug.of_bridge_or_orphan(container, bridge)?;
    }
    container.run(async |netlink| {
        let Some(interface) = netlink.find(CONTAINER_INTERFACE).await? else {
            return Ok(Detached { removed: Vec::new(), unplugged: false });
        };
        let present = netlink.addresses(interface.index).await?;
        let (removed, left): (Vec<_>, Vec<_>) =
            present.into_iter().partition(|cidr| addresses.is_empty() || addresses.contains(cidr));
        if left.is_empty() {
            // The other end goes with it.
            netlink.delete(interface.index, CONTAINER_INTERFACE).await?;
        } else {
            for cidr in &removed {
                netlink.remove_address(interface.index, *cidr).await?;
            }
        }
        Ok(Detached { removed, unplugged: left.is_empty() })
    })
}

/// Removes the interface whose port is noted to be this holder's, wherever it is by now, and says whether
/// there was one. The end in the container goes with the one on the host, so that no namespace has to be
/// entered, and nothing can be done to another container that has its path or number by now.
///
/// Without the lock of the host: what has a note is whole, and the kernel takes long to remove
/// it, most of which several removals at once share.
///
/// # Errors
/// If the kernel refuses.
pub fn remove_port_of(holder: &str) -> Result<bool, HostError> {
    run_here(async |netlink| {
        let mut found = false;
        for port in netlink.interfaces().await? {
            // Other programs may note the ids of containers, too.
            let is_ours = port.kind == "veth" && port.name.starts_with(HOST_END);
            if is_ours && PortNote::of(&port).holder == Some(holder) {
                netlink.delete(port.index, &port.name).await?;
                found = true;
            }
        }
        Ok(found)
    })
}

/// Removes an interface that has no note of its holder, as the original and earlier versions made them, if
/// it is on this bridge and has one of the addresses of the container that is meant. Says whether it did.
///
/// # Errors
/// If the kernel refuses.
pub fn remove_unnoted_port(
    container: &Namespace,
    bridge: &str,
    interface: &str,
    addresses: &[Cidr],
) -> Result<bool, HostError> {
    let Some(plug) = Plug::find(container, interface)? else { return Ok(false) };
    plug.of_bridge_or_orphan(container, bridge)?;
    let (Some(host_end), _) = plug.place() else { return Ok(false) };
    if PortNote::of(&host_end).holder.is_some() {
        return Ok(false);
    }
    let present = container.run(async |netlink| match netlink.find(interface).await? {
        Some(found) => netlink.addresses(found.index).await,
        None => Ok(Vec::new()),
    })?;
    let meant = |cidr: &Cidr| addresses.iter().any(|other| other.address() == cidr.address());
    if !present.iter().any(meant) {
        return Ok(false);
    }
    run_here(async |netlink| netlink.delete(host_end.index, &host_end.name).await)?;
    Ok(true)
}
