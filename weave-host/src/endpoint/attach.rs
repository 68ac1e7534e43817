//! Giving a container an interface on the switch (spec cni.md, section 5).

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use weave_core::wire::MacAddress;

use super::veth_peer::{VethPeer, ends_on_bridge};
use crate::address::Cidr;
use crate::arp::{announce, probe};
use crate::bridge::{PortNote, make_port, mend};
use crate::error::HostError;
use crate::lock::HostLock;
use crate::names::{CONTAINER_INTERFACE, DATAPATH_KIND, GUEST_END, HOST_END};
use crate::namespace::{Namespace, run_here};
use crate::netlink::{Change, Interface, Netlink};
use crate::route::Route;
use crate::sysctl;

/// What a container is to get.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The bridge, mostly [`BRIDGE_NAME`](crate::BRIDGE_NAME).
    pub bridge: String,
    /// The name of the interface in the container, mostly [`CONTAINER_INTERFACE`].
    pub interface: String,
    /// Who holds the addresses, if that is noted on the port: [`remove_port_of`](crate::remove_port_of)
    /// finds it again by that, and [`attached_ids`](crate::attached_ids) tells that it is there.
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
    /// How long to wait for somebody else to say that an address is his, before it is added; not at all if
    /// none.
    pub probe: Option<Duration>,
    /// Whether the port of a new interface sends back what came from it, for a container that
    /// speaks to itself by an address that is translated on the bridge.
    pub hairpin: bool,
}

impl Attachment {
    /// An interface of the usual name, without an address.
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
            hairpin: false,
        }
    }
}

/// One end of the pair that joins a container to the bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// The name of the interface.
    pub name: String,
    /// Its Ethernet address.
    pub mac: MacAddress,
}

/// What attaching changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachChanges {
    /// The interface is new.
    pub created: bool,
    /// The addresses it did not have before.
    pub added: Vec<Cidr>,
    /// The end on the bridge.
    pub host_end: End,
    /// The end in the container.
    pub container_end: End,
}

/// Attaches a container, or gives one that is attached further addresses, and mends what somebody did
/// to its port.
///
/// # Errors
/// If the bridge is not there, the interface the container has is of something else, or the
/// kernel refuses; a half-made interface is removed.
pub fn attach(container: &Namespace, attachment: &Attachment) -> Result<AttachChanges, HostError> {
    let _lock = HostLock::acquire()?;
    let bridge = run_here(async |netlink| find_bridge(netlink, &attachment.bridge).await)?;
    let note = PortNote { bridge: &bridge.name, holder: attachment.holder.as_deref() };
    let note = note.text().ok_or_else(|| HostError::NoNote { what: format!("{note:?}") })?;
    let (host_end, created) = match VethPeer::find(container, &attachment.interface)? {
        Some(veth) => {
            let end = veth.of_bridge(container, &bridge)?;
            run_here(async |netlink| mend(netlink, &bridge, &end).await)?;
            adopt(container, attachment, &end, &note)?;
            (end.name, false)
        }
        None => (create_pair(container, &bridge, attachment, &note)?, true),
    };
    let result = bring_up(container, attachment, &bridge, &host_end);
    if created && result.is_err() {
        // The first error says more than one from here.
        let _ = run_here(async |netlink| match netlink.find(&host_end).await? {
            Some(found) => netlink.delete(found.index, &host_end).await,
            None => Ok(()),
        });
    }
    let (added, host_end, container_end) = result?;
    Ok(AttachChanges { created, added, host_end, container_end })
}

/// An interface that is there already belongs to the same holder, or its holder is not known: those that an
/// earlier version or the original made have no note yet.
fn adopt(
    container: &Namespace,
    attachment: &Attachment,
    host_end: &Interface,
    note: &str,
) -> Result<(), HostError> {
    let Some(holder) = &attachment.holder else { return Ok(()) };
    match PortNote::of(host_end).holder {
        Some(noted) if noted == holder => Ok(()),
        Some(other) => Err(HostError::ForeignInterface {
            interface: attachment.interface.clone(),
            target: container.target().to_owned(),
            found: format!("was made for {other}, not for {holder}"),
        }),
        None => run_here(async |netlink| {
            netlink.change(host_end.index, &host_end.name, Change::Alias(note)).await
        }),
    }
}

fn bring_up(
    container: &Namespace,
    attachment: &Attachment,
    bridge: &Interface,
    host_end: &str,
) -> Result<(Vec<Cidr>, End, End), HostError> {
    container.run(async |netlink| {
        let interface = netlink.required(&attachment.interface).await?;
        if let Some(mac) = attachment.mac.filter(|mac| *mac != interface.mac) {
            let change = Change::Mac(mac);
            netlink.change(interface.index, &attachment.interface, change).await?;
        }
        netlink.change(interface.index, &attachment.interface, Change::Up).await
    })?;
    // The bridge drops what comes from a port that is not running yet.
    let (host_end, on_bridge) = run_here(async |netlink| {
        wait_until_running(netlink, host_end).await?;
        let end = End::from(netlink.required(host_end).await?);
        Ok((end, ends_on_bridge(netlink, container, bridge).await?))
    })?;
    let (added, container_end) = container.run(async |netlink| {
        if on_bridge.len() > 1 {
            separate_arp(netlink, &on_bridge).await?;
        }
        configure(netlink, attachment).await
    })?;
    Ok((added, host_end, container_end))
}

