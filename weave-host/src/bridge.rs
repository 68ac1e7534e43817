//! The bridge that containers are plugged into, and the port through which the router hears
//! and speaks (spec router.md, sections 4 and 6).

use weave_core::wire::MacAddress;

use crate::attach::{HOST_END, required};
use crate::datapath::{DATAPATH_KIND, make_port};
use crate::error::HostError;
use crate::layout::{Layout, layout_of};
use crate::lock::HostLock;
use crate::names::{DATAPATH_NAME, PortNames};
use crate::namespace::run_here;
use crate::netlink::{Change, Interface, Netlink};
use crate::note::PortNote;
use crate::ports::faults;
use crate::{reset, sysctl};

/// No IP packet is longer (RFC 791, section 3.1).
pub(crate) const LARGEST_PACKET: u32 = 65_535;

/// How the bridge shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeConfig {
    /// Its name.
    pub name: String,
    /// Its Ethernet address, which is the peer's name.
    pub mac: MacAddress,
    /// The largest IP packet of its ports and of the containers, in bytes.
    pub mtu: u32,
}

/// Whether the bridge was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It is new.
    Created,
    /// It was there, perhaps with containers, and is used as it is.
    Adopted,
}

/// Makes the bridge, or adopts the one that a router before us left, and removes what an
/// interrupted one left half-made.
///
/// # Errors
/// If other devices are in the way, or the kernel refuses.
pub fn prepare_bridge(config: &BridgeConfig) -> Result<Origin, HostError> {
    prepare(config, false)
}

/// The same for a bridge that is, or will be, joined to a kernel datapath.
///
/// # Errors
/// If other devices are in the way, or the kernel refuses.
pub fn prepare_bridge_of_datapath(config: &BridgeConfig) -> Result<Origin, HostError> {
    prepare(config, true)
}

fn prepare(config: &BridgeConfig, datapath: bool) -> Result<Origin, HostError> {
    let _lock = HostLock::acquire()?;
    run_here(async |netlink| {
        let interfaces = netlink.interfaces().await?;
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
        reset::remove_half_made(netlink, &interfaces).await?;
        if origin == Origin::Created {
            netlink.create_bridge(&config.name).await?;
        }
        match set_up(netlink, config).await {
            Ok(()) => Ok(origin),
            Err(error) => {
                // The first error says more than one from here.
                if let (Origin::Created, Ok(Some(bridge))) =
                    (origin, netlink.find(&config.name).await)
                {
                    let _ = netlink.delete(bridge.index, &config.name).await;
                }
                Err(error)
            }
        }
    })
}

fn is_there(name: &str, interfaces: &[Interface]) -> bool {
    interfaces.iter().any(|interface| interface.name == name)
}

pub(crate) async fn set_up(netlink: &Netlink, config: &BridgeConfig) -> Result<(), HostError> {
    let name = &config.name;
    let bridge = required(netlink, name).await?;
    // Set after creation: without that, a bridge takes the smallest address of its ports.
    if bridge.mac != config.mac {
        netlink.change(bridge.index, name, Change::Mac(config.mac)).await?;
    }
    // A bridge keeps an MTU that was set on it, whatever its ports have (Linux 4.17).
    netlink.change(bridge.index, name, Change::Mtu(config.mtu)).await?;
    sysctl::ignore_router_advertisements(name);
    netlink.change(bridge.index, name, Change::Up).await?;
    sysctl::expire_neighbours_soon(name);
    plug_in_orphans(netlink, &bridge).await?;
    tell_of_other_mtus(netlink, bridge.index, config.mtu).await
}

/// Containers whose bridge was removed by somebody.
async fn plug_in_orphans(netlink: &Netlink, bridge: &Interface) -> Result<(), HostError> {
    for port in netlink.interfaces().await? {
        if is_orphan_of(&bridge.name, &port) {
            make_port(netlink, bridge, &port).await?;
            tracing::info!(port = %port.name, "a container without a bridge is back on it");
        }
    }
    Ok(())
}

/// Whether this is a container's port that was on the bridge of this name, and is on none. Those
/// of the original have no note of their bridge.
pub(crate) fn is_orphan_of(bridge: &str, port: &Interface) -> bool {
    port.kind == "veth"
        && port.name.starts_with(HOST_END)
        && port.controller.is_none()
        && PortNote::of(port).bridge == bridge
}

