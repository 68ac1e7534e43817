//! The network under test, as it is applied to a cluster.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use weave_testbed::try_until;

use crate::SOON;
use crate::kubernetes::{kubectl, list, name, ready_nodes};

/// Applies the manifest, if there is one, and returns the names of the nodes when all are ready.
pub fn ready() -> Result<Vec<String>> {
    if let Some(manifest) = manifest() {
        kubectl(&format!("apply --server-side -f {manifest}"))?;
    }
    all_ready()
}

/// The names of all nodes, at least two, when they are ready.
pub fn all_ready() -> Result<Vec<String>> {
    try_until("nodes that are ready", SOON, || {
        let (mut all, ready) = (list("nodes")?, ready_nodes()?);
        ensure!(all.len() == ready.len(), "{ready:?} of {} are ready", all.len());
        ensure!(all.len() >= 2, "these tests need two nodes");
        all.sort_by_key(name);
        Ok(all.iter().map(name).collect())
    })
}

/// The file to be applied. A cluster of somebody else has its network already.
fn manifest() -> Option<String> {
    std::env::var("WEAVE_MANIFEST").ok()
}

#[test]
fn a_manifest_makes_nodes_ready() -> Result<()> {
    let before = ready_nodes()?;
    let start = Instant::now();
    let nodes = ready()?;
    println!("ready before: {before:?}; all of {nodes:?} {} ms later", start.elapsed().as_millis());
    Ok(())
}

#[test]
fn a_manifest_applied_again_changes_nothing() -> Result<()> {
    ready()?;
    let Some(manifest) = manifest() else { return Ok(()) };
    let daemon_set =
        || kubectl("-n kube-system get daemonset weave-net -o jsonpath={.metadata.generation}");
    let before = daemon_set().context("the DaemonSet")?;
    kubectl(&format!("apply --server-side -f {manifest}"))?;
    ensure!(daemon_set()? == before, "the DaemonSet has changed");
    Ok(())
}
