//! Objects of a cluster, one in JSON on each line: whatever they say, the rules of a node follow
//! without a panic, in words that nftables takes, and each change of them leads to the next state.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weave_npc::nft::{self, Options};
use weave_npc::{Change, Cluster, Direction, Packet, Protocol, Ruleset, Traffic, api, compile};

/// How an object begins that is gone.
const GONE: &str = "-";

fuzz_target!(|text: &str| {
    let (mut cluster, mut ruleset) = (Cluster::default(), Ruleset::default());
    for line in text.lines().take(64) {
        let (gone, line) = match line.strip_prefix(GONE) {
            Some(line) => (true, line),
            None => (false, line),
        };
        let Some(change) = read(line) else { continue };
        cluster.handle_change(if gone { inverse(change) } else { change });
        let next = compile(&cluster, "node");
        nft::change(&ruleset, &next).script().expect("a batch in the words of nftables");
        nft::table(&next, Options::default()).script().expect("a table in the words of nftables");
        ruleset = next;
    }
    let addresses: Vec<_> = cluster.owners().map(|(address, _)| address).take(8).collect();
    for &source in &addresses {
        for &destination in &addresses {
            for traffic in [Traffic::Port(Protocol::Tcp, 80), Traffic::Portless] {
                let packet = Packet { source, destination, traffic };
                // What is not isolated, nobody denies.
                if !cluster.judge(Direction::Ingress, &packet).is_allowed() {
                    let pod = cluster.owner(destination).expect("only a pod can be isolated");
                    assert!(cluster.isolating(pod, Direction::Ingress).next().is_some());
                }
            }
        }
    }
});

fn read(line: &str) -> Option<Change> {
    let value: Value = serde_json::from_str(line).ok()?;
    match value.get("kind")?.as_str()? {
        "Pod" => {
            let pod: api::Pod = serde_json::from_value(value).ok()?;
            Some(Change::Pod(Box::new(pod.read())))
        }
        "Namespace" => {
            let namespace: api::Namespace = serde_json::from_value(value).ok()?;
            Some(Change::Namespace(namespace.read()))
        }
        _ => {
            let policy: api::NetworkPolicy = serde_json::from_value(value).ok()?;
            Some(Change::Policy(policy.read().0))
        }
    }
}

fn inverse(change: Change) -> Change {
    match change {
        Change::Pod(pod) => Change::PodGone(pod.name),
        Change::Namespace(namespace) => Change::NamespaceGone(namespace.name),
        Change::Policy(policy) => Change::PolicyGone(policy.name),
        other => other,
    }
}
