//! The requests of this engine to the kernel's routing socket.
//!
//! Only this file and `devices` use the crates of the rust-netlink project, whose interfaces change
//! with each release.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NetlinkDeserializable as _,
    NetlinkHeader, NetlinkSerializable as _,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVxlan,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, VxlanDf,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use nix::net::if_::{if_indextoname, if_nametoindex};
use weave_core::wire::MacAddress;
use weave_netlink::{
    Answer, Body, Error, Exchange, HEADER_LEN, Messages, Protocol, Socket, TooLong, write_header,
};

use super::devices::{
    BRIDGE_FAMILY, Device, Interface, Station, interface, is_destination, isolated, station,
};

/// Multicast group for changes of neighbour tables, among them those of bridges (`RTNLGRP_NEIGH`).
const NEIGHBOUR_GROUP: u32 = 3;
/// `NUD_NOARP | NUD_PERMANENT`, the state of an entry that never ages.
const PERMANENT: u16 = 0x40 | 0x80;

/// A routing socket in the network namespace of the thread that opened it.
pub(super) struct Kernel(Exchange<Socket>);

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
            Ok(Some(RouteNetlinkMessage::NewNeighbour(entry))) => is_destination(&entry, device),
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

/// Looks up the index of a device by its name.
pub(super) fn index_of(device: &str) -> Option<u32> {
    if_nametoindex(device).ok()
}

/// Looks up the name of a device by its index.
pub(super) fn name_of(index: u32) -> Option<String> {
    Some(if_indextoname(index).ok()?.to_string_lossy().into_owned())
}
