//! Tests that need the machines of the cluster: nodes are added, ended and asked, and there is a
//! host outside. They run on a cluster of [`weave_testbed::cluster`] alone.

mod api;
mod leftovers;
mod membership;
mod outside;
mod proxy;
mod reboot;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use weave_testbed::cluster::{Cluster, Node};

/// The cluster that this process runs beside.
fn cluster() -> Result<Cluster> {
    let name = std::env::var("WEAVE_CLUSTER");
    Cluster::open(&name.context("not beside a cluster of this machine: cargo xtask cluster test")?)
}

/// Puts the image under test on a node, as the command has done for those it started.
fn import_product(node: &Node<'_>) -> Result<()> {
    match std::env::var("WEAVE_IMAGE_ARCHIVE") {
        Ok(archive) => node.import_image(Path::new(&archive)),
        Err(_) => Ok(()),
    }
}

/// What the router of a node reports of the allocation of addresses.
fn ipam(node: &str) -> Result<Value> {
    let text = cluster()?.node(node)?.run("curl -s http://127.0.0.1:6784/report")?;
    let mut report: Value = serde_json::from_str(&text).context("the report")?;
    Ok(report["IPAM"].take())
}

/// How many peers own a range of addresses, as the router of this node knows.
fn ring_members(node: &str) -> Result<usize> {
    let ipam = ipam(node)?;
    let entries = ipam["Entries"].as_array().context("no ring")?;
    Ok(entries.iter().map(|entry| entry["Peer"].to_string()).collect::<BTreeSet<_>>().len())
}

/// The pods that hold addresses on this node, as `NAMESPACE/NAME`.
fn pods_with_addresses(node: &str) -> Result<Vec<String>> {
    let ipam = ipam(node)?;
    let holders = ipam["Holders"].as_array().context("no holders of addresses")?;
    // The host itself holds one, too, under a name that is no pod's.
    Ok(holders.iter().filter_map(|holder| holder["Label"].as_str()).map(str::to_owned).collect())
}
