//! Services and ports of nodes, as kube-proxy makes them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weave_testbed::try_until;

use crate::space::{Space, web_pod};
use crate::{SOON, network};

/// A Service in front of the pod of the same name.
fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    })
}

/// Pods on two nodes call a pod behind a Service: from its own node, and from another.
pub fn reach_a_service(nodes: &[String]) -> Result<()> {
    let space = Space::new()?;
    space.apply(&[service("web")])?;
    let pods = [("near", &nodes[0]), ("far", &nodes[1]), ("web", &nodes[0])];
    space.start(&pods.map(|(name, node)| web_pod(name, node)))?;
    let service = space.get("service web")?;
    let address = service["spec"]["clusterIP"].as_str().context("no address")?;
    for from in ["near", "far"] {
        let answer = try_until(&format!("an answer to {from}"), SOON, || {
            space.http(from, address, 80, "/hostname")
        })?;
        ensure!(answer == "web", "{answer} answered");
        let seen = space.http(from, address, 80, "/clientip")?;
        let own = space.address(from)?;
        ensure!(seen.starts_with(&format!("{own}:")), "{from} is seen as {seen}, not {own}");
    }
    // A pod behind its own Service calls itself, which takes a port of the bridge that turns
    // frames around.
    let answer = space.http("web", address, 80, "/hostname").context("a pod to its own Service")?;
    ensure!(answer == "web");
    Ok(())
}

#[test]
fn pods_reach_a_service() -> Result<()> {
    reach_a_service(&network::ready()?)
}

#[test]
fn pods_reach_the_api_server_by_its_service() -> Result<()> {
    let nodes = network::ready()?;
    let space = Space::new()?;
    space.start(&[web_pod("first", &nodes[0]), web_pod("second", &nodes[1])])?;
    for pod in ["first", "second"] {
        space.shell(pod, "/agnhost connect --timeout=5s $KUBERNETES_SERVICE_HOST:443")?;
    }
    Ok(())
}

#[test]
fn a_port_of_the_node_leads_to_the_pod() -> Result<()> {
    let nodes = network::ready()?;
    let space = Space::new()?;
    let mut web = web_pod("web", &nodes[0]);
    web["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 8080, "hostPort": 30880 }]);
    space.start(&[web, web_pod("near", &nodes[0]), web_pod("far", &nodes[1])])?;
    let node = crate::kubernetes::node_address(&nodes[0])?;
    for from in ["near", "far"] {
        let answer = space.http(from, &node, 30880, "/hostname");
        ensure!(answer.with_context(|| format!("{from} to the port of the node"))? == "web");
    }
    Ok(())
}
