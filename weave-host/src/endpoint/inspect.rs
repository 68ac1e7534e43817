//! Looking at what a container has.

use weave_core::wire::MacAddress;
use weave_rtnl::Client;

use super::veth_peer::VethPeer;
use crate::bridge::PortNote;
use crate::error::HostError;
use crate::links::{addresses, mac, routes};
use crate::namespace::Namespace;
use crate::route::Route;
use weave_core::Cidr;

/// An interface in a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerInterface {
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Whether it is up.
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<Cidr>,
    /// The routes that leave through it.
    pub routes: Vec<Route>,
    /// The routes that leave through others.
    pub other_routes: Vec<Route>,
    /// The name of its other end, if that is on this host.
    pub host_end: Option<String>,
    /// Who holds its addresses, if that is noted on the other end.
    pub holder: Option<String>,
    /// The bridge that is a port of.
    pub bridge: Option<String>,
}

/// Looks at an interface in a container; none if there is none of that name.
///
/// # Errors
/// If the kernel refuses.
pub fn inspect(
    container: &Namespace,
    interface: &str,
) -> Result<Option<ContainerInterface>, HostError> {
    let netlink = &mut container.client()?;
    let veth = VethPeer::find(&mut Client::open()?, netlink, container, interface)?;
    let Some(veth) = veth else { return Ok(None) };
    let (host_end, bridge) = veth.place();
    let noted = host_end.as_ref().and_then(|end| PortNote::of(end).holder);
    let holder = noted.map(str::to_owned);
    let host_end = host_end.map(|end| end.name);
    let Some(found) = netlink.link_by_name(interface)? else { return Ok(None) };
    Ok(Some(ContainerInterface {
        mac: mac(&found),
        up: found.up,
        addresses: addresses(netlink, found.index)?,
        routes: routes(netlink, |through| through == found.index)?,
        other_routes: routes(netlink, |through| through != found.index)?,
        holder,
        host_end,
        bridge,
    }))
}

/// Returns the routes of a container that leave through other interfaces than this one, which need
/// not be there.
///
/// # Errors
/// If the kernel refuses.
pub fn routes_beside(container: &Namespace, interface: &str) -> Result<Vec<Route>, HostError> {
    let netlink = &mut container.client()?;
    let index = netlink.link_by_name(interface)?.map(|found| found.index);
    routes(netlink, |through| Some(through) != index)
}
