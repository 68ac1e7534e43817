//! Removing what we, or an interrupted predecessor, left on the host.

use crate::attach::{GUEST_END, HOST_END};
use crate::error::HostError;
use crate::lock::HostLock;
use crate::names::{CAPTURE_BRIDGE_END, CAPTURE_ROUTER_END, DATAPATH_END, DATAPATH_NAME, TAP_NAME};
use crate::namespace::run_here;
use crate::netlink::{Interface, Netlink};

/// The dummy by which the original raised the MTU of its bridge.
const MTU_DUMMY: &str = "vethwedu";

/// Removes the bridge, all ports and the interfaces of all attached containers, ours and those
/// of Weave Net 2.x, and tells which.
///
/// # Errors
/// If the kernel refuses.
pub fn reset(bridge: &str) -> Result<Vec<String>, HostError> {
    let _lock = HostLock::acquire()?;
    run_here(async |netlink| {
        let interfaces = netlink.interfaces().await?;
        let ours = |interface: &&Interface| is_ours(bridge, interface);
        let mut removed = Vec::new();
        for interface in interfaces.iter().filter(ours) {
            netlink.delete(interface.index, &interface.name).await?;
            removed.push(interface.name.clone());
        }
        removed.sort();
        Ok(removed)
    })
}

/// The caller holds the [`HostLock`], so nobody is just making one of these: the end that
/// belongs into a container is still here, or the dummy.
pub(crate) async fn remove_half_made(
    netlink: &Netlink,
    interfaces: &[Interface],
) -> Result<(), HostError> {
    for interface in interfaces {
        let guest = interface.kind == "veth" && interface.name.starts_with(GUEST_END);
        let dummy = interface.kind == "dummy" && interface.name == MTU_DUMMY;
        if guest || dummy {
            tracing::info!(interface = %interface.name, "removing a half-made interface");
            netlink.delete(interface.index, &interface.name).await?;
        }
    }
    Ok(())
}

fn is_ours(bridge: &str, interface: &Interface) -> bool {
    let name = interface.name.as_str();
    match interface.kind.as_str() {
        "bridge" => name == bridge,
        "openvswitch" => name == bridge || name == DATAPATH_NAME,
        "tun" => name == TAP_NAME,
        "dummy" => name == MTU_DUMMY,
        "veth" => {
            [CAPTURE_BRIDGE_END, CAPTURE_ROUTER_END, DATAPATH_END].contains(&name)
                || name.starts_with(HOST_END)
                || name.starts_with(GUEST_END)
        }
        _ => false,
    }
}
