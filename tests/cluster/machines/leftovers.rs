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
    let space = Space::new()?;
    let names = ["a", "b", "c", "d"];
    space.start(&names.map(|name| web_pod(name, &nodes[0])))?;
    expect(&space, &nodes[0], names.len())?;
    space.kubectl("delete pods --all --grace-period=0 --force")?;
    expect(&space, &nodes[0], 0)
}

/// Waits until so many pods of this test hold addresses of a node, and every port there belongs to
/// a pod that does. Pods of earlier tests may still go.
fn expect(space: &Space, node: &str, count: usize) -> Result<()> {
    try_until(&format!("{count} pods with addresses, and no other port"), SOON, || {
        let (ports, pods) = (ports(node)?, super::pods_with_addresses(node)?);
        let ours = pods.iter().filter(|pod| pod.starts_with(&format!("{}/", space.name()))).count();
        ensure!(ours == count && ports == pods.len(), "{ports} ports; addresses: {pods:?}");
        Ok(())
    })
}