/// A container keeps the MTU it was attached with.
async fn tell_of_other_mtus(netlink: &Netlink, bridge: u32, mtu: u32) -> Result<(), HostError> {
    for port in netlink.interfaces().await? {
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

/// What a look at the bridge and the port on it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// The bridge is up, has its address and MTU, and the port is a port of it, passes everything and
    /// is no narrower.
    InOrder,
    /// Something of that is not so: [`prepare_bridge`] and [`join`] mend it.
    Damaged,
    /// There is no port of that name: it has to be made anew.
    NoPort,
}

/// Looks at the bridge and the port on it.
///
/// # Errors
/// If the kernel refuses.
pub fn condition(config: &BridgeConfig, port: &str) -> Result<Condition, HostError> {
    run_here(async |netlink| {
        let Some(port) = netlink.find(port).await? else {
            return Ok(Condition::NoPort);
        };
        let bridge = netlink.find(&config.name).await?;
        let in_order = bridge.is_some_and(|bridge| {
            let plugged = faults(&bridge, &port).is_empty();
            let wide_enough = bridge.mtu == config.mtu && port.mtu >= config.mtu;
            let isolated = port.isolated != Some(false);
            plugged && wide_enough && isolated && bridge.up && bridge.mac == config.mac
        });
        Ok(if in_order { Condition::InOrder } else { Condition::Damaged })
    })
}

/// Makes `port` a port of the bridge, up, and wide enough for any frame: a bridge drops what is
/// wider than a port without a word, while the router tells the sender.
///
/// # Errors
/// If one of them is not there, or the kernel refuses.
pub fn join(bridge: &str, port: &str) -> Result<(), HostError> {
    run_here(async |netlink| {
        let bridge = required(netlink, bridge).await?;
        plug(netlink, &bridge, &required(netlink, port).await?).await
    })
}

pub(crate) async fn plug(
    netlink: &Netlink,
    bridge: &Interface,
    port: &Interface,
) -> Result<(), HostError> {
    let mtu = port.largest_mtu.unwrap_or(LARGEST_PACKET).min(LARGEST_PACKET);
    if port.mtu != mtu {
        netlink.change(port.index, &port.name, Change::Mtu(mtu)).await?;
    }
    if port.controller != Some(bridge.index) {
        make_port(netlink, bridge, port).await?;
    }
    if port.filtered && bridge.kind != DATAPATH_KIND {
        netlink.pass_all(port.index, &port.name).await?;
    }
    // Beside it there may be ports of the fast datapath, which refuses to work without this
    // (Linux 4.18).
    let _ = netlink.change(port.index, &port.name, Change::Isolated).await;
    sysctl::ignore_router_advertisements(&port.name);
    netlink.change(port.index, &port.name, Change::Up).await
}

/// Makes or adopts the veth pair for capture with packet sockets.
///
/// # Errors
/// If the bridge is not there, or the kernel refuses.
pub fn prepare_capture_pair(bridge: &str) -> Result<Origin, HostError> {
    let _lock = HostLock::acquire()?;
    let PortNames { bridge_end, router_end, .. } = &PortNames::of(bridge);
    run_here(async |netlink| {
        let bridge = required(netlink, bridge).await?;
        let mut origin = Origin::Adopted;
        if netlink.find(router_end).await?.is_none() {
            // An end without the other is no veth of ours: the kernel deletes both at once.
            if let Some(found) = netlink.find(bridge_end).await? {
                let (name, found) = (found.name, format!("a {}", found.kind));
                return Err(HostError::Inconsistent { name, found });
            }
            netlink.create_veth(bridge_end, router_end).await?;
            origin = Origin::Created;
        }
        let index = required(netlink, router_end).await?.index;
        netlink.change(index, router_end, Change::Mtu(LARGEST_PACKET)).await?;
        sysctl::ignore_router_advertisements(router_end);
        netlink.change(index, router_end, Change::Up).await?;
        plug(netlink, &bridge, &required(netlink, bridge_end).await?).await?;
        Ok(origin)
    })
}

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
    run_here(async |netlink| match netlink.find(name).await? {
        None => Ok(()),
        Some(found) if found.kind == kind => netlink.delete(found.index, name).await,
        Some(found) => Err(HostError::Inconsistent { name: found.name, found: found.kind }),
    })
}
