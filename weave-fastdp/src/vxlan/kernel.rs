//! The requests of this engine to the kernel's routing socket.
//!
//! Only this file uses the crates of the rust-netlink project, whose interfaces change with each
//! release.

use std::io;
use std::mem::discriminant;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NetlinkDeserializable as _,
    NetlinkHeader, NetlinkSerializable as _,
};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVxlan,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, VxlanDf,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::net::if_::{if_indextoname, if_nametoindex};
use weave_core::wire::MacAddress;
use weave_netlink::{
    Answer, Body, Error, Exchange, HEADER_LEN, Messages, Protocol, Socket, TooLong, write_header,
};

use crate::vni::Vni;

/// Multicast group for changes of neighbour tables, among them those of bridges (`RTNLGRP_NEIGH`).
const NEIGHBOUR_GROUP: u32 = 3;
/// `AF_BRIDGE`, the family of forwarding tables.
const BRIDGE_FAMILY: AddressFamily = AddressFamily::Bridge;
/// `NUD_NOARP | NUD_PERMANENT`, the state of an entry that never ages.
const PERMANENT: u16 = 0x40 | 0x80;

/// A routing socket in the network namespace of the thread that opened it.
pub(super) struct Kernel(Exchange<Socket>);

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

impl Kernel {
    pub(super) fn open() -> io::Result<Self> {
        Socket::open(Protocol::Route).map(Exchange::new).map(Self)
    }

