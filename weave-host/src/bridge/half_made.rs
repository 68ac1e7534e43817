//! What an interrupted predecessor left half-made.

use weave_rtnl::{Client, Link};

use crate::error::HostError;
use crate::links::delete;
use crate::names::{GUEST_END, MTU_DUMMY};

/// Removes what is half-made. The caller holds the [`HostLock`], so nobody is just making one of
/// these: the end that belongs into a container is still here, where the original made it, or the
/// dummy.
pub(crate) fn remove_half_made(netlink: &mut Client, interfaces: &[Link]) -> Result<(), HostError> {
    for interface in interfaces {
        let guest = interface.kind == "veth" && interface.name.starts_with(GUEST_END);
        let dummy = interface.kind == "dummy" && interface.name == MTU_DUMMY;
        if guest || dummy {
            tracing::info!(interface = %interface.name, "removing a half-made interface");
            delete(netlink, interface)?;
        }
    }
    Ok(())
}
