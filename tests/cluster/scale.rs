//! Many pods, made and deleted: nothing of them stays.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use weave_testbed::cluster::AGNHOST;
use weave_testbed::try_until;

use crate::kubernetes::has_condition;
use crate::space::Space;
use crate::{SOON, network};

/// How many pods at once, and how often.
const PODS: usize = 12;
const ROUNDS: usize = 3;

#[test]
fn every_pod_of_a_deployment_has_an_address_of_its_own() -> Result<()> {
    network::ready()?;
    let space = Space::new()?;
    space.apply(&[json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "many" },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": "many" } },
            "template": {
                "metadata": { "labels": { "app": "many" } },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "main", "image": AGNHOST, "imagePullPolicy": "IfNotPresent",
                        "args": ["pause"],
                    }],
                },
            },
        },
    })])?;
    for _ in 0..ROUNDS {
        scale(&space, PODS)?;
        let pods = space.list("pods")?;
        let addresses: BTreeSet<String> =
            pods.iter().map(|pod| pod["status"]["podIP"].to_string()).collect();
        ensure!(addresses.len() == PODS, "{PODS} pods have {} addresses", addresses.len());
        scale(&space, 0)?;
    }
    Ok(())
}

/// Waits until there are so many pods and all are ready.
fn scale(space: &Space, count: usize) -> Result<()> {
    space.kubectl(&format!("scale deployment many --replicas={count}"))?;
    try_until(&format!("{count} pods"), SOON, || {
        let pods = space.list("pods")?;
        let ready = pods.iter().filter(|pod| has_condition(pod, "Ready")).count();
        ensure!(pods.len() == count && ready == count, "{ready} of {} are ready", pods.len());
        Ok(())
    })
}
