//! What the interface of a container gets once it is there.

use std::net::IpAddr;

use weave_rtnl::Client;

use super::attachment::Attachment;
use super::end::End;
use crate::arp::{announce, probe};
use crate::error::HostError;
use crate::links::{add_address, add_multicast_route, add_route, addresses, required};
use weave_core::Cidr;

/// In the container: the addresses, once nobody else has them, of which the neighbours are told;
/// then the routes, that of multicast last, because programs that wait for the network look for it.
pub(super) fn configure(
    netlink: &mut Client,
    attachment: &Attachment,
) -> Result<(Vec<Cidr>, End), HostError> {
    let interface = required(netlink, &attachment.interface)?;
    let present = addresses(netlink, interface.index)?;
    let mut added: Vec<Cidr> = Vec::new();
    for cidr in &attachment.addresses {
        let known = present.iter().chain(&added).any(|other| other.address() == cidr.address());
        if !known {
            added.push(*cidr);
        }
    }
    if let Some(patience) = attachment.probe {
        let believes = |holder| !attachment.disbelieved.contains(&holder);
        for cidr in &added {
            let IpAddr::V4(address) = cidr.address() else { continue };
            if let Some(holder) = probe::ask(&interface, address, patience, believes)? {
                return Err(HostError::AddressInUse { address: address.into(), holder });
            }
        }
    }
    for cidr in &added {
        add_address(netlink, interface.index, *cidr)?;
    }
    announce::by_kernel(netlink, &interface, &added);
    for route in &attachment.routes {
        add_route(netlink, interface.index, *route)?;
    }
    if attachment.multicast_route {
        add_multicast_route(netlink, interface.index)?;
    }
    Ok((added, End::of(interface)))
}
