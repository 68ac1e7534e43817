//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use weave_netlink::{Errno, Transport};

use crate::client::{Client, unless};
use crate::error::{Cause, Error};
use crate::operation::Operation;

/// A route of the main table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Route {
    /// Index of the interface that packets leave through; 0 if there are several.
    pub link: u32,
    /// Where to; unspecified for the default route.
    pub destination: IpAddr,
    /// How many leading bits of the destination count.
    pub prefix: u8,
    /// The next hop; none if the destination is on the link itself.
    pub gateway: Option<IpAddr>,
}

impl<T: Transport> Client<T> {
    /// Lists the routes of the main table, those of IPv4 first.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            question.header.table = RouteHeader::RT_TABLE_MAIN;
            let question = RouteNetlinkMessage::GetRoute(question);
            routes.extend(self.list(Operation::ListRoutes, &question, |answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => Route::of(&message),
                _ => None,
            })?);
        }
        Ok(routes)
    }

    /// Adds a route to the main table, and returns whether it was missing.
    ///
    /// # Errors
    /// Fails if destination and gateway are of different families, or if the kernel refuses.
    pub fn add_route(&mut self, route: &Route) -> Result<bool, Error> {
        let Route { link, destination, prefix, gateway } = *route;
        let operation = || Operation::AddRoute { destination, prefix, gateway };
        if gateway.is_some_and(|gateway| gateway.is_ipv4() != destination.is_ipv4()) {
            let cause = Cause::Misuse("the gateway is not of the same family");
            return Err(Error { operation: operation(), cause });
        }
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.destination_prefix_length = prefix;
        message.header.scope =
            if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        if prefix > 0 {
            message.attributes.push(RouteAttribute::Destination(destination.into()));
        }
        message.attributes.push(RouteAttribute::Oif(link));
        let gateway = gateway.map(|gateway| RouteAttribute::Gateway(gateway.into()));
        message.attributes.extend(gateway);
        let message = RouteNetlinkMessage::NewRoute(message);
        unless(Errno::EEXIST, self.execute(operation, &message, NLM_F_CREATE | NLM_F_EXCL))
    }
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

impl Route {
    /// Decodes a route; `None` if it is of another table.
    pub(crate) fn of(message: &RouteMessage) -> Option<Self> {
        if message.header.table != RouteHeader::RT_TABLE_MAIN {
            return None;
        }
        let everything = match message.header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let prefix = message.header.destination_prefix_length;
        let mut route = Self { link: 0, destination: everything, prefix, gateway: None };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.link = *index,
                RouteAttribute::Destination(address) => {
                    route.destination = ip(address).unwrap_or(everything);
                }
                RouteAttribute::Gateway(address) => route.gateway = ip(address),
                _ => {}
            }
        }
        Some(route)
    }
}

const fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
