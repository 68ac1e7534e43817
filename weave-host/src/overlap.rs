//! Networks of this host that a range for containers would hide.

use crate::error::HostError;
use crate::links::routes;
use crate::namespace::run_here;
use weave_core::Cidr;

/// A way out of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostRoute {
    /// Where to.
    pub destination: Cidr,
    /// The interface it leaves through.
    pub interface: String,
}

/// Returns the first route of this host that shares addresses with `range`, but for the default
/// route and those through `bridge`.
///
/// # Errors
/// If the kernel refuses.
pub fn overlapping_route(range: Cidr, bridge: &str) -> Result<Option<HostRoute>, HostError> {
    run_here(|netlink| {
        for interface in netlink.links()? {
            if interface.name == bridge {
                continue;
            }
            let routes = routes(netlink, |through| through == interface.index)?;
            let found = routes.iter().map(|route| route.destination).find(|destination| {
                destination.prefix() > 0
                    && (destination.contains(range.address())
                        || range.contains(destination.address()))
            });
            if let Some(destination) = found {
                return Ok(Some(HostRoute { destination, interface: interface.name }));
            }
        }
        Ok(None)
    })
}
