//! The few requests we make of the kernel's routing socket.
//!
//! The only file that names the `rtnetlink` crates, whose interfaces change with each release.

use std::io;
use std::mem::discriminant;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope,
};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use weave_core::wire::MacAddress;

use crate::address::Cidr;
use crate::error::HostError;
use crate::route::Route;

/// A network interface, as far as we look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// The driver's name in `ip -d link`, e.g. `bridge`; empty for hardware.
    pub(crate) kind: String,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: u32,
    pub(crate) largest_mtu: Option<u32>,
    /// The bridge it is a port of.
    pub(crate) controller: Option<u32>,
    /// As a port of a bridge: it is not learnt from, or some frames are not flooded to it.
    pub(crate) filtered: bool,
    /// As a port of a bridge: whether it exchanges nothing with others that are isolated too, if the
    /// kernel knows of that.
    pub(crate) isolated: Option<bool>,
    /// Of a veth: the index of its other end, in the namespace where that is.
    pub(crate) other_end: Option<u32>,
    /// The number that this namespace has for that one, if they are not the same.
    pub(crate) other_namespace: Option<i32>,
    /// What somebody noted on it.
    pub(crate) alias: Option<String>,
    pub(crate) up: bool,
    /// Up, the other end too, and the kernel took note (RFC 2863, `ifOperStatus`).
    pub(crate) running: bool,
    pub(crate) loopback: bool,
}

#[cfg(test)]
impl Interface {
    /// One that is up, alone, and of no kind.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            index: 1,
            name: name.to_owned(),
            kind: String::new(),
            mac: MacAddress::ZERO,
            mtu: 1500,
            largest_mtu: None,
            controller: None,
            filtered: false,
            isolated: None,
            other_end: None,
            other_namespace: None,
            alias: None,
            up: true,
            running: true,
            loopback: name == "lo",
        }
    }
}

