//! Pods.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;

use super::Metadata;
use crate::block::parse_address;
use crate::object::{self, NamedPort, PodNetwork, Protocol};

/// A pod.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Name and labels.
    pub metadata: Metadata,
    /// What it should be.
    pub spec: Spec,
    /// What it is.
    pub status: Status,
}

/// What a pod should be.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Its node.
    pub node_name: Option<String>,
    /// Whether it is in the network namespace of the node.
    pub host_network: Option<bool>,
    /// Its containers.
    pub containers: Option<Vec<Container>>,
    /// What runs before those; sidecars stay.
    pub init_containers: Option<Vec<Container>>,
}

/// A container.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<String>,
    /// Its ports.
    pub ports: Option<Vec<ContainerPort>>,
}

/// A port of a container.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its number.
    pub container_port: i64,
    /// Its protocol, by default TCP.
    pub protocol: Option<String>,
}

/// What a pod is.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Its phase.
    pub phase: Option<String>,
    /// Its first address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// All its addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<Address>>,
    /// The first address of its node.
    #[serde(rename = "hostIP")]
    pub host_ip: Option<String>,
    /// All addresses of its node.
    #[serde(rename = "hostIPs")]
    pub host_ips: Option<Vec<Address>>,
}

/// An address.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(default)]
pub struct Address {
    /// Its text.
    pub ip: String,
}

impl Pod {
    /// Reads it. What is no address, port or protocol cannot be on the wire, and is left out.
    pub fn read(self) -> object::Pod {
        let Self { metadata, spec, status } = self;
        let name = metadata.object_name();
        let network = match (status.phase.as_deref(), spec.host_network) {
            (Some("Succeeded" | "Failed"), _) => PodNetwork::Ended,
            (_, Some(true)) => PodNetwork::Host,
            _ => PodNetwork::Own,
        };
        let sidecars = spec.init_containers.unwrap_or_default().into_iter();
        let sidecars =
            sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let containers = spec.containers.unwrap_or_default().into_iter().chain(sidecars);
        let ports = containers.flat_map(|container| container.ports.unwrap_or_default());
        object::Pod {
            name,
            uid: metadata.uid.unwrap_or_default(),
            created: metadata.creation_timestamp.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            addresses: addresses(status.pod_ip, status.pod_ips),
            node: spec.node_name.filter(|name| !name.is_empty()),
            node_addresses: addresses(status.host_ip, status.host_ips),
            network,
            ports: ports.filter_map(ContainerPort::read).collect(),
        }
    }
}

fn addresses(first: Option<String>, all: Option<Vec<Address>>) -> BTreeSet<IpAddr> {
    let all = all.unwrap_or_default().into_iter().map(|address| address.ip);
    first.into_iter().chain(all).filter_map(|text| parse_address(&text)).collect()
}

impl ContainerPort {
    fn read(self) -> Option<NamedPort> {
        let name = self.name.filter(|name| !name.is_empty())?;
        let number = u16::try_from(self.container_port).ok()?;
        Some(NamedPort { protocol: protocol(self.protocol.as_deref())?, name, number })
    }
}

/// Reads a protocol; TCP if none is written.
pub(super) fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text {
        None | Some("TCP" | "") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}