    /// Creates a VXLAN device that is down and a port of the bridge. Its function depends on the
    /// settings of the port: see [`Self::isolate`] and [`Self::set_learning`].
    pub(super) fn create(&mut self, device: &Device, bridge: u32, mtu: u32) -> io::Result<u32> {
        let vxlan = vec![
            InfoVxlan::Id(device.vni.reversed().get()),
            InfoVxlan::Local(device.local),
            InfoVxlan::Port(device.port),
            InfoVxlan::Learning(false),
            InfoVxlan::Ttl(64),
            InfoVxlan::Df(VxlanDf::Set),
            InfoVxlan::UDPCsum(false),
        ];
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(device.name.clone()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(vxlan)),
            ]),
        ];
        self.execute(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)?;
        let index =
            index_of(&device.name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let set_up = |kernel: &mut Self| {
            kernel.add_destination(index, device)?;
            kernel.set(index, vec![LinkAttribute::Controller(bridge)])
        };
        set_up(self).inspect_err(|_| {
            // The first error is the one that matters.
            let _ = self.delete(index);
        })?;
        Ok(index)
    }

    /// Sets the destination of everything that the device sends.
    fn add_destination(&mut self, index: u32, device: &Device) -> io::Result<()> {
        let mut entry = NeighbourMessage::default();
        entry.header.family = BRIDGE_FAMILY;
        entry.header.ifindex = index;
        entry.header.state = NeighbourState::Other(PERMANENT);
        entry.header.flags = NeighbourFlags::Own;
        entry.attributes = vec![
            NeighbourAttribute::LinkLayerAddress(MacAddress::ZERO.0.to_vec()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(device.remote)),
            NeighbourAttribute::Vni(device.vni.get()),
        ];
        self.execute(RouteNetlinkMessage::NewNeighbour(entry), NLM_F_CREATE | NLM_F_APPEND)
    }

    /// Isolates a port of a bridge: nothing is flooded to it, and it exchanges nothing with other
    /// isolated ports.
    pub(super) fn isolate(&mut self, index: u32) -> io::Result<()> {
        self.set_port(index, isolated(false))
    }

    /// Sets whether the bridge learns stations behind this port. If not, it forgets those that it
    /// has learned.
    pub(super) fn set_learning(&mut self, index: u32, learning: bool) -> io::Result<()> {
        let mut options = vec![InfoBridgePort::Learning(learning)];
        if !learning {
            options.push(InfoBridgePort::Flush);
        }
        self.set_port(index, options)
    }

    fn set_port(&mut self, index: u32, options: Vec<InfoBridgePort>) -> io::Result<()> {
        let info = vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(options)),
        ];
        self.set(index, vec![LinkAttribute::LinkInfo(info)])
    }

    /// Disables multicast snooping, so that the bridge treats multicast like broadcast.
    pub(super) fn disable_snooping(&mut self, bridge: u32) -> io::Result<()> {
        let info = vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
        ];
        self.set(bridge, vec![LinkAttribute::LinkInfo(info)])
    }

    /// Limits the number of stations that the bridge learns (Linux 6.7).
    pub(super) fn limit_stations(&mut self, bridge: u32, count: u32) -> io::Result<()> {
        let info = vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::FdbMaxLearned(count)])),
        ];
        self.set(bridge, vec![LinkAttribute::LinkInfo(info)])
    }

    pub(super) fn set_alias(&mut self, index: u32, alias: &str) -> io::Result<()> {
        self.set(index, vec![LinkAttribute::IfAlias(alias.to_owned())])
    }

    pub(super) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.execute(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn set(&mut self, index: u32, attributes: Vec<LinkAttribute>) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = attributes;
        self.execute(RouteNetlinkMessage::NewLink(link), 0)
    }

    /// Deletes a device. A missing one is not an error.
    pub(super) fn delete(&mut self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        match self.execute(RouteNetlinkMessage::DelLink(link), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// Makes the bridge send frames for a station out of this port, until it learns otherwise or the
    /// entry ages.
    pub(super) fn add_station(&mut self, port: u32, mac: MacAddress) -> io::Result<()> {
        let mut entry = NeighbourMessage::default();
        entry.header.family = BRIDGE_FAMILY;
        entry.header.ifindex = port;
        entry.header.state = NeighbourState::Reachable;
        entry.header.flags = NeighbourFlags::Controller;
        entry.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
        self.execute(RouteNetlinkMessage::NewNeighbour(entry), NLM_F_CREATE)
    }

    /// Lists all devices.
    pub(super) fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        self.list(RouteNetlinkMessage::GetLink(LinkMessage::default()), |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(interface(link)),
            _ => None,
        })
    }

    /// Lists the ports of a bridge that are VXLAN devices, without their counters.
    pub(super) fn vxlan_ports(&mut self, bridge: u32) -> io::Result<Vec<Interface>> {
        let mut question = LinkMessage::default();
        question.attributes = vec![
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan)]),
            LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
        ];
        self.list(RouteNetlinkMessage::GetLink(question), |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(interface(link)),
            _ => None,
        })
    }

    /// Returns whether the destination of a device is unchanged, which is assumed if the kernel
    /// cannot tell (before Linux 5.0). Each device is queried by itself, since a list would include
    /// all stations of the bridge.
    pub(super) fn has_destination(&mut self, index: u32, device: &Device) -> bool {
        let mut question = NeighbourMessage::default();
        question.header.family = BRIDGE_FAMILY;
        question.header.ifindex = index;
        question.header.flags = NeighbourFlags::Own;
        question.attributes =
            vec![NeighbourAttribute::LinkLayerAddress(MacAddress::ZERO.0.to_vec())];
        match self.query(&RouteNetlinkMessage::GetNeighbour(question), 0) {
            Ok(Some(RouteNetlinkMessage::NewNeighbour(entry))) => leads_to(&entry, device),
            Ok(_) => true,
            Err(error) => error.raw_os_error() != Some(libc::ENOENT),
        }
    }

    /// Looks up a device by its index.
    pub(super) fn interface(&mut self, index: u32) -> io::Result<Interface> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        match self.query(&RouteNetlinkMessage::GetLink(link), 0)? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(interface(link)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Lists the forwarding table of a bridge.
    pub(super) fn stations(&mut self, bridge: u32) -> io::Result<Vec<Station>> {
        let mut question = NeighbourMessage::default();
        question.header.family = BRIDGE_FAMILY;
        self.list(RouteNetlinkMessage::GetNeighbour(question), |answer| match answer {
            RouteNetlinkMessage::NewNeighbour(entry) => station(&entry, bridge),
            _ => None,
        })
    }

    /// Sends a request and waits for its acknowledgement.
    fn execute(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.query(&message, flags).map(drop)
    }

    /// Sends a request and returns the message before its acknowledgement.
    fn query(
        &mut self,
        message: &RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        let mut found = None;
        let sent = self.0.send(REQUEST, encode(message, flags | NLM_F_ACK));
        sent.and_then(|()| {
            self.0.wait_for(REQUEST, |answer| match answer {
                Answer::Acknowledged => Ok(Some(found.take())),
                Answer::Entry { kind, payload } => {
                    found = decode(kind, payload);
                    Ok(None)
                }
            })
        })
        .map_err(io_error)
    }

    /// Sends a request for a list and returns the entries that `each` converts.
    fn list<A>(
        &mut self,
        message: RouteNetlinkMessage,
        each: impl Fn(RouteNetlinkMessage) -> Option<A>,
    ) -> io::Result<Vec<A>> {
        let entry = |kind, payload: &[u8]| Ok(decode(kind, payload).and_then(&each));
        self.0.list(REQUEST, encode(&message, NLM_F_DUMP), entry).map_err(io_error)
    }
}

