//! Pods among themselves and with nodes.
//!
//! ```text
//!  a, b on the first node ---- network ---- c on the second node
//! ```

use anyhow::{Context, Result, ensure};

use crate::network;
use crate::space::{Space, shell_pod, web_pod};

/// What `/clientip` answers is `ADDRESS:PORT`.
fn host_of(text: &str) -> &str {
    text.rsplit_once(':').map_or(text, |(host, _)| host)
}

#[test]
fn pods_reach_each_other_by_their_own_addresses() -> Result<()> {
    let nodes = network::ready()?;
    let space = Space::new()?;
    let pods = [("a", &nodes[0]), ("b", &nodes[0]), ("c", &nodes[1])];
    space.start(&pods.map(|(name, node)| web_pod(name, node)))?;
    let addresses = pods.map(|(name, _)| space.address(name));
    let [a, b, c] = addresses;
    let addresses = [("a", a?), ("b", b?), ("c", c?)];
    for (from, own) in &addresses {
        for (to, address) in addresses.iter().filter(|(to, _)| to != from) {
            let seen = space.http(from, address, 8080, "/clientip")?;
            ensure!(host_of(&seen) == own, "{to} sees {seen} instead of {from}, {own}");
            ensure!(&space.http(from, address, 8080, "/hostname")? == to, "{to} did not answer");
        }
    }
    Ok(())
}

#[test]
fn a_pod_reaches_itself() -> Result<()> {
    let nodes = network::ready()?;
    let space = Space::new()?;
    space.start(&[web_pod("a", &nodes[0])])?;
    let address = space.address("a")?;
    ensure!(space.http("a", &address, 8080, "/hostname")? == "a");
    Ok(())
}

#[test]
fn a_node_reaches_the_pods_of_every_node() -> Result<()> {
    let nodes = network::ready()?;
    let space = Space::new()?;
    // With the network of its node, a pod is a program of the node.
    let mut on_host = shell_pod("host", &nodes[0], "sleep 3600");
    on_host["spec"]["hostNetwork"] = true.into();
    space.start(&[on_host, web_pod("near", &nodes[0]), web_pod("far", &nodes[1])])?;
    for name in ["near", "far"] {
        let address = space.address(name)?;
        let answer = space.http("host", &address, 8080, "/hostname");
        ensure!(answer.with_context(|| format!("node to {name}"))? == name);
    }
    Ok(())
}

#[test]
fn large_datagrams_cross_between_nodes() -> Result<()> {
    let nodes = network::ready()?;
    let space = Space::new()?;
    space.start(&[web_pod("a", &nodes[0]), web_pod("c", &nodes[1])])?;
    let c = space.address("c")?;
    let text = space.shell("a", &format!("ping -q -c 3 -W 3 -s 4000 {c}"))?;
    ensure!(text.contains("3 packets received"), "{text}");
    Ok(())
}
