//! What a set stands for, and what is in it now.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

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

    /// Returns those of a pod that has such names, at one of its addresses.
    fn ports(&self, address: IpAddr, pod: &Pod) -> impl Iterator<Item = (IpAddr, Protocol, u16)> {
        let named = pod.ports.iter();
        let named = named.filter(|port| self.names.contains(&(port.protocol, &port.name)));
        named.map(move |port| (address, port.protocol, port.number))
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
        match self {
            Self::Pods(family, _) => {
                let owners = cluster.owners().filter(|(own, pod)| self.has(cluster, *own, pod));
                AddressSet::Addresses(*family, owners.map(|(own, _)| own).collect())
            }
            Self::Networks(ranges) => AddressSet::Ranges(ranges.clone()),
            Self::Named(family, named) => {
                let owners = cluster.owners().filter(|(own, pod)| self.has(cluster, *own, pod));
                let ports = owners.flat_map(|(own, pod)| named.ports(own, pod));
                AddressSet::Ports(*family, ports.collect())
            }
        }
    }

    /// Makes what was in it once what is in it now, if no other addresses than these are concerned.
    pub(super) fn update(
        &self,
        set: &mut Arc<AddressSet>,
        cluster: &Cluster,
        touched: &BTreeSet<IpAddr>,
    ) {
        for &address in touched {
            let pod = cluster.owner(address).filter(|pod| self.has(cluster, address, pod));
            match (self, &**set) {
                (Self::Pods(..), AddressSet::Addresses(_, present)) => {
                    if present.contains(&address) != pod.is_some()
                        && let AddressSet::Addresses(_, present) = Arc::make_mut(set)
                        && !present.remove(&address)
                    {
                        present.insert(address);
                    }
                }
                (Self::Named(_, named), AddressSet::Ports(_, present)) => {
                    let range = (address, Protocol::Tcp, 0)..=(address, Protocol::Sctp, u16::MAX);
                    let before: BTreeSet<_> = present.range(range).copied().collect();
                    let after: BTreeSet<_> =
                        pod.into_iter().flat_map(|pod| named.ports(address, pod)).collect();
                    if before != after
                        && let AddressSet::Ports(_, present) = Arc::make_mut(set)
                    {
                        before.iter().for_each(|port| _ = present.remove(port));
                        present.extend(after);
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns whether an address of a pod belongs to it.
    fn has(&self, cluster: &Cluster, address: IpAddr, pod: &Pod) -> bool {
        match self {
            Self::Pods(family, peers) => {
                Family::of(address) == *family && means(cluster, peers, pod)
            }
            Self::Networks(_) => false,
            Self::Named(family, NamedPorts { node, pods, .. }) => {
                Family::of(address) == *family
                    && node.is_none_or(|node| pod.node.as_deref() == Some(node))
                    && pods.as_ref().is_none_or(|peers| means(cluster, peers, pod))
            }
        }
    }
}

fn means(cluster: &Cluster, peers: &[(&PodPeer, &str)], pod: &Pod) -> bool {
    peers.iter().any(|(peer, home)| cluster.means(peer, home, pod))
}
