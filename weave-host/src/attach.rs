//! Giving a container an interface on the switch (spec cni.md, section 5).

use std::net::IpAddr;
use std::time::Duration;

use weave_core::wire::Arp;

use crate::error::HostError;
use crate::lock::HostLock;
use crate::namespace::{Namespace, run_here};
use crate::netlink::{Change, Interface, Netlink};
use crate::plug::Plug;
use crate::{Cidr, sys, sysctl};

/// The interface in a container.
pub(crate) const CONTAINER_INTERFACE: &str = "ethwe";
/// Start of the name of its other end, on the bridge.
pub(crate) const HOST_END: &str = "vethwepl";
/// Start of the name the interface has until it is in the container.
pub(crate) const GUEST_END: &str = "vethwepg";

/// What a container is to get.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The bridge, mostly [`BRIDGE_NAME`](crate::BRIDGE_NAME).
    pub bridge: String,
    /// Addresses the interface shall have, besides those it has.
    pub addresses: Vec<Cidr>,
    /// Whether multicast leaves through this interface.
    pub multicast_route: bool,
}

/// What attaching changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The interface is new.
    pub created: bool,
    /// The addresses it did not have before.
    pub added: Vec<Cidr>,
}

/// Attaches a container, or gives one that is attached further addresses.
///
/// # Errors
/// If the bridge is not there, the interface the container has is of something else, or the
/// kernel refuses; a half-made interface is removed.
pub fn attach(container: &Namespace, attachment: &Attachment) -> Result<Attached, HostError> {
    let _lock = HostLock::acquire()?;
    let bridge = run_here(async |netlink| find_bridge(netlink, &attachment.bridge).await)?;
    let (host_end, created) = match Plug::find(container)? {
        Some(plug) => (plug.of_bridge(container, &bridge)?, false),
        None => (plug_in(container, &bridge)?, true),
    };
    let added = container.run(async |netlink| configure(netlink, attachment).await)?;
    // The bridge drops what comes from a port that is not running yet.
    run_here(async |netlink| wait_until_running(netlink, &host_end).await)?;
    container.run(async |netlink| announce(netlink, attachment, &added).await)?;
    Ok(Attached { created, added })
}

/// Makes the pair of interfaces and moves one into the container. Offloads stay as they are: the
/// original switched transmit checksums off where it captured in user space, but our ports take
/// unfinished ones, and frames that are still to be segmented. Returns the name of the end on
/// the bridge.
fn plug_in(container: &Namespace, bridge: &Interface) -> Result<String, HostError> {
    let host_end = format!("{HOST_END}{}", container.id());
    let guest_end = format!("{GUEST_END}{}", container.id());
    let plugged = run_here(async |netlink| {
        // Nothing in the container belongs to it, so an earlier attempt was interrupted.
        if let Some(stale) = netlink.find(&host_end).await? {
            netlink.delete(stale.index, &host_end).await?;
        }
        netlink.create_veth(&host_end, &guest_end).await?;
        wire(netlink, container, bridge, &host_end, &guest_end).await
    })
    .and_then(|()| {
        container.run(async |netlink| {
            let guest = required(netlink, &guest_end).await?;
            netlink.change(guest.index, &guest_end, Change::Name(CONTAINER_INTERFACE)).await?;
            sysctl::ignore_router_advertisements(CONTAINER_INTERFACE);
            sysctl::expire_neighbours_soon(CONTAINER_INTERFACE);
            sysctl::announce_ipv6(CONTAINER_INTERFACE);
            Ok(())
        })
    });
    if plugged.is_err() {
        // Deleting one end deletes the other. The first error says more than one from here.
        let _ = run_here(async |netlink| match netlink.find(&host_end).await? {
            Some(stale) => netlink.delete(stale.index, &host_end).await,
            None => Ok(()),
        });
    }
    plugged.map(|()| host_end)
}

