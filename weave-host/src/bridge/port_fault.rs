//! What can be wrong with the port of a container.

use std::fmt;

use weave_rtnl::{Client, Link, LinkChange, PortSettings};

use super::port::make_port;
use crate::error::HostError;
use crate::links::{PASS_ALL, change, is_filtered};
use crate::names::DATAPATH_KIND;

/// Why a container hears nothing, or not everything, of its switch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PortFault {
    /// Its port is on no bridge.
    OffBridge,
    /// Its port is down.
    Down,
    /// The bridge does not learn from its port, or does not flood to it.
    Filtered,
    /// The bridge passes nothing between its port and those that lead to other hosts.
    Isolated,
}

impl fmt::Display for PortFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OffBridge => "was taken from the bridge",
            Self::Down => "was set down",
            Self::Filtered => "was kept from learning or from flooded frames",
            Self::Isolated => "was isolated from the other hosts",
        })
    }
}

/// Returns what is wrong with a port.
pub(crate) fn faults(bridge: &Link, port: &Link) -> Vec<PortFault> {
    let interface_removed = port.controller != Some(bridge.index);
    let has_settings = bridge.kind != DATAPATH_KIND;
    let filtered = has_settings && is_filtered(port);
    let isolated = has_settings && port.port.isolated == Some(true);
    [
        (PortFault::OffBridge, interface_removed),
        (PortFault::Down, !port.up),
        (PortFault::Filtered, filtered),
        (PortFault::Isolated, isolated),
    ]
    .into_iter()
    .filter_map(|(fault, there)| there.then_some(fault))
    .collect()
}

/// Mends a port; returns what was wrong with it.
pub(crate) fn mend(
    netlink: &mut Client,
    bridge: &Link,
    port: &Link,
) -> Result<Vec<PortFault>, HostError> {
    let faults = faults(bridge, port);
    for fault in &faults {
        match fault {
            PortFault::OffBridge => make_port(netlink, bridge, port)?,
            PortFault::Down => change(netlink, port, LinkChange::Up)?,
            PortFault::Filtered => netlink.set_port(port, &PASS_ALL)?,
            PortFault::Isolated => {
                let settings = PortSettings { isolated: Some(false), ..PortSettings::default() };
                netlink.set_port(port, &settings)?;
            }
        }
    }
    Ok(faults)
}
