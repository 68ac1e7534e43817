//! Who is on the bridge.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use weave_core::wire::MacAddress;
use weave_rtnl::{Client, Link};

use crate::bridge::{PortFault, PortNote, faults, is_orphan_of, is_stray_of};
use crate::error::HostError;
use crate::links::{addresses, mac};
use crate::names::HOST_END;
use crate::namespace::{Namespace, run_here};
use weave_core::Cidr;

/// An interface of a container on the bridge, whoever put it there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// What tells it from others while it lives, as in [`attached_ids`]: the holder that is noted
    /// on its port; else [`Namespace::id`], if its name is the usual one.
    pub id: String,
    /// Who holds its addresses, if that is noted on its port.
    pub holder: Option<String>,
    /// [`Namespace::id`] of the namespace it is in.
    pub namespace: String,
    /// Where its namespace was found: a name known to `ip netns`, or a process id.
    pub target: String,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its IPv4 addresses.
    pub addresses: Vec<Cidr>,
    /// Its port on the bridge.
    pub port: String,
    /// What is wrong with that.
    pub faults: Vec<PortFault>,
}

/// Returns the interfaces of containers on a bridge, or that somebody took from it, by their ids.
/// `proc` is where the process tree of the host is mounted.
///
/// A namespace that neither a process is in nor `ip netns` has a name for is not found;
/// [`addresses_behind_ports`](super::addresses_behind_ports) finds what is in use there.
///
/// # Errors
/// If the kernel refuses.
pub fn endpoints(bridge: &str, proc: &Path) -> Result<Vec<Endpoint>, HostError> {
    let host = &mut Client::open()?;
    let (found, ports) = ports(host, bridge)?;
    // Without ports there is nothing to look for in hundreds of namespaces.
    if !ports.iter().any(|port| port.peer.is_some()) {
        return Ok(Vec::new());
    }
    let faults_of = |port: &Link| match &found {
        Some(bridge) => faults(bridge, port),
        None => vec![PortFault::OffBridge],
    };
    let mut endpoints = Vec::new();
    let mut seen = BTreeSet::new();
    for target in targets(proc) {
        // Processes end while they are looked at.
        let Ok(namespace) = Namespace::find(&target, proc) else { continue };
        if !seen.insert(namespace.id()) {
            continue;
        }
        if let Ok(some) = on_bridge(host, &target, &namespace, &ports, &faults_of) {
            endpoints.extend(some);
        }
    }
    endpoints.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(endpoints)
}

/// Returns a bridge, if it is there, and its ports, with those that somebody took from it.
pub(super) fn ports(
    host: &mut Client,
    bridge: &str,
) -> Result<(Option<Link>, Vec<Link>), HostError> {
    let interfaces = host.links()?;
    let found = interfaces.iter().find(|found| found.name == bridge).cloned();
    let index = found.as_ref().map(|found| found.index);
    let is_port = |end: &Link| {
        end.controller.is_some() && end.controller == index
            || is_orphan_of(bridge, end)
            || is_stray_of(bridge, index, end)
    };
    Ok((found, interfaces.into_iter().filter(is_port).collect()))
}

/// Returns the ids of all interfaces that containers may have on a switch of this host: the notes
/// on the ends on the host, and their names. These go with the namespace of the container, however
/// that ends, and stay as long as anything keeps it: a process, a bind mount, an open file, in
/// whatever user namespace.
///
/// # Errors
/// If the kernel refuses.
pub fn attached_ids() -> Result<BTreeSet<String>, HostError> {
    run_here(|netlink| {
        let interfaces = netlink.links()?;
        let ends = interfaces.iter().filter(|end| end.kind == "veth");
        Ok(ends.flat_map(|end| [id(end), id_by_name(end)]).collect())
    })
}

pub(super) fn id(host_end: &Link) -> String {
    PortNote::of(host_end).holder.map_or_else(|| id_by_name(host_end), str::to_owned)
}

/// Of the original's containers it is the beginning of the name; of what somebody attached by hand,
/// all of the name of the end on the host.
fn id_by_name(host_end: &Link) -> String {
    host_end.name.strip_prefix(HOST_END).unwrap_or(&host_end.name).to_owned()
}

/// Names before process ids: they say more.
fn targets(proc: &Path) -> Vec<String> {
    let list = |directory: PathBuf| -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let mut names = list(PathBuf::from("/run/netns"));
    // Whatever is all digits counts as a process id.
    names.retain(|name| !name.bytes().all(|byte| byte.is_ascii_digit()));
    names.sort_unstable();
    let mut processes: Vec<u32> =
        list(proc.to_owned()).iter().filter_map(|name| name.parse().ok()).collect();
    processes.sort_unstable();
    names.into_iter().chain(processes.iter().map(ToString::to_string)).collect()
}

fn on_bridge(
    host: &mut Client,
    target: &str,
    namespace: &Namespace,
    ports: &[Link],
    faults: &impl Fn(&Link) -> Vec<PortFault>,
) -> Result<Vec<Endpoint>, HostError> {
    let netlink = &mut namespace.client()?;
    let mut inside = Vec::new();
    for interface in netlink.links()? {
        if interface.kind == "veth" {
            let addresses = addresses(netlink, interface.index)?;
            inside.push((interface, addresses));
        }
    }
    let number = host.namespace_id(namespace)?;
    let endpoint = |(end, mut addresses): (Link, Vec<Cidr>)| {
        let port = ports.iter().find(|port| {
            port.peer == Some(end.index)
                && end.peer == Some(port.index)
                && number.is_some()
                && port.peer_namespace == number
        })?;
        addresses.retain(|cidr| cidr.address().is_ipv4());
        Some(Endpoint {
            id: id(port),
            holder: PortNote::of(port).holder.map(str::to_owned),
            namespace: namespace.id(),
            target: target.to_owned(),
            mac: mac(&end),
            addresses,
            port: port.name.clone(),
            faults: faults(port),
        })
    };
    Ok(inside.into_iter().filter_map(endpoint).collect())
}