async fn wire(
    netlink: &Netlink,
    container: &Namespace,
    bridge: &Interface,
    host_end: &str,
    guest_end: &str,
) -> Result<(), HostError> {
    use std::os::fd::AsFd;

    let host = required(netlink, host_end).await?;
    let guest = required(netlink, guest_end).await?;
    for (index, name) in [(host.index, host_end), (guest.index, guest_end)] {
        netlink.change(index, name, Change::Mtu(bridge.mtu)).await?;
    }
    // Two bridges may lose their containers, and each has to find its own again.
    netlink.change(host.index, host_end, Change::Alias(&bridge.name)).await?;
    netlink.change(host.index, host_end, Change::Controller(bridge.index)).await?;
    sysctl::ignore_router_advertisements(host_end);
    netlink.change(guest.index, guest_end, Change::Namespace(container.as_fd())).await?;
    netlink.change(host.index, host_end, Change::Up).await
}

/// In the container: the addresses, and up.
async fn configure(netlink: &Netlink, attachment: &Attachment) -> Result<Vec<Cidr>, HostError> {
    let interface = required(netlink, CONTAINER_INTERFACE).await?;
    let present = netlink.addresses(interface.index).await?;
    let mut added = Vec::new();
    for cidr in &attachment.addresses {
        let known = present.iter().chain(&added).any(|other| other.address() == cidr.address());
        if !known {
            netlink.add_address(interface.index, *cidr).await?;
            added.push(*cidr);
        }
    }
    netlink.change(interface.index, CONTAINER_INTERFACE, Change::Up).await?;
    Ok(added)
}

/// In the container: tell the neighbours, and set the multicast route last, because programs
/// that wait for the network look for it.
async fn announce(
    netlink: &Netlink,
    attachment: &Attachment,
    added: &[Cidr],
) -> Result<(), HostError> {
    wait_until_running(netlink, CONTAINER_INTERFACE).await?;
    let interface = required(netlink, CONTAINER_INTERFACE).await?;
    for cidr in added {
        announce_address(&interface, *cidr);
    }
    if attachment.multicast_route {
        netlink.add_multicast_route(interface.index).await?;
    }
    Ok(())
}

/// Tells the neighbours of an interface in this thread's namespace whose address this is now.
pub(crate) fn announce_address(interface: &Interface, cidr: Cidr) {
    if let IpAddr::V4(address) = cidr.address() {
        let frame = Arp::announcement(interface.mac, address).to_frame();
        if let Err(error) = sys::packet::send_frame(interface.index, &frame) {
            tracing::warn!(%address, %error, "address not announced");
        }
    }
}

/// The kernel notices the carrier of the pair a moment after both ends are up, and drops
/// frames until then. An interface that is not there needs no waiting.
async fn wait_until_running(netlink: &Netlink, name: &str) -> Result<(), HostError> {
    const ATTEMPTS: u32 = 200;
    for _ in 0..ATTEMPTS {
        if netlink.find(name).await?.is_none_or(|interface| interface.running) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tracing::debug!(interface = name, "still not running");
    Ok(())
}

/// The interface with this name, which must be there.
pub(crate) async fn required(netlink: &Netlink, name: &str) -> Result<Interface, HostError> {
    let found = netlink.find(name).await?;
    found.ok_or_else(|| HostError::NoInterface { name: name.to_owned(), hint: "" })
}

async fn find_bridge(netlink: &Netlink, name: &str) -> Result<Interface, HostError> {
    let hint = ": start the router first (`weave launch`)";
    let found = netlink.find(name).await?;
    let found = found.ok_or_else(|| HostError::NoInterface { name: name.to_owned(), hint })?;
    if found.kind == "bridge" {
        Ok(found)
    } else {
        let kind = if found.kind.is_empty() { "a device".to_owned() } else { found.kind };
        Err(HostError::Inconsistent { name: name.to_owned(), found: format!("{kind}, no bridge") })
    }
}