/// Name of requests in errors; callers say what they were for.
const REQUEST: &str = "ask the routing socket";

fn encode(
    message: &RouteNetlinkMessage,
    flags: u16,
) -> impl Fn(u32, &mut Vec<u8>) -> Result<(), TooLong> {
    move |sequence, to| {
        to.resize(HEADER_LEN + message.buffer_len(), 0);
        message.serialize(&mut to[HEADER_LEN..]);
        write_header(to, message.message_type(), flags, sequence)
    }
}

/// Decodes a message; `None` if it is malformed or not supported.
fn decode(kind: u16, payload: &[u8]) -> Option<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    RouteNetlinkMessage::deserialize(&header, payload).ok()
}

/// Converts an error into the kernel's own reason, which callers compare, if there is one.
fn io_error(error: Error) -> io::Error {
    match error {
        Error::Refused { errno, .. } => errno.into(),
        Error::Socket { source, .. } => source,
        other => io::Error::other(other),
    }
}

/// A subscription to the stations that bridges learn.
pub(super) struct Monitor(Socket);

impl Monitor {
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::open(Protocol::Route)?;
        socket.join(NEIGHBOUR_GROUP)?;
        socket.set_nonblocking()?;
        Ok(Self(socket))
    }

    /// Passes pending entries of this bridge to `each`. Lost ones follow with the next listing.
    pub(super) fn receive(&self, bridge: u32, mut each: impl FnMut(Station)) {
        let mut datagram = Vec::new();
        while self.0.receive(&mut datagram).is_ok() {
            for message in Messages::new(&datagram).map_while(Result::ok) {
                if let Body::Entry { kind, payload } = message.body
                    && let Some(RouteNetlinkMessage::NewNeighbour(entry)) = decode(kind, payload)
                {
                    station(&entry, bridge).into_iter().for_each(&mut each);
                }
            }
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Interface {
    /// Returns whether the settings of the port are those of [`Kernel::isolate`], as far as the kernel
    /// reports them.
    pub(super) fn is_isolated(&self, learning: bool) -> bool {
        isolated(learning).iter().all(|wanted| {
            let same = |found: &&InfoBridgePort| discriminant(*found) == discriminant(wanted);
            self.port.iter().filter(same).all(|found| found == wanted)
        })
    }
}

/// Returns the settings of an isolated port.
fn isolated(learning: bool) -> Vec<InfoBridgePort> {
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
fn leads_to(entry: &NeighbourMessage, device: &Device) -> bool {
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

/// Looks up the index of a device by its name.
pub(super) fn index_of(device: &str) -> Option<u32> {
    if_nametoindex(device).ok()
}

/// Looks up the name of a device by its index.
pub(super) fn name_of(index: u32) -> Option<String> {
    Some(if_indextoname(index).ok()?.to_string_lossy().into_owned())
}

fn interface(link: LinkMessage) -> Interface {
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

fn station(entry: &NeighbourMessage, bridge: u32) -> Option<Station> {
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
        assert!(leads_to(&entry([192, 0, 2, 1], Some(right.clone())), &device));
        assert!(!leads_to(&entry([192, 0, 2, 2], Some(right)), &device));
        assert!(!leads_to(&entry([192, 0, 2, 1], None), &device));
        assert!(!leads_to(&NeighbourMessage::default(), &device));
    }
}
