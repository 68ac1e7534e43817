//! What a container is to get.

use std::collections::BTreeSet;
use std::time::Duration;

use weave_core::wire::MacAddress;

use crate::names::CONTAINER_INTERFACE;
use crate::route::Route;
use weave_core::Cidr;

/// What a container is to get.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The bridge, mostly [`BRIDGE_NAME`](crate::BRIDGE_NAME).
    pub bridge: String,
    /// The name of the interface in the container, mostly [`CONTAINER_INTERFACE`].
    pub interface: String,
    /// Who holds the addresses, if that is noted on the port:
    /// [`remove_port_of`](crate::remove_port_of) finds it again by that, and
    /// [`attached_ids`](crate::attached_ids) tells that it is there.
    pub holder: Option<String>,
    /// The Ethernet address of the interface; any if none.
    pub mac: Option<MacAddress>,
    /// Addresses the interface shall have, besides those it has.
    pub addresses: Vec<Cidr>,
    /// Whether multicast leaves through this interface.
    pub multicast_route: bool,
    /// Where else packets leave through it, in this order.
    pub routes: Vec<Route>,
    /// The largest packet of a new interface, in bytes; that of the bridge if none.
    pub mtu: Option<u32>,
    /// How long to wait for somebody else to say that an address is his, before it is added; not at
    /// all if none.
    pub probe: Option<Duration>,
    /// Whose answers to that do not count: they answer for every address.
    pub disbelieved: BTreeSet<MacAddress>,
    /// Whether the port of a new interface sends back what came from it, for a container that
    /// speaks to itself by an address that is translated on the bridge.
    pub hairpin: bool,
}

impl Attachment {
    /// Returns the request for an interface of the usual name, without an address.
    pub fn new(bridge: impl Into<String>) -> Self {
        Self {
            bridge: bridge.into(),
            interface: CONTAINER_INTERFACE.to_owned(),
            holder: None,
            mac: None,
            addresses: Vec::new(),
            multicast_route: false,
            routes: Vec::new(),
            mtu: None,
            probe: None,
            disbelieved: BTreeSet::new(),
            hairpin: false,
        }
    }
}
