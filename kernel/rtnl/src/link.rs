//! Network interfaces: listing, changing and deleting them.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd as _};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVxlan,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use weave_netlink::{Errno, Transport};

use crate::client::{Client, unless};
use crate::error::Error;
use crate::message::mac;
use crate::operation::Operation;
use crate::port::PortSettings;

/// A network interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The driver's name in `ip -d link`, e.g. `bridge`; empty for hardware.
    pub kind: String,
    /// Its Ethernet address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// The largest MTU, if the driver says so.
    pub max_mtu: Option<u32>,
    /// The index of the bridge or bond that it is a port of.
    pub controller: Option<u32>,
    /// As a port of a bridge, what that does with it.
    pub port: PortSettings,
    /// As a VXLAN device, what it receives and where.
    pub vxlan: VxlanSettings,
    /// Of a veth the index of its other end, in the namespace where that is; of a VLAN or tunnel
    /// that of the device below.
    pub peer: Option<u32>,
    /// The number that this namespace has for the one of `peer`, if they are not the same.
    pub peer_namespace: Option<i32>,
    /// Its alias, a text for people and programs.
    pub alias: Option<String>,
    /// It is set up.
    pub up: bool,
    /// It is set up, its carrier too, and the kernel took note (RFC 2863, `ifOperStatus`).
    pub running: bool,
    /// It is a loopback interface.
    pub loopback: bool,
    /// What it received.
    pub received: Counters,
    /// What it sent.
    pub sent: Counters,
}

/// What a VXLAN device receives and where; empty for other interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VxlanSettings {
    /// The network identifier of the packets that it receives.
    pub vni: Option<u32>,
    /// The address of this host that it sends from and receives at.
    pub local: Option<Ipv4Addr>,
    /// The UDP port.
    pub port: Option<u16>,
}

impl VxlanSettings {
    fn of(settings: &[InfoVxlan]) -> Self {
        let mut found = Self::default();
        for setting in settings {
            match *setting {
                InfoVxlan::Id(vni) => found.vni = Some(vni),
                InfoVxlan::Local(local) => found.local = Some(local),
                InfoVxlan::Port(port) => found.port = Some(port),
                _ => {}
            }
        }
        found
    }
}

/// The counters of an interface for one direction; zero in events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// An interface that is to be changed: the index decides, the name is for errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkId<'a> {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: &'a str,
}

impl<'a> From<&'a Link> for LinkId<'a> {
    fn from(link: &'a Link) -> Self {
        Self { index: link.index, name: &link.name }
    }
}

impl<'a, S: AsRef<str> + ?Sized> From<(u32, &'a S)> for LinkId<'a> {
    fn from((index, name): (u32, &'a S)) -> Self {
        Self { index, name: name.as_ref() }
    }
}

/// One change of an interface.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum LinkChange<'a> {
    /// Sets it up.
    Up,
    /// Sets it down.
    Down,
    /// Sets its MTU.
    Mtu(u32),
    /// Sets its Ethernet address.
    Mac([u8; 6]),
    /// Renames it.
    Name(&'a str),
    /// Sets its alias.
    Alias(&'a str),
    /// Makes it a port of the bridge with this index, or of none.
    Controller(Option<u32>),
    /// Moves it into another network namespace, where it gets another index.
    Namespace(&'a dyn AsFd),
}

impl LinkChange<'_> {
    fn text(&self, name: &str) -> String {
        match self {
            Self::Up => format!("bring {name} up"),
            Self::Down => format!("set {name} down"),
            Self::Mtu(mtu) => format!("set the MTU of {name} to {mtu}"),
            Self::Mac([a, b, c, d, e, f]) => format!(
                "set the Ethernet address of {name} to \
                 {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"
            ),
            Self::Name(new) => format!("rename {name} to {new}"),
            Self::Alias(_) => format!("make a note on {name}"),
            Self::Controller(Some(_)) => format!("make {name} a port of the bridge"),
            Self::Controller(None) => format!("take {name} from its bridge"),
            Self::Namespace(_) => format!("move {name} into another network namespace"),
        }
    }

    fn message(&self, index: u32) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        match *self {
            Self::Up => {
                link.header.flags = LinkFlags::Up;
                link.header.change_mask = LinkFlags::Up;
            }
            Self::Down => link.header.change_mask = LinkFlags::Up,
            Self::Mtu(mtu) => link.attributes.push(LinkAttribute::Mtu(mtu)),
            Self::Mac(mac) => link.attributes.push(LinkAttribute::Address(mac.to_vec())),
            Self::Name(new) => link.attributes.push(LinkAttribute::IfName(new.to_owned())),
            Self::Alias(text) => link.attributes.push(LinkAttribute::IfAlias(text.to_owned())),
            Self::Controller(bridge) => {
                link.attributes.push(LinkAttribute::Controller(bridge.unwrap_or(0)));
            }
            Self::Namespace(namespace) => {
                let fd = namespace.as_fd().as_raw_fd();
                link.attributes.push(LinkAttribute::NetNsFd(fd));
            }
        }
        link
    }
}

