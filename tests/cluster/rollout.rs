//! A connection between pods while the network under it is taken away and put back.

use anyhow::{Context, Result, ensure};
use weave_testbed::try_until;

use crate::SOON;
use crate::kubernetes::{kubectl, list, name};
use crate::network;
use crate::space::Space;
use crate::stream::Stream;

/// The router of a node, and how often its containers were restarted.
fn router(node: &str) -> Result<(String, u64)> {
    let pods = list(&format!(
        "-n kube-system pods -l name=weave-net --field-selector spec.nodeName={node}"
    ))?;
    let pod = pods.first().with_context(|| format!("no router on {node}"))?;
    let containers = pod["status"]["containerStatuses"].as_array().context("no containers")?;
    let weave = containers.iter().find(|container| container["name"] == "weave");
    let weave = weave.context("no container `weave`")?;
    ensure!(weave["ready"] == true, "the router on {node} is not ready");
    Ok((name(pod), weave["restartCount"].as_u64().unwrap_or(0)))
}

#[test]
fn a_stream_outlives_a_restart_of_all_routers() -> Result<()> {
    let nodes = network::ready()?;
    let space = Space::new()?;
    let stream = Stream::start(&space, &nodes[0], &nodes[1])?;
    kubectl("-n kube-system rollout restart daemonset weave-net")?;
    kubectl("-n kube-system rollout status daemonset weave-net --timeout=180s")?;
    stream.wait_for_more(200)?;
    println!("longest gap in a rolling restart: {} ms", stream.longest_gap()?);
    Ok(())
}

#[test]
fn a_stream_outlives_a_killed_router() -> Result<()> {
    let nodes = network::ready()?;
    let space = Space::new()?;
    let stream = Stream::start(&space, &nodes[0], &nodes[1])?;
    for node in &nodes[..2] {
        let (pod, restarts) = try_until("the router", SOON, || router(node))?;
        // The process of the container is the first of its namespace, which only a process outside
        // can kill; the host's is reached through a pod with the namespaces of the node.
        kill_router(&space, node)?;
        try_until("the router's return", SOON, || {
            let (now, count) = router(node)?;
            ensure!(now == pod && count > restarts, "not restarted yet");
            Ok(())
        })?;
    }
    stream.wait_for_more(200)?;
    println!("longest gap around kill -9 of each router: {} ms", stream.longest_gap()?);
    Ok(())
}

/// Kills the router's process on a node with SIGKILL. It is known by its whole command line: that of
/// the killer has the same words in it.
fn kill_router(space: &Space, node: &str) -> Result<()> {
    let killer = format!("killer-{node}");
    let mut pod = crate::space::shell_pod(&killer, node, "sleep 3600");
    pod["spec"]["hostPID"] = true.into();
    pod["spec"]["hostNetwork"] = true.into();
    pod["spec"]["containers"][0]["securityContext"] = serde_json::json!({ "privileged": true });
    space.start(&[pod])?;
    let killed = space.shell(
        &killer,
        "for p in /proc/[0-9]*; do \
           words=$(tr '\\0' ' ' < $p/cmdline 2> /dev/null); \
           case $words in 'weave kube ') kill -9 ${p#/proc/} && echo $words;; esac; done",
    )?;
    ensure!(!killed.is_empty(), "no router runs on {node}");
    Ok(())
}
