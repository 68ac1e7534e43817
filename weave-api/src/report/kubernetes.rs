//! The section of a router that is the pod network of a Kubernetes node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a router knows of its cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct KubernetesStatus {
    /// The name of this node.
    pub node: String,
    /// Whether the API server answers.
    pub reachable: bool,
    /// Since when that is so, in seconds since 1970; 0 if it was not asked yet.
    pub since: u64,
    /// What it did not do last; empty if it never failed.
    pub last_error: String,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Peers whose addresses this router took over since it started.
    pub reclaimed_peers: u64,
    /// How many addresses those were.
    pub reclaimed_addresses: u64,
    /// Peers that are being reclaimed, and by whom.
    pub locks: BTreeMap<String, String>,
}