impl<T: Transport> Client<T> {
    /// Lists all interfaces, by index.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut links = self.list(Operation::ListLinks, &question, new_link)?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Lists the ports of a bridge that are interfaces of this kind, without their counters.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn ports(&mut self, bridge: u32, kind: &str) -> Result<Vec<Link>, Error> {
        let mut question = LinkMessage::default();
        question.attributes = vec![
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::from(kind))]),
            LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
        ];
        let question = RouteNetlinkMessage::GetLink(question);
        let mut ports = self.list(Operation::ListLinks, &question, new_link)?;
        // Kernels before 4.4 ignore what is asked for.
        ports.retain(|port| port.controller == Some(bridge) && port.kind == kind);
        Ok(ports)
    }

    /// Looks for the interface with this name.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.find_link(|| Operation::FindLink(name.to_owned()), question)
    }

    /// Looks for the interface with this index.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn link(&mut self, index: u32) -> Result<Option<Link>, Error> {
        let mut question = LinkMessage::default();
        question.header.index = index;
        self.find_link(|| Operation::ReadLink(index), question)
    }

    fn find_link(
        &mut self,
        operation: impl FnOnce() -> Operation,
        question: LinkMessage,
    ) -> Result<Option<Link>, Error> {
        match self.query(operation, &RouteNetlinkMessage::GetLink(question), 0) {
            Ok(answer) => Ok(answer.and_then(new_link)),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes an interface.
    ///
    /// # Errors
    /// Fails if there is none, or if the kernel refuses.
    pub fn change<'a>(
        &mut self,
        link: impl Into<LinkId<'a>>,
        change: LinkChange<'_>,
    ) -> Result<(), Error> {
        let LinkId { index, name } = link.into();
        let message = RouteNetlinkMessage::SetLink(change.message(index));
        let operation =
            || Operation::ChangeLink { name: name.to_owned(), change: change.text(name) };
        self.execute(operation, &message, 0)
    }

    /// Changes what a bridge does with a port.
    ///
    /// # Errors
    /// Fails if it is no port, or if the kernel refuses.
    pub fn set_port<'a>(
        &mut self,
        port: impl Into<LinkId<'a>>,
        settings: &PortSettings,
    ) -> Result<(), Error> {
        self.send_port(port.into(), settings.text(), settings.attributes())
    }

    /// Has a bridge forget the stations that it learned behind a port.
    ///
    /// # Errors
    /// Fails if it is no port, or if the kernel refuses.
    pub fn flush_port<'a>(&mut self, port: impl Into<LinkId<'a>>) -> Result<(), Error> {
        self.send_port(port.into(), "flush".to_owned(), vec![InfoBridgePort::Flush])
    }

    fn send_port(
        &mut self,
        port: LinkId<'_>,
        settings: String,
        attributes: Vec<InfoBridgePort>,
    ) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = port.index;
        message.attributes = vec![LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(attributes)),
        ])];
        let operation = || Operation::ChangePort { name: port.name.to_owned(), settings };
        self.execute(operation, &RouteNetlinkMessage::NewLink(message), 0)
    }

    /// Sets whether a bridge looks into multicast to learn where its receivers are; without, it
    /// treats multicast like broadcast.
    ///
    /// # Errors
    /// Fails if it is no bridge, or if the kernel refuses.
    pub fn set_multicast_snooping(&mut self, bridge: u32, on: bool) -> Result<(), Error> {
        let change = "set the multicast snooping";
        self.change_bridge(bridge, change, InfoBridge::MulticastSnooping(on))
    }

    /// Limits the number of stations that a bridge learns (Linux 6.7).
    ///
    /// # Errors
    /// Fails if it is no bridge, or if the kernel refuses.
    pub fn limit_stations(&mut self, bridge: u32, count: u32) -> Result<(), Error> {
        let change = "limit the stations";
        self.change_bridge(bridge, change, InfoBridge::FdbMaxLearned(count))
    }

    /// Sets whether packets between two ports of a bridge pass the firewall of IPv4 and of IPv6. It
    /// takes the module `br_netfilter` for them to do so.
    ///
    /// # Errors
    /// Fails if it is no bridge, or if the kernel refuses.
    pub fn set_bridge_firewall(&mut self, bridge: u32, on: bool) -> Result<(), Error> {
        let change = "set the firewall";
        self.change_bridge(bridge, change, InfoBridge::NfCallIpTables(on))?;
        self.change_bridge(bridge, change, InfoBridge::NfCallIp6Tables(on))
    }

    fn change_bridge(
        &mut self,
        index: u32,
        change: &'static str,
        attribute: InfoBridge,
    ) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![attribute])),
        ])];
        let operation = || Operation::ChangeBridge { index, change };
        self.execute(operation, &RouteNetlinkMessage::NewLink(message), 0)
    }

    /// Deletes an interface, and returns whether it was there. The other end of a veth pair goes
    /// with it.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn delete<'a>(&mut self, link: impl Into<LinkId<'a>>) -> Result<bool, Error> {
        let LinkId { index, name } = link.into();
        let mut message = LinkMessage::default();
        message.header.index = index;
        let message = RouteNetlinkMessage::DelLink(message);
        let operation = || Operation::DeleteLink(name.to_owned());
        unless(Errno::ENODEV, self.execute(operation, &message, 0))
    }
}

