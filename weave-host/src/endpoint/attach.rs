//! Giving a container an interface on the switch (spec cni.md, section 5).

use std::thread;
use std::time::{Duration, Instant};

use weave_rtnl::{Client, Link, LinkChange};

use super::attachment::Attachment;
use super::configure::configure;
use super::end::End;
use super::pair::{PairNames, connect_host_end, create_pair_into, delete_named, find_bridge};
use super::veth_peer::{VethPeer, ends_on_bridge};
use crate::bridge::{PortNote, mend};
use crate::error::HostError;
use crate::links::{change, mac, required};
use crate::lock::HostLock;
use crate::namespace::Namespace;
use crate::sysctl;
use weave_core::Cidr;

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

/// A socket in each of the two namespaces that an interface is made in.
struct Sockets {
    host: Client,
    container: Client,
}

/// Attaches a container, or gives one that is attached further addresses, and mends what somebody
/// did to its port.
///
/// # Errors
/// If the bridge is not there, the interface the container has is of something else, or the
/// kernel refuses; a half-made interface is removed.
pub fn attach(container: &Namespace, attachment: &Attachment) -> Result<AttachChanges, HostError> {
    let _lock = HostLock::acquire()?;
    let sockets = &mut Sockets { host: Client::open()?, container: container.client()? };
    let bridge = find_bridge(&mut sockets.host, &attachment.bridge)?;
    let note = PortNote::text_for(&bridge.name, attachment.holder.as_deref())?;
    let Sockets { host, container: inside } = sockets;
    let (host_end, created) = match VethPeer::find(host, inside, container, &attachment.interface)?
    {
        Some(veth) => {
            let end = veth.of_bridge(container, &bridge)?;
            mend(host, &bridge, &end)?;
            adopt(host, container, attachment, &end, &note)?;
            (end.name, false)
        }
        None => (create_pair(sockets, container, &bridge, attachment, &note)?, true),
    };
    let result = bring_up(sockets, container, attachment, &bridge, &host_end);
    if created && result.is_err() {
        // The first error says more than one from here.
        let _ = delete_named(&mut sockets.host, &host_end);
    }
    let (added, host_end, container_end) = result?;
    Ok(AttachChanges { created, added, host_end, container_end })
}

/// Notes the holder on an interface that is there already. It belongs to the same holder, or its
/// holder is not known: those that an earlier version or the original made have no note yet.
fn adopt(
    host: &mut Client,
    container: &Namespace,
    attachment: &Attachment,
    host_end: &Link,
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
        None => change(host, host_end, LinkChange::Alias(note)),
    }
}

fn bring_up(
    sockets: &mut Sockets,
    container: &Namespace,
    attachment: &Attachment,
    bridge: &Link,
    host_end: &str,
) -> Result<(Vec<Cidr>, End, End), HostError> {
    let Sockets { host, container: inside } = sockets;
    let interface = required(inside, &attachment.interface)?;
    if let Some(wanted) = attachment.mac.filter(|wanted| *wanted != mac(&interface)) {
        change(inside, &interface, LinkChange::Mac(wanted.0))?;
    }
    change(inside, &interface, LinkChange::Up)?;
    // The bridge drops what comes from a port that is not running yet.
    wait_until_running(host, host_end)?;
    let host_end = End::of(required(host, host_end)?);
    let on_bridge = ends_on_bridge(host, container, bridge)?;
    wait_until_running(inside, &attachment.interface)?;
    let (added, container_end) = container.visit(|| {
        if on_bridge.len() > 1 {
            separate_arp(inside, &on_bridge)?;
        }
        configure(inside, attachment)
    })?;
    Ok((added, host_end, container_end))
}

/// Makes the pair of interfaces, with one end in the container: to move it there would cost much
/// more. Returns the name of the end on the bridge.
fn create_pair(
    sockets: &mut Sockets,
    container: &Namespace,
    bridge: &Link,
    attachment: &Attachment,
    note: &str,
) -> Result<String, HostError> {
    let Sockets { host, container: inside } = sockets;
    let interface = attachment.interface.as_str();
    let names = PairNames::of(&container.port_id(interface));
    remove_unfinished(host, inside, container, attachment, &names)?;
    let mtu = attachment.mtu.unwrap_or(bridge.mtu);
    let mut connect = || {
        create_pair_into(host, container, &names, mtu)?;
        connect_host_end(host, bridge, &names.host, note, attachment.hairpin)?;
        let guest = required(inside, &names.guest)?;
        container.visit(|| {
            sysctl::ignore_router_advertisements(&names.guest);
            sysctl::expire_neighbours_soon(&names.guest);
            sysctl::announce_ipv6(&names.guest);
            Ok(())
        })?;
        // Last, so that what has the name is complete.
        change(inside, &guest, LinkChange::Name(interface))
    };
    let connected = connect();
    if connected.is_err() {
        // Deleting one end deletes the other. The first error says more than one from here.
        let _ = delete_named(host, &names.host);
    }
    connected.map(|()| names.host)
}

/// Removes what an attempt left that was interrupted: its end in the container has not got its name
/// yet. One that was complete, and was renamed in the container since, is in use.
fn remove_unfinished(
    host: &mut Client,
    inside: &mut Client,
    container: &Namespace,
    attachment: &Attachment,
    names: &PairNames,
) -> Result<(), HostError> {
    let Some(found) = host.link_by_name(&names.host)? else { return Ok(()) };
    let guest = inside.link_by_name(&names.guest)?;
    let on_the_way = guest.is_some_and(|guest| guest.peer == Some(found.index));
    // An end that is still on the host was not even given to the container.
    if on_the_way || found.peer_namespace.is_none() {
        host.delete(&found)?;
        return Ok(());
    }
    Err(HostError::ForeignInterface {
        interface: attachment.interface.clone(),
        target: container.target().to_owned(),
        found: format!(
            "has another name in the container by now, and its other end {} is still there",
            names.host
        ),
    })
}

/// Several interfaces of one container on one switch are one host with two cables in one network.
/// Linux lets each of them answer ARP for the addresses of all, so that neighbours would find one
/// address now here and now there.
fn separate_arp(inside: &mut Client, indexes: &[u32]) -> Result<(), HostError> {
    for interface in inside.links()? {
        if indexes.contains(&interface.index) {
            sysctl::answer_for_own_addresses(&interface.name);
        }
    }
    Ok(())
}

/// Waits for the carrier of the pair: the kernel notices it a moment after both ends are up, and
/// drops frames until then. An interface that is not there needs no waiting.
fn wait_until_running(netlink: &mut Client, name: &str) -> Result<(), HostError> {
    const PATIENCE: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if netlink.link_by_name(name)?.is_none_or(|interface| interface.running) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    tracing::debug!(interface = name, "still not running");
    Ok(())
}
