//! The bridge that containers are attached to, and the port through which the router hears
//! and speaks (spec router.md, sections 4 and 6).

use weave_rtnl::{Client, Link, LinkChange};

use super::config::{BridgeConfig, Origin};
use super::half_made::remove_half_made;
use super::layout::{Layout, layout_of};
use super::port::{is_orphan_of, make_port};
use crate::error::HostError;
use crate::links::{change, delete, required};
use crate::lock::HostLock;
use crate::names::{DATAPATH_NAME, HOST_END};
use crate::namespace::run_here;
use crate::sysctl;

/// Makes the bridge, or adopts the one that a router before us left, and removes what an
/// interrupted one left half-made.
///
/// # Errors
/// If other devices are in the way, or the kernel refuses.
pub fn prepare_bridge(config: &BridgeConfig) -> Result<Origin, HostError> {
    prepare(config, false)
}

/// Makes or adopts, in the same way, a bridge that is, or will be, joined to a kernel datapath.
///
/// # Errors
/// If other devices are in the way, or the kernel refuses.
pub fn prepare_bridge_of_datapath(config: &BridgeConfig) -> Result<Origin, HostError> {
    prepare(config, true)
}

fn prepare(config: &BridgeConfig, datapath: bool) -> Result<Origin, HostError> {
    let _lock = HostLock::acquire()?;
    run_here(|netlink| {
        let interfaces = netlink.links()?;
        let origin = match layout_of(&config.name, &interfaces) {
            Layout::None => Origin::Created,
            Layout::Bridge => Origin::Adopted,
            Layout::BridgedFastdp if datapath => Origin::Adopted,
            // The datapath is there already; what is missing is made here.
            Layout::Inconsistent { .. } if datapath && !is_there(&config.name, &interfaces) => {
                Origin::Created
            }
            Layout::Fastdp => {
                return Err(HostError::FastDatapath { devices: config.name.clone() });
            }
            Layout::BridgedFastdp => {
                let devices = format!("{}, {DATAPATH_NAME}", config.name);
                return Err(HostError::FastDatapath { devices });
            }
            Layout::Inconsistent { name, found } => {
                return Err(HostError::Inconsistent { name, found });
            }
        };
        remove_half_made(netlink, &interfaces)?;
        if origin == Origin::Created {
            netlink.create_bridge(&config.name)?;
        }
        match set_up(netlink, config) {
            Ok(()) => Ok(origin),
            Err(error) => {
                // The first error says more than one from here.
                if let (Origin::Created, Ok(Some(bridge))) =
                    (origin, netlink.link_by_name(&config.name))
                {
                    let _ = delete(netlink, (bridge.index, &config.name));
                }
                Err(error)
            }
        }
    })
}

fn is_there(name: &str, interfaces: &[Link]) -> bool {
    interfaces.iter().any(|interface| interface.name == name)
}

pub(crate) fn set_up(netlink: &mut Client, config: &BridgeConfig) -> Result<(), HostError> {
    let name = &config.name;
    let bridge = required(netlink, name)?;
    // Set after creation: without that, a bridge takes the smallest address of its ports.
    if bridge.mac != Some(config.mac.0) {
        change(netlink, (bridge.index, name), LinkChange::Mac(config.mac.0))?;
    }
    // A bridge keeps an MTU that was set on it, whatever its ports have (Linux 4.17).
    change(netlink, (bridge.index, name), LinkChange::Mtu(config.mtu))?;
    sysctl::ignore_router_advertisements(name);
    change(netlink, (bridge.index, name), LinkChange::Up)?;
    sysctl::expire_neighbours_soon(name);
    reconnect_orphans(netlink, &bridge)?;
    log_other_mtus(netlink, bridge.index, config.mtu)
}

/// Containers whose bridge was removed by somebody.
fn reconnect_orphans(netlink: &mut Client, bridge: &Link) -> Result<(), HostError> {
    for port in netlink.links()? {
        if is_orphan_of(&bridge.name, &port) {
            make_port(netlink, bridge, &port)?;
            tracing::info!(port = %port.name, "a container without a bridge is back on it");
        }
    }
    Ok(())
}

/// Logs which containers keep another MTU, with which they were attached.
fn log_other_mtus(netlink: &mut Client, bridge: u32, mtu: u32) -> Result<(), HostError> {
    for port in netlink.links()? {
        if port.controller == Some(bridge) && port.name.starts_with(HOST_END) && port.mtu != mtu {
            tracing::warn!(
                port = %port.name,
                "a container was attached with MTU {} and keeps it; new ones get {mtu}",
                port.mtu
            );
        }
    }
    Ok(())
}
