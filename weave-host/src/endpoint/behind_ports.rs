//! The addresses that containers have, found without a way into their namespaces.
//!
//! A router in a container of its own sees neither the processes of the host nor the names of its
//! namespaces. But its ports lead into these, and the kernel tells what is at the other end.

use weave_core::Cidr;
use weave_rtnl::{Address, Client, Link};

use super::list::{id, ports};
use crate::error::HostError;

/// What is at the other end of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BehindPort {
    /// What tells it from others while it lives, as in [`attached_ids`](super::attached_ids).
    pub id: String,
    /// The port on the bridge.
    pub port: String,
    /// The IPv4 addresses.
    pub addresses: Vec<Cidr>,
}

/// Returns what containers on a bridge have, or those that somebody took from it; nothing if the
/// kernel cannot tell (before Linux 4.20).
///
/// # Errors
/// If the kernel refuses.
pub fn addresses_behind_ports(bridge: &str) -> Result<Vec<BehindPort>, HostError> {
    let host = &mut Client::open()?;
    let Some(mut strict) = Client::open_strict()? else { return Ok(Vec::new()) };
    let (_, ports) = ports(host, bridge)?;
    let mut found = Vec::new();
    for port in ports.iter().filter(|port| port.kind == "veth") {
        // Without a number, the other end is on the host.
        let (Some(namespace), Some(peer)) = (port.peer_namespace, port.peer) else { continue };
        let addresses = match strict.addresses_in(namespace, peer) {
            Ok(addresses) => addresses,
            Err(error) if is_gone(host, port)? => {
                tracing::debug!(port = port.name, %error, "it went meanwhile");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let cidr = |Address { ip, prefix, .. }| Cidr::new(ip, prefix);
        let addresses = addresses.into_iter().filter_map(cidr).collect();
        found.push(BehindPort { id: id(port), port: port.name.clone(), addresses });
    }
    Ok(found)
}

/// Containers end while they are looked at.
fn is_gone(host: &mut Client, port: &Link) -> Result<bool, HostError> {
    let now = host.link(port.index)?;
    Ok(now.is_none_or(|now| now.peer_namespace != port.peer_namespace))
}
