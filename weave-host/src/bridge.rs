//! The bridge that containers are plugged into, and the port through which the router hears
//! and speaks (spec router.md, sections 4 and 6).

use std::fs;

use weave_core::wire::MacAddress;

use crate::attach::{HOST_END, required};
use crate::error::HostError;
use crate::layout::{Layout, layout_of};
use crate::lock::HostLock;
use crate::names::{CAPTURE_BRIDGE_END, CAPTURE_ROUTER_END, DATAPATH_NAME};
use crate::namespace::run_here;
use crate::netlink::{Change, Interface, Netlink};
use crate::{reset, sysctl};

/// No IP packet is longer (RFC 791, section 3.1).
const LARGEST_PACKET: u32 = 65_535;

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
    let _lock = HostLock::acquire()?;
    run_here(async |netlink| {
        let interfaces = netlink.interfaces().await?;
        let origin = match layout_of(&config.name, &interfaces) {
            Layout::None => Origin::Created,
            Layout::Bridge => Origin::Adopted,
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
            Ok(()) => {
                tell_of_firewall();
                Ok(origin)
            }
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

async fn set_up(netlink: &Netlink, config: &BridgeConfig) -> Result<(), HostError> {
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
    plug_in_orphans(netlink, bridge.index).await?;
    tell_of_other_mtus(netlink, bridge.index, config.mtu).await
}

/// Containers whose bridge was removed by somebody.
async fn plug_in_orphans(netlink: &Netlink, bridge: u32) -> Result<(), HostError> {
    for port in netlink.interfaces().await? {
        let ours = port.kind == "veth" && port.name.starts_with(HOST_END);
        if ours && port.controller.is_none() {
            netlink.change(port.index, &port.name, Change::Controller(bridge)).await?;
            tracing::info!(port = %port.name, "a container without a bridge is back on it");
        }
    }
    Ok(())
}

/// Where bridged packets also pass iptables, a host whose policy is to forward nothing, as
/// Docker sets it, drops what containers say to each other.
fn tell_of_firewall() {
    let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if fs::read_to_string(setting).is_ok_and(|text| text.trim() != "0") {
        tracing::info!(
            "packets between containers pass the FORWARD chain of iptables; if its policy is \
             DROP, allow them there or set {setting} to 0"
        );
    }
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

/// Whether the bridge is up, has its address, and `port` is a port of it.
///
/// # Errors
/// If the kernel refuses.
pub fn is_in_order(config: &BridgeConfig, port: &str) -> Result<bool, HostError> {
    run_here(async |netlink| {
        let Some(bridge) = netlink.find(&config.name).await? else {
            return Ok(false);
        };
        let port = netlink.find(port).await?;
        let plugged = port.is_some_and(|port| port.up && port.controller == Some(bridge.index));
        Ok(plugged && bridge.up && bridge.mac == config.mac)
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

async fn plug(netlink: &Netlink, bridge: &Interface, port: &Interface) -> Result<(), HostError> {
    let mtu = port.largest_mtu.unwrap_or(LARGEST_PACKET).min(LARGEST_PACKET);
    if port.mtu != mtu {
        netlink.change(port.index, &port.name, Change::Mtu(mtu)).await?;
    }
    if port.controller != Some(bridge.index) {
        netlink.change(port.index, &port.name, Change::Controller(bridge.index)).await?;
    }
    sysctl::ignore_router_advertisements(&port.name);
    netlink.change(port.index, &port.name, Change::Up).await
}

/// Makes or adopts the veth pair for capture with packet sockets.
///
/// # Errors
/// If the bridge is not there, or the kernel refuses.
pub fn prepare_capture_pair(bridge: &str) -> Result<(), HostError> {
    let _lock = HostLock::acquire()?;
    run_here(async |netlink| {
        let bridge = required(netlink, bridge).await?;
        if netlink.find(CAPTURE_ROUTER_END).await?.is_none() {
            // An end without the other is no veth of ours: the kernel deletes both at once.
            if let Some(found) = netlink.find(CAPTURE_BRIDGE_END).await? {
                let (name, found) = (found.name, format!("a {}", found.kind));
                return Err(HostError::Inconsistent { name, found });
            }
            netlink.create_veth(CAPTURE_BRIDGE_END, CAPTURE_ROUTER_END).await?;
        }
        let router_end = required(netlink, CAPTURE_ROUTER_END).await?;
        netlink.change(router_end.index, CAPTURE_ROUTER_END, Change::Mtu(LARGEST_PACKET)).await?;
        sysctl::ignore_router_advertisements(CAPTURE_ROUTER_END);
        netlink.change(router_end.index, CAPTURE_ROUTER_END, Change::Up).await?;
        plug(netlink, &bridge, &required(netlink, CAPTURE_BRIDGE_END).await?).await
    })
}

/// Removes the veth pair for capture, if it is there: beside a TAP it would only make the
/// bridge flood every frame once more.
///
/// # Errors
/// If the kernel refuses.
pub fn remove_capture_pair() -> Result<(), HostError> {
    let _lock = HostLock::acquire()?;
    run_here(async |netlink| {
        let Some(pair) = netlink.find(CAPTURE_BRIDGE_END).await? else {
            return Ok(());
        };
        if pair.kind != "veth" {
            return Err(HostError::Inconsistent { name: pair.name, found: pair.kind });
        }
        netlink.delete(pair.index, CAPTURE_BRIDGE_END).await
    })
}
