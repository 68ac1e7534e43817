//! What deleted pods leave on nodes: nothing.

use anyhow::{Result, ensure};
use weave_testbed::try_until;

use crate::space::{Space, web_pod};
use crate::{SOON, network};

/// Ports of pods on the bridge of a node.
fn ports(node: &str) -> Result<usize> {
    let script = "ls /sys/class/net/weave/brif | grep -c ^vethwepl || true";
    Ok(super::cluster()?.node(node)?.shell(script)?.trim().parse()?)
}

#[test]
fn deleted_pods_leave_no_interface_and_no_address() -> Result<()> {
    let nodes = network::ready()?;
    let before = (ports(&nodes[0])?, super::addresses_held(&nodes[0])?);
    let space = Space::new()?;
    let names = ["a", "b", "c", "d"];
    space.start(&names.map(|name| web_pod(name, &nodes[0])))?;
    let with_pods = (ports(&nodes[0])?, super::addresses_held(&nodes[0])?);
    ensure!(with_pods == (before.0 + 4, before.1 + 4), "{before:?}, then {with_pods:?}");
    space.kubectl("delete pods --all --grace-period=0 --force")?;
    try_until("what it was before", SOON, || {
        let now = (ports(&nodes[0])?, super::addresses_held(&nodes[0])?);
        ensure!(now == before, "{now:?}, and {before:?} before");
        Ok(())
    })
}
