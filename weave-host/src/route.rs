//! A route of a network namespace.

use std::net::IpAddr;

use weave_core::Cidr;

/// A way out of a container.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Route {
    /// Where to; the default route has prefix 0.
    pub destination: Cidr,
    /// The next hop; none if the destination is on the switch itself.
    pub gateway: Option<IpAddr>,
}