/// Makes the pair of interfaces, with one end in the container: to move it there would cost much
/// more. Offloads stay as they are: the original switched transmit checksums off where it
/// captured in user space, but our ports take unfinished ones, and frames that are still to be
/// segmented. Returns the name of the end on the bridge.
fn create_pair(
    container: &Namespace,
    bridge: &Interface,
    attachment: &Attachment,
    note: &str,
) -> Result<String, HostError> {
    let interface = attachment.interface.as_str();
    let id = container.port_id(interface);
    let host_end = format!("{HOST_END}{id}");
    let guest_end = format!("{GUEST_END}{id}");
    remove_unfinished(container, attachment, &host_end, &guest_end)?;
    let connected = run_here(async |netlink| {
        let mtu = attachment.mtu.unwrap_or(bridge.mtu);
        netlink.create_veth_into(container.as_fd(), &host_end, &guest_end, mtu).await?;
        connect_host_end(netlink, bridge, attachment, &host_end, note).await
    })
    .and_then(|()| {
        container.run(async |netlink| {
            let guest = netlink.required(&guest_end).await?;
            sysctl::ignore_router_advertisements(&guest_end);
            sysctl::expire_neighbours_soon(&guest_end);
            sysctl::announce_ipv6(&guest_end);
            // Last, so that what has the name is complete.
            netlink.change(guest.index, &guest_end, Change::Name(interface)).await
        })
    });
    if connected.is_err() {
        // Deleting one end deletes the other. The first error says more than one from here.
        let _ = run_here(async |netlink| match netlink.find(&host_end).await? {
            Some(stale) => netlink.delete(stale.index, &host_end).await,
            None => Ok(()),
        });
    }
    connected.map(|()| host_end)
}

/// Removes what an attempt left that was interrupted: its end in the container has not got its name yet. One
/// that was complete, and was renamed in the container since, is in use.
fn remove_unfinished(
    container: &Namespace,
    attachment: &Attachment,
    host_end: &str,
    guest_end: &str,
) -> Result<(), HostError> {
    let Some(found) = run_here(async |netlink| netlink.find(host_end).await)? else {
        return Ok(());
    };
    let guest = container.run(async |netlink| netlink.find(guest_end).await)?;
    let on_the_way = guest.is_some_and(|guest| guest.other_end == Some(found.index));
    // An end that is still on the host was not even given to the container.
    if on_the_way || found.other_namespace.is_none() {
        return run_here(async |netlink| netlink.delete(found.index, host_end).await);
    }
    Err(HostError::ForeignInterface {
        interface: attachment.interface.clone(),
        target: container.target().to_owned(),
        found: format!(
            "has another name in the container by now, and its other end {host_end} is still there"
        ),
    })
}

async fn connect_host_end(
    netlink: &Netlink,
    bridge: &Interface,
    attachment: &Attachment,
    host_end: &str,
    note: &str,
) -> Result<(), HostError> {
    let host = netlink.required(host_end).await?;
    // Two bridges may lose their containers, and each has to find its own again.
    netlink.change(host.index, host_end, Change::Alias(note)).await?;
    make_port(netlink, bridge, &host).await?;
    // A datapath never sends a frame back.
    if attachment.hairpin && bridge.kind != DATAPATH_KIND {
        netlink.send_back(host.index, host_end).await?;
    }
    sysctl::ignore_router_advertisements(host_end);
    netlink.change(host.index, host_end, Change::Up).await
}

/// Several interfaces of one container on one switch are one host with two cables in one network. Linux lets
/// each of them answer ARP for the addresses of all, so that neighbours would find one address now here and
/// now there.
async fn separate_arp(netlink: &Netlink, indexes: &[u32]) -> Result<(), HostError> {
    for interface in netlink.interfaces().await? {
        if indexes.contains(&interface.index) {
            sysctl::answer_for_own_addresses(&interface.name);
        }
    }
    Ok(())
}

/// In the container: the addresses, once nobody else has them, of which the neighbours are told; then the
/// routes, that of multicast last, because programs that wait for the network look for it.
async fn configure(
    netlink: &Netlink,
    attachment: &Attachment,
) -> Result<(Vec<Cidr>, End), HostError> {
    wait_until_running(netlink, &attachment.interface).await?;
    let interface = netlink.required(&attachment.interface).await?;
    let present = netlink.addresses(interface.index).await?;
    let mut added: Vec<Cidr> = Vec::new();
    for cidr in &attachment.addresses {
        let known = present.iter().chain(&added).any(|other| other.address() == cidr.address());
        if !known {
            added.push(*cidr);
        }
    }
    if let Some(patience) = attachment.probe {
        for cidr in &added {
            let IpAddr::V4(address) = cidr.address() else { continue };
            if let Some(holder) = probe::ask(&interface, address, patience)? {
                return Err(HostError::AddressInUse { address: address.into(), holder });
            }
        }
    }
    for cidr in &added {
        netlink.add_address(interface.index, *cidr).await?;
    }
    announce::by_kernel(netlink, &interface, &added).await;
    for route in &attachment.routes {
        netlink.add_route(interface.index, *route).await?;
    }
    if attachment.multicast_route {
        netlink.add_multicast_route(interface.index).await?;
    }
    Ok((added, interface.into()))
}

impl From<Interface> for End {
    fn from(interface: Interface) -> Self {
        Self { name: interface.name, mac: interface.mac }
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

async fn find_bridge(netlink: &Netlink, name: &str) -> Result<Interface, HostError> {
    let hint = ": start the router first (`weave launch`)";
    let found = netlink.find(name).await?;
    let found = found.ok_or_else(|| HostError::NoInterface { name: name.to_owned(), hint })?;
    if found.kind == "bridge" || found.kind == DATAPATH_KIND {
        Ok(found)
    } else {
        let kind = if found.kind.is_empty() { "a device".to_owned() } else { found.kind };
        Err(HostError::Inconsistent { name: name.to_owned(), found: format!("{kind}, no bridge") })
    }
}
