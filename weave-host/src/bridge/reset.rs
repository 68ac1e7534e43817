//! Removing what we, or an interrupted predecessor, left on the host.

use weave_rtnl::Link;

use super::datapath::delete_datapath;
use super::port::is_orphan_of;
use crate::error::HostError;
use crate::links::delete;
use crate::lock::HostLock;
use crate::names::{BRIDGE_NAME, DATAPATH_KIND, GUEST_END, HOST_END, MTU_DUMMY, PortNames};
use crate::namespace::run_here;

/// Removes the bridge, all ports and the interfaces of all containers attached to it, ours and
/// those of Weave Net 2.x, and tells which. Another bridge and its containers stay.
///
/// # Errors
/// If the kernel refuses.
pub fn reset(bridge: &str) -> Result<Vec<String>, HostError> {
    let _lock = HostLock::acquire()?;
    run_here(|netlink| {
        let interfaces = netlink.links()?;
        let index = interfaces.iter().find(|found| found.name == bridge).map(|found| found.index);
        let ours = |interface: &&Link| is_ours(bridge, index, interface);
        let mut removed = Vec::new();
        for interface in interfaces.iter().filter(ours) {
            if interface.kind == DATAPATH_KIND {
                delete_datapath(&interface.name)?;
            } else {
                delete(netlink, interface)?;
            }
            removed.push(interface.name.clone());
        }
        removed.sort();
        Ok(removed)
    })
}

fn is_ours(bridge: &str, index: Option<u32>, interface: &Link) -> bool {
    let name = interface.name.as_str();
    let PortNames { tap, bridge_end, router_end, datapath, datapath_end } = PortNames::of(bridge);
    // The original knew one bridge on a host.
    let original = |names: &[&str]| bridge == BRIDGE_NAME && names.contains(&name);
    match interface.kind.as_str() {
        "bridge" => name == bridge,
        DATAPATH_KIND => name == bridge || name == datapath,
        "tun" => name == tap,
        "dummy" => original(&[MTU_DUMMY]),
        "veth" => {
            let on_it = index.is_some() && interface.controller == index;
            name == bridge_end
                || name == router_end
                || name == datapath_end
                || name.starts_with(GUEST_END)
                || name.starts_with(HOST_END) && on_it
                || is_orphan_of(bridge, interface)
        }
        _ => false,
    }
}
