//! Who is on the bridge.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use weave_core::wire::MacAddress;

use crate::Cidr;
use crate::attach::HOST_END;
use crate::error::HostError;
use crate::namespace::{Namespace, run_here};
use crate::netlink::Interface;

/// A container with an interface on the bridge, whoever put it there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inhabitant {
    /// What tells it from others while it lives: [`Namespace::id`].
    pub id: String,
    /// Where its namespace was found: a name known to `ip netns`, or a process id.
    pub target: String,
    /// The Ethernet address of its interface.
    pub mac: MacAddress,
    /// The IPv4 addresses of that interface.
    pub addresses: Vec<Cidr>,
}

/// The containers on a bridge, by their ids. `proc` is where the process tree of the host is
/// mounted.
///
/// A namespace that neither a process is in nor `ip netns` has a name for is not found.
///
/// # Errors
/// If the kernel refuses.
pub fn inhabitants(bridge: &str, proc: &Path) -> Result<Vec<Inhabitant>, HostError> {
    let ports = run_here(async |netlink| {
        let interfaces = netlink.interfaces().await?;
        let index = interfaces.iter().find(|found| found.name == bridge).map(|found| found.index);
        let is_port = |end: &Interface| end.controller.is_some() && end.controller == index;
        Ok(interfaces.into_iter().filter(is_port).collect::<Vec<_>>())
    })?;
    // Without ports there is nothing to look for in hundreds of namespaces.
    if !ports.iter().any(|port| port.other_end.is_some()) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for target in targets(proc) {
        // Processes end while they are looked at.
        let Ok(namespace) = Namespace::find(&target, proc) else { continue };
        if !seen.insert(namespace.id()) {
            continue;
        }
        if let Ok(Some((mac, addresses))) = on_bridge(&namespace, &ports) {
            let id = namespace.id();
            found.push(Inhabitant { id, target: target.clone(), mac, addresses });
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// The ids of all containers with an interface of the usual name on a switch of this host: [`Namespace::id`].
/// It goes with its namespace, however that ends.
///
/// # Errors
/// If the kernel refuses.
pub fn plugged() -> Result<BTreeSet<String>, HostError> {
    run_here(async |netlink| {
        let interfaces = netlink.interfaces().await?;
        let ids = interfaces.iter().filter_map(|end| end.name.strip_prefix(HOST_END));
        Ok(ids.map(str::to_owned).collect())
    })
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
    namespace: &Namespace,
    ports: &[Interface],
) -> Result<Option<(MacAddress, Vec<Cidr>)>, HostError> {
    let inside = namespace.run(async |netlink| {
        let mut inside = Vec::new();
        for interface in netlink.interfaces().await? {
            if interface.kind == "veth" {
                let addresses = netlink.addresses(interface.index).await?;
                inside.push((interface, addresses));
            }
        }
        Ok(inside)
    })?;
    let number = run_here(async |netlink| netlink.namespace_number(namespace.as_fd()).await)?;
    let met = inside.into_iter().find(|(end, _)| {
        ports.iter().any(|port| {
            port.other_end == Some(end.index)
                && end.other_end == Some(port.index)
                && number.is_some()
                && port.other_namespace == number
        })
    });
    Ok(met.map(|(end, addresses)| {
        (end.mac, addresses.into_iter().filter(|cidr| cidr.address().is_ipv4()).collect())
    }))
}
