//! The ends of a connection, as users write them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::CommandError;
use crate::block::Family;
use crate::cluster::Cluster;
use crate::object::{ObjectName, Protocol};
use crate::verdict::Traffic;

/// An end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// A pod.
    Pod(ObjectName),
    /// An address, of a pod or anything else.
    Address(IpAddr),
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        pod_name(text).map(Self::Pod)
    }
}

/// Reads NAMESPACE/NAME.
pub(super) fn pod_name(text: &str) -> Result<ObjectName, String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(ObjectName::new(namespace, name))
        }
        _ => Err("neither NAMESPACE/NAME of a pod nor an address".to_owned()),
    }
}

impl End {
    /// Returns its address of a family, if it has one.
    pub(super) fn address(
        &self,
        cluster: &Cluster,
        family: Family,
    ) -> Result<Option<IpAddr>, CommandError> {
        match self {
            Self::Address(address) => Ok(Some(*address).filter(|own| Family::of(*own) == family)),
            Self::Pod(name) => {
                let pod = cluster.pod(name);
                let pod =
                    pod.ok_or_else(|| CommandError::Failed(format!("there is no pod {name}")))?;
                // Those of a pod in the network of its node are the node's.
                let own = pod.addresses.iter().copied();
                Ok(own.filter(|own| Family::of(*own) == family).min())
            }
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Reads PORT/PROTOCOL, e.g. `80/TCP`, or `icmp`.
pub(super) fn traffic(text: &str) -> Result<Traffic, String> {
    let wrong = || "not PORT/PROTOCOL, like 80/TCP, 53/UDP, 3868/SCTP, or icmp".to_owned();
    if text.eq_ignore_ascii_case("icmp") {
        return Ok(Traffic::Portless);
    }
    let (port, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let same = |one: &Protocol| one.to_string().eq_ignore_ascii_case(protocol);
    let protocol = Protocol::ALL.into_iter().find(same).ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    Ok(Traffic::Port(protocol, port))
}
