//! The ports of containers, which somebody, often a network manager, takes from the bridge, sets
//! down, or keeps from passing frames.

use std::collections::BTreeSet;

use weave_rtnl::{Client, Link};

use super::port::{is_orphan_of, is_stray_of};
use super::port_fault::{PortFault, faults, mend};
use crate::error::HostError;
use crate::lock::HostLock;
use crate::names::HOST_END;
use crate::namespace::run_here;

/// A port that is as it should be again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MendedPort {
    /// Its name.
    pub name: String,
    /// What was wrong.
    pub faults: Vec<PortFault>,
}

/// The ports of the containers on a bridge.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ports {
    /// Number and name of each interface.
    pub there: BTreeSet<(u32, String)>,
    /// Those that were mended.
    pub mended: Vec<MendedPort>,
    /// Those that somebody made ports of another bridge, which is left to him.
    pub strays: BTreeSet<String>,
}

/// Looks at the ports of the containers of a bridge, and mends them. There are none without a
/// bridge.
///
/// # Errors
/// If the kernel refuses.
pub fn mend_ports(bridge: &str) -> Result<Ports, HostError> {
    let (ports, damaged) = run_here(|netlink| look(netlink, bridge))?;
    if !damaged {
        return Ok(ports);
    }
    // One that is being made looks damaged: whoever makes it has the lock.
    let _lock = HostLock::acquire()?;
    run_here(|netlink| {
        let interfaces = netlink.links()?;
        let mut mended = Vec::new();
        if let Some(bridge) = interfaces.iter().find(|found| found.name == bridge) {
            for port in interfaces.iter().filter(|port| is_port_of(bridge, port)) {
                match mend(netlink, bridge, port) {
                    Ok(faults) if faults.is_empty() => {}
                    Ok(faults) => mended.push(MendedPort { name: port.name.clone(), faults }),
                    // It went with its container.
                    Err(_) if netlink.link_by_name(&port.name)?.is_none() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Ports { mended, ..ports })
    })
}

/// Returns the ports there are, and whether there is something to mend.
fn look(netlink: &mut Client, bridge: &str) -> Result<(Ports, bool), HostError> {
    let interfaces = netlink.links()?;
    let Some(bridge) = interfaces.iter().find(|found| found.name == bridge) else {
        return Ok((Ports::default(), false));
    };
    let ports = || interfaces.iter().filter(|port| is_port_of(bridge, port));
    let there = ports().map(|port| (port.index, port.name.clone())).collect();
    let damaged = ports().any(|port| !faults(bridge, port).is_empty());
    let is_stray = |port: &&Link| is_stray_of(&bridge.name, Some(bridge.index), port);
    let strays = interfaces.iter().filter(is_stray).map(|port| port.name.clone()).collect();
    Ok((Ports { there, strays, mended: Vec::new() }, damaged))
}

/// Returns whether it is the port of a container of this bridge that was attached by us or the
/// original.
fn is_port_of(bridge: &Link, port: &Link) -> bool {
    let ours = port.kind == "veth" && port.name.starts_with(HOST_END);
    ours && port.controller == Some(bridge.index) || is_orphan_of(&bridge.name, port)
}
