//! What a set stands for, and what is in it now.

use std::net::IpAddr;

use super::digest::digest;
use super::ruleset::AddressSet;
use crate::block::{AddressRange, Family};
use crate::cluster::Cluster;
use crate::object::{Pod, PodPeer, Protocol};

/// What a set stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Definition<'a> {
    /// The addresses of pods, each kind with the namespace that it is relative to.
    Pods(Family, Vec<(&'a PodPeer, &'a str)>),
    /// Addresses.
    Networks(Vec<AddressRange>),
    /// Ports of pods.
    Named(Family, NamedPorts<'a>),
}

/// Ports of pods that have one of these names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct NamedPorts<'a> {
    /// The pods of this node, or of all.
    node: Option<&'a str>,
    /// Such pods, or all.
    pods: Option<Vec<(&'a PodPeer, &'a str)>>,
    names: Vec<(Protocol, &'a str)>,
}

impl<'a> NamedPorts<'a> {
    pub(super) fn of(
        node: Option<&'a str>,
        pods: Option<Vec<(&'a PodPeer, &'a str)>>,
        names: &[(Protocol, &'a str)],
    ) -> Self {
        Self { node, pods, names: names.to_vec() }
    }
}

impl Definition<'_> {
    /// Returns its name: the same for the same definition.
    pub(super) fn name(&self) -> String {
        let kind = match self {
            Self::Pods(Family::V4, _) => "pods4",
            Self::Pods(Family::V6, _) => "pods6",
            Self::Networks(_) => "nets",
            Self::Named(Family::V4, _) => "ports4",
            Self::Named(Family::V6, _) => "ports6",
        };
        format!("{kind}-{}", digest(self))
    }

    /// Returns what is in it.
    pub(super) fn members(&self, cluster: &Cluster) -> AddressSet {
        let of_family = |family: Family| {
            cluster.owners().filter(move |(address, _)| Family::of(*address) == family)
        };
        match self {
            Self::Pods(family, peers) => {
                let meant = of_family(*family).filter(|(_, pod)| means(cluster, peers, pod));
                AddressSet::Addresses(*family, meant.map(|(address, _)| address).collect())
            }
            Self::Networks(ranges) => AddressSet::Ranges(ranges.clone()),
            Self::Named(family, NamedPorts { node, pods, names }) => {
                let meant = of_family(*family).filter(|(_, pod)| {
                    node.is_none_or(|node| pod.node.as_deref() == Some(node))
                        && pods.as_ref().is_none_or(|peers| means(cluster, peers, pod))
                });
                let ports = meant.flat_map(|(address, pod)| ports(address, pod, names));
                AddressSet::Ports(*family, ports.collect())
            }
        }
    }
}

fn means(cluster: &Cluster, peers: &[(&PodPeer, &str)], pod: &Pod) -> bool {
    peers.iter().any(|(peer, home)| cluster.means(peer, home, pod))
}

fn ports<'a>(
    address: IpAddr,
    pod: &'a Pod,
    names: &'a [(Protocol, &str)],
) -> impl Iterator<Item = (IpAddr, Protocol, u16)> + 'a {
    let named = pod.ports.iter().filter(|port| names.contains(&(port.protocol, &port.name)));
    named.map(move |port| (address, port.protocol, port.number))
}