fn new_link(answer: RouteNetlinkMessage) -> Option<Link> {
    match answer {
        RouteNetlinkMessage::NewLink(message) => Some(Link::of(message)),
        _ => None,
    }
}

impl Link {
    pub(crate) fn of(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Up | LinkFlags::Running),
            loopback: flags.contains(LinkFlags::Loopback),
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                // Zero means that the driver does not say.
                LinkAttribute::MaxMtu(mtu) if mtu != 0 => link.max_mtu = Some(mtu),
                LinkAttribute::Controller(index) if index != 0 => link.controller = Some(index),
                LinkAttribute::Link(index) => link.peer = Some(index),
                LinkAttribute::LinkNetNsId(id) => link.peer_namespace = Some(id),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Address(bytes) => link.mac = mac(&bytes),
                LinkAttribute::LinkInfo(infos) => link.read_info(infos),
                LinkAttribute::Stats64(stats) => {
                    let counters = |packets, bytes, dropped| Counters { packets, bytes, dropped };
                    link.received = counters(stats.rx_packets, stats.rx_bytes, stats.rx_dropped);
                    link.sent = counters(stats.tx_packets, stats.tx_bytes, stats.tx_dropped);
                }
                _ => {}
            }
        }
        link
    }

    fn read_info(&mut self, infos: Vec<LinkInfo>) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = kind.to_string(),
                LinkInfo::Data(InfoData::Vxlan(settings)) => {
                    self.vxlan = VxlanSettings::of(&settings);
                }
                LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                    self.port = PortSettings::of(&port);
                }
                _ => {}
            }
        }
    }
}
