//! The devices of tunnels, their ports, and the stations behind them.

use std::net::{IpAddr, Ipv4Addr};

use weave_core::wire::MacAddress;
use weave_rtnl::{Link, Neighbour, PortSettings, Table};

use crate::vni::Vni;

/// Prefix of the names of devices; the VNI follows.
pub(super) const PREFIX: &str = "vxwe-";
/// The kernel's name for the kind of these devices.
pub(super) const VXLAN: &str = "vxlan";

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

/// A device that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Installed {
    pub(super) device: Device,
    pub(super) index: u32,
    /// Whether the bridge learns stations behind it.
    pub(super) learning: bool,
}

impl Device {
    /// Returns the name of the device that sends frames with this VNI.
    pub(super) fn name_of(vni: Vni) -> String {
        format!("{PREFIX}{vni}")
    }

    /// Reads the parameters of a device that the kernel lists, with the entry of its forwarding
    /// database for everything that it sends; `None` if they do not agree with each other.
    pub(super) fn of(link: &Link, everything: &Neighbour) -> Option<Self> {
        let vni = Vni::new(everything.vni?)?;
        let Some(IpAddr::V4(remote)) = everything.destination else { return None };
        let name = link.name.clone();
        let (local, port) = (link.vxlan.local?, link.vxlan.port?);
        let agrees = name == Self::name_of(vni) && link.vxlan.vni == Some(vni.reversed().get());
        agrees.then_some(Self { name, vni, local, remote, port })
    }
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

/// Converts an entry of the forwarding table of a bridge; `None` if it is another's.
pub(super) fn station(entry: &Neighbour, bridge: u32) -> Option<Station> {
    let Neighbour { table, link, mac, controller, permanent, age, .. } = *entry;
    let is_of_bridge = table == Table::Forwarding && controller == Some(bridge);
    is_of_bridge.then_some(Station { mac: MacAddress(mac?), port: link, permanent, age })
}

/// Returns whether the settings of a port are those of [`isolated`], as far as the kernel reports
/// them.
pub(super) fn is_isolated(port: &Link, learning: bool) -> bool {
    port.port.agrees_with(&isolated(learning))
}

/// Returns the settings of an isolated port.
pub(super) const fn isolated(learning: bool) -> PortSettings {
    PortSettings {
        isolated: Some(true),
        learning: Some(learning),
        unicast_flood: Some(false),
        multicast_flood: Some(false),
        broadcast_flood: Some(false),
        hairpin: Some(false),
    }
}

/// Returns whether an entry of the forwarding database is the destination of a device.
pub(super) fn is_destination(entry: &Neighbour, device: &Device) -> bool {
    // It is left out if it is the VNI that the device receives.
    let vni = entry.vni.unwrap_or(device.vni.reversed().get());
    entry.destination == Some(device.remote.into()) && vni == device.vni.get()
}

#[cfg(test)]
mod tests {
    use weave_rtnl::VxlanSettings;

    use super::*;

    #[test]
    fn a_changed_port_is_noticed() {
        let with = |port| Link { port, ..Link::default() };
        for learning in [true, false] {
            assert!(is_isolated(&with(isolated(learning)), learning));
            assert!(!is_isolated(&with(isolated(learning)), !learning));
        }
        let settings: [fn(&mut PortSettings) -> &mut Option<bool>; 5] = [
            |port| &mut port.isolated,
            |port| &mut port.unicast_flood,
            |port| &mut port.multicast_flood,
            |port| &mut port.broadcast_flood,
            |port| &mut port.hairpin,
        ];
        for setting in settings {
            let mut port = isolated(true);
            let before = setting(&mut port).take();
            assert!(is_isolated(&with(port), true), "a kernel that does not report it");
            *setting(&mut port) = before.map(|on| !on);
            assert!(!is_isolated(&with(port), true), "{port:?}");
        }
    }

    #[test]
    fn a_destination_is_recognised() {
        let remote = Ipv4Addr::new(192, 0, 2, 1);
        let vni = Vni::new(0x00a_00b).unwrap();
        let device =
            Device { name: "vxwe-00a00b".to_owned(), vni, local: remote, remote, port: 6784 };
        let entry = |address: [u8; 4], vni| Neighbour {
            table: Table::Forwarding,
            link: 7,
            mac: Some([0; 6]),
            destination: Some(address.into()),
            vni,
            controller: None,
            permanent: true,
            age: 0,
        };
        let right = Some(vni.get());
        assert!(is_destination(&entry([192, 0, 2, 1], right), &device));
        assert!(!is_destination(&entry([192, 0, 2, 2], right), &device));
        assert!(!is_destination(&entry([192, 0, 2, 1], None), &device));
        let nowhere = Neighbour { destination: None, ..entry([0; 4], right) };
        assert!(!is_destination(&nowhere, &device));
    }

    #[test]
    fn a_device_of_an_earlier_router_is_read() {
        let (vni, local, port) = (Vni::new(0x00a_00b).unwrap(), Ipv4Addr::LOCALHOST, 6784);
        let remote = Ipv4Addr::new(192, 0, 2, 1);
        let device = Device { name: "vxwe-00a00b".to_owned(), vni, local, remote, port };
        let vxlan = VxlanSettings { vni: Some(0x00b_00a), local: Some(local), port: Some(port) };
        let link = Link { name: device.name.clone(), vxlan, ..Link::default() };
        let everything = Neighbour {
            table: Table::Forwarding,
            link: 7,
            mac: Some([0; 6]),
            destination: Some(remote.into()),
            vni: Some(0x00a_00b),
            controller: None,
            permanent: true,
            age: 0,
        };
        assert_eq!(Device::of(&link, &everything), Some(device));
        let renamed = Link { name: "vxwe-00a00c".to_owned(), ..link.clone() };
        assert_eq!(Device::of(&renamed, &everything), None);
        let same = VxlanSettings { vni: Some(0x00a_00b), ..vxlan };
        assert_eq!(Device::of(&Link { vxlan: same, ..link.clone() }, &everything), None);
        let nowhere = Neighbour { destination: None, ..everything };
        assert_eq!(Device::of(&link, &nowhere), None);
    }

    #[test]
    fn stations_of_other_bridges_are_left_out() {
        let mac = Some([2, 0, 0, 0, 0, 1]);
        let entry = Neighbour {
            table: Table::Forwarding,
            link: 7,
            mac,
            destination: None,
            vni: None,
            controller: Some(3),
            permanent: false,
            age: 100,
        };
        assert_eq!(station(&entry, 3).map(|station| (station.port, station.age)), Some((7, 100)));
        assert_eq!(station(&entry, 4), None);
        assert_eq!(station(&Neighbour { table: Table::Ipv4, ..entry }, 3), None);
        assert_eq!(station(&Neighbour { mac: None, ..entry }, 3), None);
    }
}