/// One change of an interface.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    Up,
    Mtu(u32),
    Mac(MacAddress),
    Name(&'a str),
    /// A note on it.
    Alias(&'a str),
    /// Becomes a port of the bridge with this index.
    Controller(u32),
    /// As a port of a bridge, exchanges nothing with others that are isolated too.
    Isolated,
}

/// A routing socket in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens the socket; the current tokio runtime serves it until it ends.
    pub(crate) fn open() -> Result<Self, HostError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| HostError::kernel("open a routing socket", "netlink", error))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// All interfaces, by index.
    pub(crate) async fn interfaces(&self) -> Result<Vec<Interface>, HostError> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| failed("list the interfaces", "netlink", error))?;
        let mut interfaces: Vec<_> = messages.into_iter().map(interface).collect();
        interfaces.sort_by_key(|interface| interface.index);
        Ok(interfaces)
    }

    /// The interface with this name.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Interface>, HostError> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        match found.try_next().await {
            Ok(message) => Ok(message.map(interface)),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(failed(format!("look for interface {name}"), "netlink", error)),
        }
    }

    /// The interface with this name, which must be there.
    pub(crate) async fn required(&self, name: &str) -> Result<Interface, HostError> {
        let found = self.find(name).await?;
        found.ok_or_else(|| HostError::NoInterface { name: name.to_owned(), hint: "" })
    }

    /// Creates a bridge, still down.
    pub(crate) async fn create_bridge(&self, name: &str) -> Result<(), HostError> {
        let message = LinkBridge::new(name).build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(|error| failed(format!("create bridge {name}"), "bridge", error))
    }

    /// Creates a pair of connected interfaces, both down.
    pub(crate) async fn create_veth(&self, name: &str, peer: &str) -> Result<(), HostError> {
        let message = LinkVeth::new(name, peer).build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(|error| failed(format!("create veth pair {name}, {peer}"), "veth", error))
    }

    /// Creates a pair of connected interfaces, both down, the peer in another namespace.
    pub(crate) async fn create_veth_into(
        &self,
        namespace: BorrowedFd<'_>,
        name: &str,
        peer: &str,
        mtu: u32,
    ) -> Result<(), HostError> {
        let there =
            LinkUnspec::new_with_name(peer).mtu(mtu).setns_by_fd(namespace.as_raw_fd()).build();
        let message = LinkVeth::new(name, peer)
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(there)))
            .build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(|error| failed(format!("create veth pair {name}, {peer}"), "veth", error))
    }

    /// Changes an interface. `name` is for the error text.
    pub(crate) async fn change(
        &self,
        index: u32,
        name: &str,
        change: Change<'_>,
    ) -> Result<(), HostError> {
        let message: LinkMessageBuilder<LinkUnspec> = LinkUnspec::new_with_index(index);
        let (message, action) = match change {
            Change::Up => (message.up(), format!("bring {name} up")),
            Change::Mtu(mtu) => (message.mtu(mtu), format!("set the MTU of {name} to {mtu}")),
            Change::Mac(mac) => (
                message.address(mac.0.to_vec()),
                format!("set the Ethernet address of {name} to {mac}"),
            ),
            Change::Name(new) => (message.name(new), format!("rename {name} to {new}")),
            Change::Alias(note) => (
                message.append_extra_attribute(LinkAttribute::IfAlias(note.to_owned())),
                format!("make a note on {name}"),
            ),
            Change::Controller(bridge) => {
                (message.controller(bridge), format!("make {name} a port of the bridge"))
            }
            Change::Isolated => (
                message.append_extra_attribute(LinkAttribute::LinkInfo(vec![
                    LinkInfo::PortKind(InfoPortKind::Bridge),
                    LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(
                        true,
                    )])),
                ])),
                format!("isolate the port {name} from others like it"),
            ),
        };
        self.handle
            .link()
            .change(message.build())
            .execute()
            .await
            .map_err(|error| failed(action, "this setting", error))
    }

    /// Deletes an interface; none is fine.
    pub(crate) async fn delete(&self, index: u32, name: &str) -> Result<(), HostError> {
        match self.handle.link().del(index).execute().await {
            Err(error) if errno(&error) != Some(libc::ENODEV) => {
                Err(failed(format!("delete {name}"), "deleting it", error))
            }
            _ => Ok(()),
        }
    }

    /// The addresses of an interface, without the link-local ones the kernel makes by itself.
    pub(crate) async fn addresses(&self, index: u32) -> Result<Vec<Cidr>, HostError> {
        Ok(self.address_messages(index).await?.iter().filter_map(cidr).collect())
    }

    /// Adds an address; one that is there is fine.
    pub(crate) async fn add_address(&self, index: u32, cidr: Cidr) -> Result<(), HostError> {
        let request = self.handle.address().add(index, cidr.address(), cidr.prefix());
        match request.execute().await {
            Err(error) if errno(&error) != Some(libc::EEXIST) => {
                let feature = if cidr.address().is_ipv6() { "IPv6 (ipv6)" } else { "IPv4" };
                Err(failed(format!("add address {cidr}"), feature, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes an address; none is fine.
    pub(crate) async fn remove_address(&self, index: u32, cidr: Cidr) -> Result<(), HostError> {
        let messages = self.address_messages(index).await?;
        let Some(message) = messages.into_iter().find(|m| self::cidr(m) == Some(cidr)) else {
            return Ok(());
        };
        match self.handle.address().del(message).execute().await {
            Err(error) if errno(&error) != Some(libc::EADDRNOTAVAIL) => {
                Err(failed(format!("remove address {cidr}"), "removing it", error))
            }
            _ => Ok(()),
        }
    }

    /// Sends all multicast out of this interface; a route that is there is fine.
    pub(crate) async fn add_multicast_route(&self, index: u32) -> Result<(), HostError> {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(224, 0, 0, 0), 4)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        match self.handle.route().add(message).execute().await {
            Err(error) if errno(&error) != Some(libc::EEXIST) => {
                Err(failed("add the route to 224.0.0.0/4", "multicast routes", error))
            }
            _ => Ok(()),
        }
    }

    /// Sends packets out of this interface; a route that is there is fine.
    pub(crate) async fn add_route(&self, index: u32, route: Route) -> Result<(), HostError> {
        let Route { destination, gateway } = route;
        let what = match gateway {
            Some(gateway) => format!("add the route to {destination} by {gateway}"),
            None => format!("add the route to {destination}"),
        };
        // The destination and its gateway are of different families.
        let mixed = || HostError::kernel(what.clone(), "it", io::ErrorKind::InvalidInput.into());
        let mut message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.address(), destination.prefix())
            .map_err(|_| mixed())?
            .output_interface(index);
        message = match gateway {
            Some(gateway) => message.gateway(gateway).map_err(|_| mixed())?,
            None => message.scope(RouteScope::Link),
        };
        match self.handle.route().add(message.build()).execute().await {
            Err(error) if errno(&error) != Some(libc::EEXIST) => Err(failed(what, "routes", error)),
            _ => Ok(()),
        }
    }

    /// The routes of the main table that leave through one of these interfaces; through several at once, it is
    /// asked of the interface 0, which there is not.
    pub(crate) async fn routes(
        &self,
        through: impl Fn(u32) -> bool,
    ) -> Result<Vec<Route>, HostError> {
        let mut routes = Vec::new();
        for question in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let answer = self.handle.route().get(question).execute();
            let messages: Vec<RouteMessage> = answer
                .try_collect()
                .await
                .map_err(|error| failed("list the routes", "netlink", error))?;
            let messages = messages.iter().filter_map(route);
            routes.extend(messages.filter(|(index, _)| through(*index)).map(|(_, route)| route));
        }
        Ok(routes)
    }

    /// Has a port of a bridge send back what came from it.
    pub(crate) async fn send_back(&self, index: u32, name: &str) -> Result<(), HostError> {
        let message = LinkBridgePort::new(index).hairpin(true).build();
        self.handle.link().set_port(message).execute().await.map_err(|error| {
            failed(format!("switch the hairpin mode of {name} on"), "hairpin mode", error)
        })
    }

    /// Has a bridge learn from a port, and flood everything to it.
    pub(crate) async fn pass_all(&self, index: u32, name: &str) -> Result<(), HostError> {
        let port = InfoPortData::BridgePort(PASS_ALL.to_vec());
        let info = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(port)];
        let message: LinkMessageBuilder<LinkUnspec> = LinkUnspec::new_with_index(index);
        let message = message.append_extra_attribute(LinkAttribute::LinkInfo(info)).build();
        self.handle.link().change(message).execute().await.map_err(|error| {
            failed(format!("have the bridge pass all frames to {name}"), "this setting", error)
        })
    }

    /// The number that this namespace has for another one, if any. It has one for each that an
    /// interface leads to, from when the interfaces are listed.
    pub(crate) async fn namespace_number(
        &self,
        namespace: BorrowedFd<'_>,
    ) -> Result<Option<i32>, HostError> {
        let failed = |error| failed("look for a network namespace", "namespace ids", error);
        let mut question = NsidMessage::default();
        // The kernel takes no negative descriptor, and none is.
        question.attributes.push(NsidAttribute::Fd(namespace.as_raw_fd().unsigned_abs()));
        let mut question = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(question));
        question.header.flags = NLM_F_REQUEST;
        let mut answers = self.handle.clone().request(question).map_err(failed)?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) => {
                    return Ok(answer.attributes.iter().find_map(|attribute| match attribute {
                        NsidAttribute::Id(number) if *number >= 0 => Some(*number),
                        _ => None,
                    }));
                }
                NetlinkPayload::Error(error) => {
                    return Err(failed(rtnetlink::Error::NetlinkError(error)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    async fn address_messages(&self, index: u32) -> Result<Vec<AddressMessage>, HostError> {
        self.handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute()
            .try_collect()
            .await
            .map_err(|error| failed("list the addresses", "netlink", error))
    }
}

/// How a port of a bridge is when nobody has changed it.
const PASS_ALL: [InfoBridgePort; 4] = [
    InfoBridgePort::Learning(true),
    InfoBridgePort::UnicastFlood(true),
    InfoBridgePort::MulticastFlood(true),
    InfoBridgePort::BroadcastFlood(true),
];

/// Whether it is this option, with the other value.
fn differs(wanted: &InfoBridgePort, found: &InfoBridgePort) -> bool {
    discriminant(wanted) == discriminant(found) && wanted != found
}

fn interface(message: LinkMessage) -> Interface {
    let flags = message.header.flags;
    let mut interface = Interface {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        mac: MacAddress::ZERO,
        mtu: 0,
        largest_mtu: None,
        controller: None,
        filtered: false,
        isolated: None,
        other_end: None,
        other_namespace: None,
        alias: None,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Up | LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
            // Zero means that the driver does not say.
            LinkAttribute::MaxMtu(mtu) if mtu != 0 => interface.largest_mtu = Some(mtu),
            LinkAttribute::Controller(index) if index != 0 => interface.controller = Some(index),
            LinkAttribute::Link(index) => interface.other_end = Some(index),
            LinkAttribute::LinkNetNsId(id) => interface.other_namespace = Some(id),
            LinkAttribute::IfAlias(note) => interface.alias = Some(note),
            LinkAttribute::Address(bytes) => {
                interface.mac = <[u8; 6]>::try_from(bytes).map_or(MacAddress::ZERO, MacAddress);
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => interface.kind = kind.to_string(),
                        LinkInfo::PortData(InfoPortData::BridgePort(options)) => {
                            interface.filtered = options
                                .iter()
                                .any(|found| PASS_ALL.iter().any(|wanted| differs(wanted, found)));
                            interface.isolated = options.iter().find_map(|option| match option {
                                InfoBridgePort::Isolated(isolated) => Some(*isolated),
                                _ => None,
                            });
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    interface
}

/// The address of an interface; `Local` is the own one where the other end of a point-to-point
/// link is in `Address`.
fn cidr(message: &AddressMessage) -> Option<Cidr> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(other) => address = address.or(Some(*other)),
            _ => {}
        }
    }
    let address = address.filter(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    })?;
    Cidr::new(address, message.header.prefix_len)
}

/// The route, if it is of the main table, and the interface it leaves through.
fn route(message: &RouteMessage) -> Option<(u32, Route)> {
    let mut through = 0;
    let mut destination = None;
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(interface) => through = *interface,
            RouteAttribute::Destination(address) => destination = ip_address(address),
            RouteAttribute::Gateway(address) => gateway = ip_address(address),
            _ => {}
        }
    }
    let everything = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let main = message.header.table == RouteHeader::RT_TABLE_MAIN;
    let prefix = message.header.destination_prefix_length;
    let destination = Cidr::new(destination.unwrap_or(everything), prefix)?;
    main.then_some((through, Route { destination, gateway }))
}

fn ip_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().wrapping_neg()),
        _ => None,
    }
}

fn failed(action: impl Into<String>, feature: &'static str, error: rtnetlink::Error) -> HostError {
    let source = match errno(&error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    };
    HostError::kernel(action, feature, source)
}
