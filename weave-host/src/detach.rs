//! Taking a container off the switch (spec cni.md, section 6).

use crate::Cidr;
use crate::attach::{CONTAINER_INTERFACE, HOST_END};
use crate::error::HostError;
use crate::lock::HostLock;
use crate::namespace::{Namespace, run_here};
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

/// Takes an interface from a container, whatever addresses it has; says whether there was one.
///
/// Without the lock of the host: what has its name is whole, and the kernel takes long to remove
/// it, most of which several removals at once share.
///
/// # Errors
/// If the interface is not on this bridge, or the kernel refuses.
pub fn unplug(container: &Namespace, bridge: &str, interface: &str) -> Result<bool, HostError> {
    let Some(plug) = Plug::find(container, interface)? else { return Ok(false) };
    plug.of_bridge_or_orphan(container, bridge)?;
    container.run(async |netlink| match netlink.find(interface).await? {
        Some(found) => netlink.delete(found.index, interface).await.map(|()| true),
        None => Ok(false),
    })
}

/// Removes the end on the host of a container whose namespace cannot be found any more, and the
/// other with it; none is fine. Without the lock, as in [`unplug`].
///
/// # Errors
/// If the kernel refuses, or the interface is not such an end.
pub fn remove_host_end(name: &str) -> Result<(), HostError> {
    run_here(async |netlink| match netlink.find(name).await? {
        None => Ok(()),
        Some(found) if found.kind == "veth" && name.starts_with(HOST_END) => {
            netlink.delete(found.index, name).await
        }
        Some(found) => Err(HostError::Inconsistent { name: name.to_owned(), found: found.kind }),
    })
}
