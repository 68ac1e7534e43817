//! Making the pair of interfaces that joins a container to the bridge.
//!
//! ```text
//!   attach        create_pair_into ──▶ the container's end is created in its namespace
//!   create_pair   both ends here   ──▶ the container's runtime moves one (Docker's libnetwork)
//!        └───────── connect_host_end: the port on the bridge, with its note
//! ```
//!
//! Offloads stay as they are: the original switched transmit checksums off where it captured in
//! user space, but our ports take unfinished ones, and frames that are still to be segmented.

use weave_core::wire::MacAddress;
use weave_rtnl::{Client, Link, LinkChange, PortSettings, VethEnd};

use super::end::End;
use crate::bridge::{PortNote, make_port};
use crate::error::HostError;
use crate::links::{change, required};
use crate::lock::HostLock;
use crate::names::{DATAPATH_KIND, GUEST_END, HOST_END, MOVABLE_END};
use crate::namespace::Namespace;
use crate::sysctl;

/// The names of both ends, until the one in the container is complete.
pub(super) struct PairNames {
    pub(super) host: String,
    pub(super) guest: String,
}

impl PairNames {
    pub(super) fn of(id: &str) -> Self {
        Self { host: format!("{HOST_END}{id}"), guest: format!("{GUEST_END}{id}") }
    }
}

/// A pair of interfaces for a container whose runtime moves one end into it, and configures it
/// there, by itself.
#[derive(Clone, Debug)]
pub struct VethPair<'a> {
    /// The bridge, mostly [`BRIDGE_NAME`](crate::BRIDGE_NAME).
    pub bridge: &'a str,
    /// Seven characters at most that no other container has; the end on the bridge is called after
    /// it.
    pub id: &'a str,
    /// Who holds the addresses, if that is to be noted on the port.
    pub holder: Option<&'a str>,
    /// The Ethernet address of the end for the container; any if none.
    pub mac: Option<MacAddress>,
    /// The largest packet, in bytes; that of the bridge if none.
    pub mtu: Option<u32>,
    /// Whether the port sends back what came from it.
    pub hairpin: bool,
}

/// Makes a pair of interfaces with both ends in this namespace, one on the bridge; returns that,
/// and the one to be moved.
///
/// # Errors
/// If the bridge is not there, there is such a pair already, or the kernel refuses; a half-made
/// pair is removed.
pub fn create_pair(pair: &VethPair<'_>) -> Result<(End, End), HostError> {
    let _lock = HostLock::acquire()?;
    let mut netlink = Client::open()?;
    let bridge = find_bridge(&mut netlink, pair.bridge)?;
    let note = PortNote::text_for(&bridge.name, pair.holder)?;
    let (host, movable) = (format!("{HOST_END}{}", pair.id), format!("{MOVABLE_END}{}", pair.id));
    let mtu = Some(pair.mtu.unwrap_or(bridge.mtu));
    let [end, other] = [&host, &movable].map(|name| VethEnd { mtu, ..VethEnd::named(name) });
    netlink.create_veth(&end, &other)?;
    let mut connect = || {
        connect_host_end(&mut netlink, &bridge, &host, &note, pair.hairpin)?;
        if let Some(mac) = pair.mac {
            let found = required(&mut netlink, &movable)?;
            change(&mut netlink, &found, LinkChange::Mac(mac.0))?;
        }
        let [host, movable] = [&host, &movable].map(|name| required(&mut netlink, name));
        Ok((End::of(host?), End::of(movable?)))
    };
    let connected = connect();
    if connected.is_err() {
        // The first error says more than one from here.
        let _ = delete_named(&mut netlink, &host);
    }
    connected
}

pub(super) fn create_pair_into(
    netlink: &mut Client,
    container: &Namespace,
    names: &PairNames,
    mtu: u32,
) -> Result<(), HostError> {
    let host = VethEnd { mtu: Some(mtu), ..VethEnd::named(&names.host) };
    let guest = VethEnd { name: &names.guest, mtu: Some(mtu), namespace: Some(container) };
    Ok(netlink.create_veth(&host, &guest)?)
}

pub(super) fn connect_host_end(
    netlink: &mut Client,
    bridge: &Link,
    host_end: &str,
    note: &str,
    hairpin: bool,
) -> Result<(), HostError> {
    let host = required(netlink, host_end)?;
    // Two bridges may lose their containers, and each has to find its own again.
    change(netlink, &host, LinkChange::Alias(note))?;
    make_port(netlink, bridge, &host)?;
    // A datapath never sends a frame back.
    if hairpin && bridge.kind != DATAPATH_KIND {
        netlink
            .set_port(&host, &PortSettings { hairpin: Some(true), ..PortSettings::default() })?;
    }
    sysctl::ignore_router_advertisements(host_end);
    change(netlink, &host, LinkChange::Up)
}

pub(super) fn find_bridge(netlink: &mut Client, name: &str) -> Result<Link, HostError> {
    let hint = ": start the router first (`weave launch`)";
    let found = netlink.link_by_name(name)?;
    let found = found.ok_or_else(|| HostError::NoInterface { name: name.to_owned(), hint })?;
    if found.kind == "bridge" || found.kind == DATAPATH_KIND {
        Ok(found)
    } else {
        let kind = if found.kind.is_empty() { "a device".to_owned() } else { found.kind };
        Err(HostError::Inconsistent { name: name.to_owned(), found: format!("{kind}, no bridge") })
    }
}

/// Deletes the interface of this name; none is fine.
pub(super) fn delete_named(netlink: &mut Client, name: &str) -> Result<(), HostError> {
    if let Some(found) = netlink.link_by_name(name)? {
        netlink.delete(&found)?;
    }
    Ok(())
}
