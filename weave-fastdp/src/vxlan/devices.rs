//! The devices of tunnels, and the devices, ports and stations that the kernel lists.

use std::mem::discriminant;
use std::net::Ipv4Addr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use weave_core::wire::MacAddress;

use crate::vni::Vni;

/// `AF_BRIDGE`, the family of forwarding tables.
pub(super) const BRIDGE_FAMILY: AddressFamily = AddressFamily::Bridge;

/// The parameters of the device of a tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Device {
    pub(super) name: String,
    /// VNI of the frames that it sends; frames that it receives have the reverse.
    pub(super) vni: Vni,
    pub(super) local: Ipv4Addr,
    pub(super) remote: Ipv4Addr,
    pub(super) port: u16,
}

/// A network device, as far as this engine uses it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_vxlan: bool,
    pub(super) controller: Option<u32>,
    pub(super) alias: Option<String>,
    pub(super) up: bool,
    /// Settings as a port of a bridge.
    port: Vec<InfoBridgePort>,
    pub(super) rx: Traffic,
    pub(super) tx: Traffic,
}

/// The counters of a device for one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Traffic {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) dropped: u64,
}

/// An entry in the forwarding table of a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Station {
    pub(super) mac: MacAddress,
    /// Index of the port that the station is behind.
    pub(super) port: u32,
    /// Whether it is the address of a device of this host.
    pub(super) permanent: bool,
    /// Time since the last frame from it, in hundredths of a second (`USER_HZ`).
    pub(super) age: u32,
}

/// Decodes a device.
pub(super) fn interface(link: LinkMessage) -> Interface {
    let mut interface = Interface {
        index: link.header.index,
        up: link.header.flags.contains(LinkFlags::Up),
        ..Interface::default()
    };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::Controller(index) if index != 0 => interface.controller = Some(index),
            LinkAttribute::IfAlias(alias) => interface.alias = Some(alias),
            LinkAttribute::LinkInfo(infos) => {
                interface.is_vxlan =
                    infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vxlan)));
                let port = infos.into_iter().find_map(|info| match info {
                    LinkInfo::PortData(InfoPortData::BridgePort(port)) => Some(port),
                    _ => None,
                });
                interface.port = port.unwrap_or_default();
            }
            LinkAttribute::Stats64(stats) => {
                let traffic = |packets, bytes, dropped| Traffic { packets, bytes, dropped };
                interface.rx = traffic(stats.rx_packets, stats.rx_bytes, stats.rx_dropped);
                interface.tx = traffic(stats.tx_packets, stats.tx_bytes, stats.tx_dropped);
            }
            _ => {}
        }
    }
    interface
}

/// Decodes an entry of the forwarding table of a bridge; `None` if it is another's.
pub(super) fn station(entry: &NeighbourMessage, bridge: u32) -> Option<Station> {
    if entry.header.family != BRIDGE_FAMILY {
        return None;
    }
    let (mut mac, mut age, mut controller) = (None, 0, None);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddress);
            }
            NeighbourAttribute::Controller(index) => controller = Some(*index),
            NeighbourAttribute::CacheInfo(info) => age = info.updated,
            _ => {}
        }
    }
    if controller != Some(bridge) {
        return None;
    }
    let permanent = matches!(entry.header.state, NeighbourState::Permanent);
    Some(Station { mac: mac?, port: entry.header.ifindex, permanent, age })
}

impl Interface {
    /// Returns whether the settings of the port are those of [`isolated`], as far as the kernel
    /// reports them.
    pub(super) fn is_isolated(&self, learning: bool) -> bool {
        isolated(learning).iter().all(|wanted| {
            let same = |found: &&InfoBridgePort| discriminant(*found) == discriminant(wanted);
            self.port.iter().filter(same).all(|found| found == wanted)
        })
    }
}

/// Returns the settings of an isolated port.
pub(super) fn isolated(learning: bool) -> Vec<InfoBridgePort> {
    vec![
        InfoBridgePort::Isolated(true),
        InfoBridgePort::Learning(learning),
        InfoBridgePort::UnicastFlood(false),
        InfoBridgePort::MulticastFlood(false),
        InfoBridgePort::BroadcastFlood(false),
        InfoBridgePort::HairpinMode(false),
    ]
}

/// Returns whether an entry of the forwarding database is the destination of a device.
pub(super) fn is_destination(entry: &NeighbourMessage, device: &Device) -> bool {
    let (mut destination, mut vni) = (None, device.vni.reversed().get());
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                destination = Some(*address);
            }
            // The family of the message is that of bridges.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                destination = <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from);
            }
            // It is left out if it is the VNI that the device receives.
            NeighbourAttribute::Vni(of_entry) => vni = *of_entry,
            _ => {}
        }
    }
    destination == Some(device.remote) && vni == device.vni.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_port_is_noticed() {
        let with = |port| Interface { port, ..Interface::default() };
        for learning in [true, false] {
            assert!(with(isolated(learning)).is_isolated(learning));
            assert!(!with(isolated(learning)).is_isolated(!learning));
        }
        for other in [
            InfoBridgePort::Isolated(false),
            InfoBridgePort::UnicastFlood(true),
            InfoBridgePort::MulticastFlood(true),
            InfoBridgePort::BroadcastFlood(true),
            InfoBridgePort::HairpinMode(true),
        ] {
            let mut port = isolated(true);
            port.retain(|option| discriminant(option) != discriminant(&other));
            assert!(with(port.clone()).is_isolated(true), "a kernel that does not report it");
            port.push(other);
            assert!(!with(port.clone()).is_isolated(true), "{port:?}");
        }
    }

    #[test]
    fn a_destination_is_recognised() {
        let remote = Ipv4Addr::new(192, 0, 2, 1);
        let vni = Vni::new(0x00a_00b).unwrap();
        let device =
            Device { name: "vxwe-00a00b".to_owned(), vni, local: remote, remote, port: 6784 };
        let entry = |address: [u8; 4], vni| {
            let mut entry = NeighbourMessage::default();
            entry.attributes =
                vec![NeighbourAttribute::Destination(NeighbourAddress::Other(address.to_vec()))];
            entry.attributes.extend(vni);
            entry
        };
        let right = NeighbourAttribute::Vni(vni.get());
        assert!(is_destination(&entry([192, 0, 2, 1], Some(right.clone())), &device));
        assert!(!is_destination(&entry([192, 0, 2, 2], Some(right)), &device));
        assert!(!is_destination(&entry([192, 0, 2, 1], None), &device));
        assert!(!is_destination(&NeighbourMessage::default(), &device));
    }
}
