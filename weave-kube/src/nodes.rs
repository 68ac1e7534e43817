//! The nodes of the cluster, as far as the API server has told.
//!
//! Of each Node object little is kept: its name, the address by which its router is reached, and one
//! condition. A change of anything else changes nothing here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

/// Nodes that are kept. Kubernetes supports clusters of 5000; a mesh has at most 4096 peers.
pub(crate) const MAX_NODES: usize = 10_000;

/// What is kept of a Node object.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Node {
    /// Where its router is reached.
    pub(crate) address: Option<IpAddr>,
    /// The status of its condition `NetworkUnavailable`, if it has one.
    pub(crate) network_unavailable: Option<bool>,
}

/// A Node object as the API server sends it, without what nobody here asks for.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NodeObject {
    pub(crate) metadata: Metadata,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) resource_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Option<Vec<Address>>,
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    r#type: String,
    address: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl NodeObject {
    /// What is kept of it.
    pub(crate) fn node(&self) -> Node {
        let status = self.status.clone().unwrap_or_default();
        let addresses = status.addresses.unwrap_or_default();
        let of = |kind: &str, is_wanted: fn(&IpAddr) -> bool| {
            let addresses = addresses.iter().filter(|address| address.r#type == kind);
            let parsed = addresses.filter_map(|address| address.address.parse::<IpAddr>().ok());
            // Of several the last one, as Weave Net takes it.
            parsed.rev().find(is_wanted)
        };
        let condition = |condition: &Condition| {
            (condition.r#type == NETWORK_UNAVAILABLE).then(|| condition.status == "True")
        };
        Node {
            address: of("InternalIP", IpAddr::is_ipv4)
                .or_else(|| of("ExternalIP", IpAddr::is_ipv4))
                .or_else(|| of("InternalIP", IpAddr::is_ipv6))
                .or_else(|| of("ExternalIP", IpAddr::is_ipv6)),
            network_unavailable: status.conditions.unwrap_or_default().iter().find_map(condition),
        }
    }
}

/// The condition of a node whose pods have no network yet.
pub(crate) const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

/// The nodes at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Nodes {
    nodes: BTreeMap<String, Node>,
    /// Whether these are all there were at some moment, not a part of them.
    is_complete: bool,
}

impl Nodes {
    /// What the API server listed as all nodes.
    pub(crate) fn all(objects: impl IntoIterator<Item = NodeObject>) -> Self {
        let nodes = objects.into_iter().take(MAX_NODES);
        let nodes = nodes.map(|object| (object.metadata.name.clone(), object.node())).collect();
        Self { nodes, is_complete: true }
    }

    /// A node is new, or another. Returns whether that is news.
    pub(crate) fn set(&mut self, object: &NodeObject) -> bool {
        let name = &object.metadata.name;
        if name.is_empty() || self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(name) {
            return false;
        }
        let node = object.node();
        self.nodes.insert(name.clone(), node.clone()) != Some(node)
    }

    /// A node is gone. Returns whether it was there.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.nodes.remove(name).is_some()
    }

    /// Whether all nodes are known: at least ours is among those that were listed. A list without
    /// it is not to be trusted with what others lose by it.
    pub(crate) fn are_all(&self, own: &str) -> bool {
        self.is_complete && self.nodes.contains_key(own)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Where the routers of the other nodes are. A node is ours by its name alone: an address that
    /// several nodes share says nothing.
    pub(crate) fn peers(&self, own: &str) -> Vec<String> {
        let others = self.nodes.iter().filter(|(name, _)| *name != own);
        let mut peers: Vec<_> = others
            .filter_map(|(_, node)| node.address)
            .map(|address| match address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            })
            .collect();
        peers.sort();
        peers.dedup();
        peers
    }

    /// Nodes that have no address at all.
    pub(crate) fn without_address(&self) -> Vec<&str> {
        let nodes = self.nodes.iter().filter(|(_, node)| node.address.is_none());
        nodes.map(|(name, _)| name.as_str()).collect()
    }

    /// Nodes with the address of another one.
    pub(crate) fn sharing(&self) -> Vec<(IpAddr, Vec<&str>)> {
        let mut by_address: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
        for (name, node) in &self.nodes {
            if let Some(address) = node.address {
                by_address.entry(address).or_default().push(name);
            }
        }
        by_address.into_iter().filter(|(_, names)| names.len() > 1).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A Node object with addresses as `InternalIP=192.0.2.1`.
    pub(crate) fn object(name: &str, addresses: &[&str]) -> NodeObject {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|text| text.split_once('=').unwrap())
            .map(|(kind, address)| serde_json::json!({"type": kind, "address": address}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "resourceVersion": "1", "labels": {"a": "b"}},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"addresses": addresses, "images": [{"names": ["x"]}]},
        }))
        .unwrap()
    }

    fn address(addresses: &[&str]) -> Option<String> {
        object("n", addresses).node().address.map(|address| address.to_string())
    }

    #[test]
    fn the_address_of_a_node() {
        for (addresses, expected) in [
            (&["Hostname=n", "InternalIP=192.0.2.1"][..], Some("192.0.2.1")),
            (&["InternalIP=192.0.2.1", "InternalIP=192.0.2.2"], Some("192.0.2.2")),
            (&["ExternalIP=198.51.100.1"], Some("198.51.100.1")),
            (&["ExternalIP=198.51.100.1", "InternalIP=192.0.2.1"], Some("192.0.2.1")),
            (&["InternalIP=fd00::1", "InternalIP=192.0.2.1"], Some("192.0.2.1")),
            (&["InternalIP=fd00::1", "ExternalIP=192.0.2.1"], Some("192.0.2.1")),
            (&["InternalIP=fd00::1"], Some("fd00::1")),
            (&["ExternalIP=fd00::1"], Some("fd00::1")),
            (&["Hostname=192.0.2.1", "InternalIP=nonsense"], None),
            (&[], None),
        ] {
            assert_eq!(address(addresses).as_deref(), expected, "{addresses:?}");
        }
    }

    #[test]
    fn absent_and_null_fields_are_nothing() {
        for text in [
            r#"{"metadata": {"name": "n"}}"#,
            r#"{"metadata": {"name": "n"}, "status": null}"#,
            r#"{"metadata": {"name": "n"}, "status": {"addresses": null, "conditions": null}}"#,
        ] {
            let object: NodeObject = serde_json::from_str(text).unwrap();
            assert_eq!(object.node(), Node::default());
        }
    }

    #[test]
    fn nodes_come_change_and_go() {
        let mut nodes = Nodes::all([
            object("a", &["InternalIP=192.0.2.1"]),
            object("b", &["InternalIP=192.0.2.2"]),
        ]);
        assert_eq!(nodes.peers("a"), ["192.0.2.2"]);
        assert!(!nodes.set(&object("b", &["Hostname=b", "InternalIP=192.0.2.2"])));
        assert!(nodes.set(&object("b", &["InternalIP=192.0.2.9"])));
        assert!(nodes.set(&object("c", &["InternalIP=fd00::3"])));
        assert_eq!(nodes.peers("a"), ["192.0.2.9", "[fd00::3]"]);
        assert!(nodes.remove("b") && !nodes.remove("b"));
        assert_eq!(nodes.peers("a"), ["[fd00::3]"]);
    }

    #[test]
    fn a_shared_address_makes_no_node_ours() {
        let shared = ["InternalIP=192.0.2.100"];
        let nodes = Nodes::all([
            object("a", &shared),
            object("b", &shared),
            object("c", &["InternalIP=192.0.2.3"]),
        ]);
        assert_eq!(nodes.peers("a"), ["192.0.2.100", "192.0.2.3"]);
        let address: IpAddr = "192.0.2.100".parse().unwrap();
        assert_eq!(nodes.sharing(), [(address, vec!["a", "b"])]);
    }

    #[test]
    fn a_list_without_our_own_node_is_not_all() {
        let nodes = Nodes::all([object("b", &[])]);
        assert!(!nodes.are_all("a") && nodes.are_all("b"));
        assert!(!Nodes::default().are_all("a"));
        assert_eq!(nodes.without_address(), ["b"]);
    }

    #[test]
    fn the_condition() {
        let text = r#"{"metadata": {"name": "n"}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": "STATUS"}
        ]}}"#;
        for (status, expected) in [("True", true), ("False", false), ("Unknown", false)] {
            let object: NodeObject = serde_json::from_str(&text.replace("STATUS", status)).unwrap();
            assert_eq!(object.node().network_unavailable, Some(expected));
        }
    }

    #[test]
    fn the_number_of_nodes_is_bounded() {
        let many = (0..=MAX_NODES).map(|number| object(&format!("n{number:05}"), &[]));
        let mut nodes = Nodes::all(many);
        assert_eq!(nodes.len(), MAX_NODES);
        assert!(!nodes.set(&object("one-more", &[])) && !nodes.set(&object("", &[])));
        assert_eq!(nodes.len(), MAX_NODES);
    }
}
