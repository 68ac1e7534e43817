//! Nodes that come and go.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use weave_testbed::try_until;

use crate::kubernetes::{kubectl, ready_nodes};
use crate::space::{Space, web_pod};
use crate::{SOON, network};

/// A node that no cluster starts with.
const LATE: u8 = 9;

#[test]
fn a_node_added_later_is_a_member_and_a_deleted_one_leaves_nothing() -> Result<()> {
    let nodes = network::ready()?;
    let cluster = super::cluster()?;
    let late = format!("n{LATE}");
    let known = super::ring_members(&nodes[0])?;
    cluster.add_node(LATE)?;
    super::import_product(&cluster.node(&late)?)?;
    let ready = || -> Result<()> {
        ensure!(ready_nodes()?.contains(&late), "not ready yet");
        Ok(())
    };
    let imported = Instant::now();
    try_until("the node to be ready", SOON, ready)?;
    println!("ready {} ms after its image was there", imported.elapsed().as_millis());
    let space = Space::new()?;
    space.start(&[web_pod("old", &nodes[0]), web_pod("new", &late)])?;
    for (from, to) in [("old", "new"), ("new", "old")] {
        let answer = space.http(from, &space.address(to)?, 8080, "/hostname");
        ensure!(answer.with_context(|| format!("{from} to {to}"))? == to);
    }
    drop(space);
    ensure!(super::ring_members(&nodes[0])? > known, "{late} owns no addresses");

    // Its machine is gone for good, and the administrator says so.
    cluster.remove_node(&late)?;
    kubectl(&format!("delete node {late}"))?;
    try_until("its addresses with the others", SOON, || {
        let members = super::ring_members(&nodes[0])?;
        ensure!(members == known, "{members} members own addresses, not {known}");
        Ok(())
    })
}
