//! Taking a container off the switch (spec cni.md, section 6).

use crate::Cidr;
use crate::attach::CONTAINER_INTERFACE;
use crate::error::HostError;
use crate::lock::HostLock;
use crate::namespace::Namespace;
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
    if let Some(plug) = Plug::find(container)? {
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
