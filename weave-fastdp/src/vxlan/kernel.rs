//! The few requests that this engine makes of the kernel's routing socket.
//!
//! The only file that names the netlink crates, whose interfaces change with each release.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVxlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, VxlanDf,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use weave_core::wire::MacAddress;

use crate::vni::Vni;

/// Changes of neighbour tables, among them those of bridges (`RTNLGRP_NEIGH`).
const NEIGHBOUR_GROUP: u32 = 3;
/// `AF_BRIDGE`, under which forwarding tables are.
const BRIDGE_FAMILY: AddressFamily = AddressFamily::Bridge;
/// `NUD_NOARP | NUD_PERMANENT`: an entry that never ages.
const FOR_EVER: u16 = 0x40 | 0x80;

/// A routing socket in the network namespace of the thread that opened it.
pub(super) struct Kernel {
    socket: Socket,
    sequence: u32,
}

/// How the device of a tunnel shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Device {
    pub(super) name: String,
    /// Of the frames that it sends; those it takes in have the reverse.
    pub(super) vni: Vni,
    pub(super) local: Ipv4Addr,
    pub(super) remote: Ipv4Addr,
    pub(super) port: u16,
}

/// A network device, as far as this engine looks at it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_vxlan: bool,
    pub(super) controller: Option<u32>,
    pub(super) alias: Option<String>,
    pub(super) up: bool,
    pub(super) rx: Traffic,
    pub(super) tx: Traffic,
}

/// What a device counts.
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
    /// The port it is behind.
    pub(super) port: u32,
    /// The address of a device here.
    pub(super) permanent: bool,
    /// Time since the last frame from it, in hundredths of a second (`USER_HZ`).
    pub(super) age: u32,
}

impl Kernel {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes a VXLAN device, a port of the bridge, down. What it does is up to its port: see
    /// [`Self::set_port`].
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
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)?;
        let index = super::super::sys::index_of(&device.name)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let set_up = |kernel: &mut Self| {
            kernel.add_destination(index, device)?;
            kernel.set(index, vec![LinkAttribute::Controller(bridge)])
        };
        set_up(self).inspect_err(|_| {
            // The first error says more than one from here.
            let _ = self.delete(index);
        })?;
        Ok(index)
    }

    /// Whatever the device sends goes there.
    fn add_destination(&mut self, index: u32, device: &Device) -> io::Result<()> {
        let mut entry = NeighbourMessage::default();
        entry.header.family = BRIDGE_FAMILY;
        entry.header.ifindex = index;
        entry.header.state = NeighbourState::Other(FOR_EVER);
        entry.header.flags = NeighbourFlags::Own;
        entry.attributes = vec![
            NeighbourAttribute::LinkLayerAddress(MacAddress::ZERO.0.to_vec()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(device.remote)),
            NeighbourAttribute::Vni(device.vni.get()),
        ];
        self.ask(RouteNetlinkMessage::NewNeighbour(entry), NLM_F_CREATE | NLM_F_APPEND)
    }

    /// Makes a device that is a port of a bridge one that is never flooded to, and that exchanges
    /// nothing with other ports like it.
    pub(super) fn isolate(&mut self, index: u32) -> io::Result<()> {
        self.set_port(
            index,
            vec![
                InfoBridgePort::Isolated(true),
                InfoBridgePort::Learning(false),
                InfoBridgePort::UnicastFlood(false),
                InfoBridgePort::MulticastFlood(false),
                InfoBridgePort::BroadcastFlood(false),
            ],
        )
    }

    /// Whether the bridge learns who is behind this port. If not, it forgets all it knows.
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

    /// The bridge treats multicast like broadcast.
    pub(super) fn disable_snooping(&mut self, bridge: u32) -> io::Result<()> {
        let info = vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
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
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn set(&mut self, index: u32, attributes: Vec<LinkAttribute>) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = attributes;
        self.ask(RouteNetlinkMessage::NewLink(link), 0)
    }

    /// Deletes a device; none is fine.
    pub(super) fn delete(&mut self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        match self.ask(RouteNetlinkMessage::DelLink(link), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// The bridge sends frames for this station out of that port, until it hears from it elsewhere
    /// or the entry ages.
    pub(super) fn add_station(&mut self, port: u32, mac: MacAddress) -> io::Result<()> {
        let mut entry = NeighbourMessage::default();
        entry.header.family = BRIDGE_FAMILY;
        entry.header.ifindex = port;
        entry.header.state = NeighbourState::Reachable;
        entry.header.flags = NeighbourFlags::Controller;
        entry.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
        self.ask(RouteNetlinkMessage::NewNeighbour(entry), NLM_F_CREATE)
    }

    /// All devices.
    pub(super) fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        let mut interfaces = Vec::new();
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.request(request, NLM_F_DUMP, |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                interfaces.push(interface(link));
            }
        })?;
        Ok(interfaces)
    }

    /// The device with this number.
    pub(super) fn interface(&mut self, index: u32) -> io::Result<Interface> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let mut found = None;
        self.request(RouteNetlinkMessage::GetLink(link), NLM_F_ACK, |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                found = Some(interface(link));
            }
        })?;
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// The forwarding table of a bridge.
    pub(super) fn stations(&mut self, bridge: u32) -> io::Result<Vec<Station>> {
        let mut stations = Vec::new();
        let mut question = NeighbourMessage::default();
        question.header.family = BRIDGE_FAMILY;
        self.request(RouteNetlinkMessage::GetNeighbour(question), NLM_F_DUMP, |answer| {
            if let RouteNetlinkMessage::NewNeighbour(entry) = answer {
                stations.extend(station(&entry, bridge));
            }
        })?;
        Ok(stations)
    }

    /// Sends a request and waits until it is done.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.request(message, flags | NLM_F_ACK, |_| {})
    }

    /// Sends a request and hands over the answers until the last one.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for answer in messages(&datagram) {
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(()),
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
                        };
                    }
                    NetlinkPayload::InnerMessage(message) => each(message),
                    _ => {}
                }
            }
        }
    }
}

/// A socket that tells of stations that bridges learn.
pub(super) struct Monitor(Socket);

impl Monitor {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(NEIGHBOUR_GROUP)?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Hands over what there is of this bridge. What got lost comes with the next look at the table.
    pub(super) fn receive(&self, bridge: u32, mut each: impl FnMut(Station)) {
        while let Ok((datagram, _)) = self.0.recv_from_full() {
            for message in messages(&datagram) {
                if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) =
                    message.payload
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

/// The messages of a datagram, up to the first that makes no sense.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> + '_ {
    std::iter::from_fn(move || {
        let buffer = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = usize::try_from(buffer.length()).ok()?;
        let (message, rest) = datagram.split_at_checked(length)?;
        // Padded to four bytes, except perhaps the last one.
        datagram = rest.get(length.next_multiple_of(4) - length..).unwrap_or_default();
        NetlinkMessage::deserialize(message).ok()
    })
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
