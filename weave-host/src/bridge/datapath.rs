//! A kernel datapath, beside the bridge and joined to it by a veth pair, or in its place (spec
//! router.md, section 6).

use weave_odp::{Client, Errno};
use weave_rtnl::{LinkChange, VethEnd};

use super::config::BridgeConfig;
use super::half_made::remove_half_made;
use super::port::{LARGEST_PACKET, connect};
use super::prepare::set_up;
use crate::error::HostError;
use crate::links::{change, delete, required};
use crate::lock::HostLock;
use crate::names::{DATAPATH_KIND, PortNames};
use crate::namespace::run_here;
use crate::sysctl;

/// Makes or adopts the veth pair between the bridge and a kernel datapath. A pair for capture is
/// replaced by it, as both have one end in common. What remains to be done is to make
/// [`PortNames::datapath_end`] a port of the datapath.
///
/// # Errors
/// If the bridge is not there, or the kernel refuses.
pub fn prepare_datapath_pair(bridge: &str) -> Result<(), HostError> {
    let _lock = HostLock::acquire()?;
    let PortNames { bridge_end, datapath_end, .. } = &PortNames::of(bridge);
    run_here(|netlink| {
        let bridge = required(netlink, bridge)?;
        if netlink.link_by_name(datapath_end)?.is_none() {
            match netlink.link_by_name(bridge_end)? {
                None => {}
                Some(found) if found.kind == "veth" => {
                    delete(netlink, (found.index, bridge_end))?;
                }
                Some(found) => {
                    let (name, found) = (found.name, format!("a {}", found.kind));
                    return Err(HostError::Inconsistent { name, found });
                }
            }
            netlink.create_veth(&VethEnd::named(bridge_end), &VethEnd::named(datapath_end))?;
        }
        let index = required(netlink, datapath_end)?.index;
        change(netlink, (index, datapath_end), LinkChange::Mtu(LARGEST_PACKET))?;
        sysctl::ignore_router_advertisements(datapath_end);
        change(netlink, (index, datapath_end), LinkChange::Up)?;
        let port = required(netlink, bridge_end)?;
        connect(netlink, &bridge, &port)
    })
}

/// Brings up the device of a kernel datapath. Weave Net reads the size of its packets there.
///
/// # Errors
/// If it is not there, or the kernel refuses.
pub fn raise_datapath(bridge: &BridgeConfig) -> Result<(), HostError> {
    let datapath = &PortNames::of(&bridge.name).datapath;
    run_here(|netlink| {
        let index = required(netlink, datapath)?.index;
        change(netlink, (index, datapath), LinkChange::Mtu(bridge.mtu))?;
        sysctl::ignore_router_advertisements(datapath);
        change(netlink, (index, datapath), LinkChange::Up)
    })
}

/// Makes a kernel datapath that is there already what containers are attached to, in place of a
/// bridge of this name.
///
/// # Errors
/// If it is not there, or the kernel refuses.
pub fn prepare_fastdp(config: &BridgeConfig) -> Result<(), HostError> {
    let _lock = HostLock::acquire()?;
    run_here(|netlink| {
        let interfaces = netlink.links()?;
        remove_half_made(netlink, &interfaces)?;
        set_up(netlink, config)
    })
}

/// Brings up the port of the router itself, wide enough for any frame: a datapath drops what is
/// wider than a port without a word.
///
/// # Errors
/// If it is not there, or the kernel refuses.
pub fn raise_port(port: &str) -> Result<(), HostError> {
    run_here(|netlink| {
        let found = required(netlink, port)?;
        let mtu = found.max_mtu.unwrap_or(LARGEST_PACKET).min(LARGEST_PACKET);
        change(netlink, (found.index, port), LinkChange::Mtu(mtu))?;
        sysctl::without_ipv6(port);
        change(netlink, (found.index, port), LinkChange::Up)
    })
}

/// Removes the kernel datapath of a bridge and the pair between them, if they are there: a router
/// that captures in another way would make a loop of them.
///
/// # Errors
/// If the kernel refuses.
pub fn remove_datapath(bridge: &str) -> Result<(), HostError> {
    let PortNames { datapath, datapath_end, .. } = PortNames::of(bridge);
    let _lock = HostLock::acquire()?;
    run_here(|netlink| {
        if netlink.link_by_name(&datapath)?.is_some_and(|found| found.kind == DATAPATH_KIND) {
            delete_datapath(&datapath)?;
        }
        match netlink.link_by_name(&datapath_end)? {
            Some(found) if found.kind == "veth" => delete(netlink, (found.index, &datapath_end))?,
            _ => {}
        }
        Ok(())
    })
}

/// Deletes a datapath; none is fine. Its device cannot be deleted like others.
pub(crate) fn delete_datapath(name: &str) -> Result<(), HostError> {
    let delete = || {
        let mut client = Client::open()?;
        let datapath = client.datapath(name)?;
        client.delete_datapath(datapath.id)
    };
    match delete() {
        Err(source) if source.errno() != Some(Errno::ENODEV) => {
            Err(HostError::Datapath { name: name.to_owned(), source })
        }
        _ => Ok(()),
    }
}
