//! Making an interface a port of the bridge, or of a datapath in its place.

use weave_odp::VportKind;
use weave_rtnl::{Client, Link, LinkChange, PortSettings};

use super::port_note::PortNote;
use crate::error::HostError;
use crate::links::{PASS_ALL, change, is_filtered, required};
use crate::names::{DATAPATH_KIND, HOST_END};
use crate::namespace::run_here;
use crate::sysctl;

/// No IP packet is longer (RFC 791, section 3.1).
pub(crate) const LARGEST_PACKET: u32 = 65_535;

/// Makes `port` a port of the bridge, up, and wide enough for any frame: a bridge drops what is
/// wider than a port without a word, while the router tells the sender.
///
/// # Errors
/// If one of them is not there, or the kernel refuses.
pub fn join(bridge: &str, port: &str) -> Result<(), HostError> {
    run_here(|netlink| {
        let bridge = required(netlink, bridge)?;
        let port = required(netlink, port)?;
        connect(netlink, &bridge, &port)
    })
}

pub(crate) fn connect(netlink: &mut Client, bridge: &Link, port: &Link) -> Result<(), HostError> {
    let mtu = port.max_mtu.unwrap_or(LARGEST_PACKET).min(LARGEST_PACKET);
    if port.mtu != mtu {
        change(netlink, port, LinkChange::Mtu(mtu))?;
    }
    if port.controller != Some(bridge.index) {
        make_port(netlink, bridge, port)?;
    }
    if is_filtered(port) && bridge.kind != DATAPATH_KIND {
        netlink.set_port(port, &PASS_ALL)?;
    }
    // Beside it there may be ports of the fast datapath, which refuses to work without this
    // (Linux 4.18).
    let _ =
        netlink.set_port(port, &PortSettings { isolated: Some(true), ..PortSettings::default() });
    sysctl::ignore_router_advertisements(&port.name);
    change(netlink, port, LinkChange::Up)
}

/// Makes an interface a port of a bridge, or of a datapath in its place.
pub(crate) fn make_port(netlink: &mut Client, bridge: &Link, port: &Link) -> Result<(), HostError> {
    if bridge.kind != DATAPATH_KIND {
        return change(netlink, port, LinkChange::Controller(Some(bridge.index)));
    }
    let join = || {
        let mut client = weave_odp::Client::open()?;
        let datapath = client.datapath(&bridge.name)?;
        client.create_vport(datapath.id, &port.name, VportKind::Netdev)
    };
    match join() {
        Ok(_) => Ok(()),
        Err(source) => Err(HostError::DatapathPort {
            port: port.name.clone(),
            name: bridge.name.clone(),
            source,
        }),
    }
}

/// Returns whether this is a container's port that was on the bridge of this name, and is on none.
/// Those of the original have no note of their bridge.
pub(crate) fn is_orphan_of(bridge: &str, port: &Link) -> bool {
    port.kind == "veth"
        && port.name.starts_with(HOST_END)
        && port.controller.is_none()
        && PortNote::of(port).bridge == bridge
}

/// Returns whether this is a container's port that belongs on this bridge by its note, and that
/// somebody made a port of another one.
pub(crate) fn is_stray_of(bridge: &str, index: Option<u32>, port: &Link) -> bool {
    port.kind == "veth"
        && port.name.starts_with(HOST_END)
        && port.controller.is_some()
        && port.controller != index
        && port.alias.is_some()
        && PortNote::of(port).bridge == bridge
}
