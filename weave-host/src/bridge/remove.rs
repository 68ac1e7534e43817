//! Removing a device that is there under a name of ours.

use crate::error::HostError;
use crate::links::delete;
use crate::lock::HostLock;
use crate::names::PortNames;
use crate::namespace::run_here;

/// Removes the veth pair for capture, if it is there: beside a TAP it would only make the
/// bridge flood every frame once more.
///
/// # Errors
/// If the kernel refuses.
pub fn remove_capture_pair(bridge: &str) -> Result<(), HostError> {
    remove(&PortNames::of(bridge).bridge_end, "veth")
}

/// Removes a bridge, if it is there, and nothing else.
///
/// # Errors
/// If the kernel refuses.
pub fn remove_bridge(name: &str) -> Result<(), HostError> {
    remove(name, "bridge")
}

fn remove(name: &str, kind: &str) -> Result<(), HostError> {
    let _lock = HostLock::acquire()?;
    run_here(|netlink| match netlink.link_by_name(name)? {
        None => Ok(()),
        Some(found) if found.kind == kind => delete(netlink, (found.index, name)),
        Some(found) => Err(HostError::Inconsistent { name: found.name, found: found.kind }),
    })
}
