//! Nodes that lose power.

use anyhow::{Context, Result, ensure};
use weave_testbed::try_until;

use crate::space::{Space, web_pod};
use crate::{SOON, network};

#[test]
fn a_node_that_lost_power_comes_back_with_its_pods() -> Result<()> {
    let nodes = network::ready()?;
    let cluster = super::cluster()?;
    let space = Space::new()?;
    space.start(&[web_pod("stays", &nodes[0]), web_pod("returns", &nodes[1])])?;
    cluster.power_off(&nodes[1])?;
    cluster.power_on(&nodes[1])?;
    try_until("the pod of the node", SOON, || {
        let answer = space.http("stays", &space.address("returns")?, 8080, "/hostname");
        ensure!(answer.context("stays to returns")? == "returns");
        Ok(())
    })
}
