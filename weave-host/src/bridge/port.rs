//! Making an interface a port of the bridge, or of a datapath in its place.

use weave_odp::{Client, VportKind};

use super::port_note::PortNote;
use crate::error::HostError;
use crate::names::{DATAPATH_KIND, HOST_END};
use crate::namespace::run_here;
use crate::netlink::{Change, Interface, Netlink};
use crate::sysctl;

/// No IP packet is longer (RFC 791, section 3.1).
pub(crate) const LARGEST_PACKET: u32 = 65_535;

/// Makes `port` a port of the bridge, up, and wide enough for any frame: a bridge drops what is
/// wider than a port without a word, while the router tells the sender.
///
/// # Errors
/// If one of them is not there, or the kernel refuses.
pub fn join(bridge: &str, port: &str) -> Result<(), HostError> {
    run_here(async |netlink| {
        let bridge = netlink.required(bridge).await?;
        connect(netlink, &bridge, &netlink.required(port).await?).await
    })
}

pub(crate) async fn connect(
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

/// Makes an interface a port of a bridge, or of a datapath in its place.
pub(crate) async fn make_port(
    netlink: &Netlink,
    bridge: &Interface,
    port: &Interface,
) -> Result<(), HostError> {
    if bridge.kind != DATAPATH_KIND {
        return netlink.change(port.index, &port.name, Change::Controller(bridge.index)).await;
    }
    let join = || {
        let mut client = Client::open()?;
        let datapath = client.datapath(&bridge.name)?;
        client.create_vport(datapath.id, &port.name, VportKind::Netdev)
    };
    match join() {
        Ok(_) => Ok(()),
        Err(error) => Err(HostError::DatapathPort {
            port: port.name.clone(),
            name: bridge.name.clone(),
            reason: error.to_string(),
        }),
    }
}

/// Whether this is a container's port that was on the bridge of this name, and is on none. Those
/// of the original have no note of their bridge.
pub(crate) fn is_orphan_of(bridge: &str, port: &Interface) -> bool {
    port.kind == "veth"
        && port.name.starts_with(HOST_END)
        && port.controller.is_none()
        && PortNote::of(port).bridge == bridge
}
