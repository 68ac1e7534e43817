//! The compiled table in the kernel: pods on a bridge, and connections between all of them.
//!
//! ```text
//!   host        bridge weave, whose packets pass nftables
//!                 │        │        │        │
//!   pods         web      db     client   web(other)       10.32.0.0/24, fd00:32::/64
//! ```
//!
//! Needs root and nft.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod common;

use common::host::{Host, PORTS, on_node};
use common::scenario::{VECTORS, change};
use serde_json::Value;
use weave_npc::nft::{self, Options};
use weave_npc::{Change, Cluster, Ruleset, compile};

#[test]
fn connections_have_the_fate_that_the_model_gives_them() {
    let host = Host::new("model");
    let mut ruleset = Ruleset::default();
    let empty = nft::table(&ruleset, Options::default());
    host.nft(move |nftables| nftables.replace(&empty).unwrap());
    // Neighbours are known before anything is counted.
    let open_cluster = Cluster::default();
    host.probe(&open_cluster, "no policy");

    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let scenarios = vectors["scenarios"].as_array().unwrap();
    let common = scenarios[0]["steps"].as_array().unwrap();
    let all = host.pods.len() * (host.pods.len() - 1) * 2 * PORTS.len() * 2;
    let (mut allowed, mut denied) = (0, 0);
    for scenario in scenarios {
        let mut cluster = Cluster::default();
        for step in scenario["steps"].as_array().unwrap() {
            let steps = match step["event"] == "common-world" {
                true => common.clone(),
                false => vec![step.clone()],
            };
            for step in steps {
                let event = step["event"].as_str().unwrap();
                cluster.extend(change(event, &step["object"]).map(|change| match change {
                    Change::Pod(pod) => Change::Pod(Box::new(on_node(*pod))),
                    other => other,
                }));
            }
            let next = compile(&cluster, "node");
            let batch = nft::change(&ruleset, &next);
            if batch.is_empty() && ruleset == next {
                continue;
            }
            host.nft(move |nftables| nftables.change(&batch).unwrap());
            ruleset = next;
            let what = format!("{}, {}", scenario["name"], step["event"]);
            let passed = host.probe(&cluster, &what);
            allowed += passed;
            denied += all - passed;
        }
    }
    assert!(allowed > 1000 && denied > 1000, "{allowed} allowed, {denied} denied");
}
