//! Interfaces, addresses and routes as this crate looks at them.

use std::net::{IpAddr, Ipv4Addr};

use weave_core::wire::MacAddress;
use weave_rtnl::{Address, Client, Link, LinkChange, LinkId, PortSettings};

use crate::error::HostError;
use crate::route::Route;
use weave_core::Cidr;

/// How a port of a bridge is when nobody has changed it.
pub(crate) const PASS_ALL: PortSettings = PortSettings {
    learning: Some(true),
    unicast_flood: Some(true),
    multicast_flood: Some(true),
    broadcast_flood: Some(true),
    isolated: None,
    hairpin: None,
};

/// Where all multicast goes (RFC 5771).
const MULTICAST: (Ipv4Addr, u8) = (Ipv4Addr::new(224, 0, 0, 0), 4);

/// Returns the interface with this name, which must be there.
pub(crate) fn required(netlink: &mut Client, name: &str) -> Result<Link, HostError> {
    let found = netlink.link_by_name(name)?;
    found.ok_or_else(|| HostError::NoInterface { name: name.to_owned(), hint: "" })
}

/// Changes an interface.
pub(crate) fn change<'a>(
    netlink: &mut Client,
    link: impl Into<LinkId<'a>>,
    change: LinkChange<'_>,
) -> Result<(), HostError> {
    Ok(netlink.change(link, change)?)
}

/// Deletes an interface; none is fine.
pub(crate) fn delete<'a>(
    netlink: &mut Client,
    link: impl Into<LinkId<'a>>,
) -> Result<(), HostError> {
    netlink.delete(link)?;
    Ok(())
}

/// Returns the Ethernet address of an interface; zero if it has none.
pub(crate) fn mac(link: &Link) -> MacAddress {
    link.mac.map_or(MacAddress::ZERO, MacAddress)
}

/// Returns whether a port of a bridge is not learnt from, or some frames are not flooded to it.
pub(crate) fn is_filtered(port: &Link) -> bool {
    !port.port.agrees_with(&PASS_ALL)
}

/// Returns the addresses of an interface, without the link-local ones that the kernel makes by
/// itself.
pub(crate) fn addresses(netlink: &mut Client, link: u32) -> Result<Vec<Cidr>, HostError> {
    let is_own = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    let addresses = netlink.addresses(link)?.into_iter().filter(|address| is_own(&address.ip));
    Ok(addresses.filter_map(|Address { ip, prefix, .. }| Cidr::new(ip, prefix)).collect())
}

const fn address(link: u32, cidr: Cidr) -> Address {
    Address { link, ip: cidr.address(), prefix: cidr.prefix() }
}

/// Adds an address; one that is there is fine.
pub(crate) fn add_address(netlink: &mut Client, link: u32, cidr: Cidr) -> Result<(), HostError> {
    netlink.add_address(&address(link, cidr))?;
    Ok(())
}

/// Removes an address; none is fine.
pub(crate) fn remove_address(netlink: &mut Client, link: u32, cidr: Cidr) -> Result<(), HostError> {
    netlink.remove_address(&address(link, cidr))?;
    Ok(())
}

/// Sends packets out of an interface; a route that is there is fine.
pub(crate) fn add_route(netlink: &mut Client, link: u32, route: Route) -> Result<(), HostError> {
    let Route { destination, gateway } = route;
    let (destination, prefix) = (destination.address(), destination.prefix());
    netlink.add_route(&weave_rtnl::Route { link, destination, prefix, gateway })?;
    Ok(())
}

/// Sends all multicast out of an interface; a route that is there is fine.
pub(crate) fn add_multicast_route(netlink: &mut Client, link: u32) -> Result<(), HostError> {
    let (destination, prefix) = (MULTICAST.0.into(), MULTICAST.1);
    netlink.add_route(&weave_rtnl::Route { link, destination, prefix, gateway: None })?;
    Ok(())
}

/// Returns the routes of the main table that leave through one of these interfaces; through several
/// at once, it is asked of the interface 0, which there is not.
pub(crate) fn routes(
    netlink: &mut Client,
    through: impl Fn(u32) -> bool,
) -> Result<Vec<Route>, HostError> {
    let routes = netlink.routes()?.into_iter().filter(|route| through(route.link));
    let route = |route: weave_rtnl::Route| {
        let destination = Cidr::new(route.destination, route.prefix)?;
        Some(Route { destination, gateway: route.gateway })
    };
    Ok(routes.filter_map(route).collect())
}

/// Returns an interface that is up, alone, and of no kind.
#[cfg(test)]
pub(crate) fn link_named(name: &str) -> Link {
    Link {
        index: 1,
        name: name.to_owned(),
        mtu: 1500,
        up: true,
        running: true,
        loopback: name == "lo",
        ..Link::default()
    }
}
