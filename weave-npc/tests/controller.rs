//! The controller between an API server and the kernel: pods on a bridge, policies that come and go,
//! and what goes wrong on the way.
//!
//! Needs root and nft.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::api::Api;
use common::host::{Host, LIMIT, on_node};
use kube::{Client, Config};
use serde_json::{Value, json};
use weave_npc::controller::{self, Status};
use weave_npc::nft::Options;
use weave_npc::{Change, Cluster, ObjectName, api};
use weave_testbed::eventually;

const NAMESPACES: &str = "/api/v1/namespaces";
const PODS: &str = "/api/v1/pods";
const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";

/// A cluster of one node: what the API server has, and the same for the model.
struct World {
    api: Api,
    cluster: Cluster,
    host: Host,
    status: Arc<Status>,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl World {
    /// Starts a controller in the network namespace of a host.
    fn new(name: &str) -> Self {
        Self::start(name, |_| {})
    }

    /// The same, on a host on which something was before.
    fn start(name: &str, prepare: impl FnOnce(&Host)) -> Self {
        let (api, host) = (Api::new(), Host::new(name));
        // The controller sees to it that packets of the bridge are judged.
        let off = "link set weave type bridge nf_call_iptables 0 nf_call_ip6tables 0";
        host.namespace.ip(off).unwrap();
        prepare(&host);
        let status = Arc::new(Status::default());
        let (own_api, own_status) = (api.clone(), Arc::clone(&status));
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let address = own_api.serve().await;
                let config = Config::new(format!("http://{address}").parse().unwrap());
                let client = Client::try_from(config).unwrap();
                tokio::select! {
                    result = controller::run(client, "node", Options::default(), own_status) => {
                        result.unwrap();
                    }
                    _ = ended => {}
                }
            });
        };
        drop(host.namespace.spawn(work).unwrap());
        let mut world = Self { api, cluster: Cluster::default(), host, status, _end: end };
        for (namespace, team) in [("default", "a"), ("other", "b")] {
            let labels = json!({"team": team});
            world.set(NAMESPACES, json!({"metadata": {"name": namespace, "labels": labels}}));
        }
        for (name, namespace, low) in [
            ("web", "default", 10),
            ("db", "default", 11),
            ("client", "other", 20),
            ("web", "other", 21),
        ] {
            world.set(PODS, pod(name, namespace, low));
        }
        world
    }

    fn set(&mut self, path: &str, object: Value) {
        self.api.set(path, object.clone());
        let change = match path {
            NAMESPACES => {
                let namespace: api::Namespace = serde_json::from_value(object).unwrap();
                Change::Namespace(namespace.read())
            }
            PODS => {
                let pod: api::Pod = serde_json::from_value(object).unwrap();
                Change::Pod(Box::new(on_node(pod.read())))
            }
            _ => {
                let policy: api::NetworkPolicy = serde_json::from_value(object).unwrap();
                Change::Policy(policy.read().0)
            }
        };
        self.cluster.handle_change(change);
    }

    fn delete_policy(&mut self, object: &Value) {
        self.api.delete(POLICIES, object);
        let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
        let name = ObjectName::new(text("namespace"), text("name"));
        assert!(self.cluster.handle_change(Change::PolicyGone(name)));
    }

    /// Waits until the kernel does what the model says, and returns how many probes pass then.
    fn settle(&self, what: &str) -> usize {
        let expected = weave_npc::compile(&self.cluster, "node");
        let shown = expected.isolated.iter();
        let shown: Vec<_> =
            shown.map(|((_, address), chain)| format!("{address} : jump {chain}")).collect();
        eventually(what, LIMIT, || {
            let table = self.host.namespace.exec("nft -n list table inet weave-npc");
            let table = table.unwrap_or_default();
            let jumps = table.matches(" : jump ").count();
            jumps == shown.len() && shown.iter().all(|line| table.contains(line))
        })
        .unwrap();
        self.host.probe(&self.cluster, what)
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.status.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("weavenpc_{name} ")));
        line.unwrap().parse().unwrap()
    }
}

fn pod(name: &str, namespace: &str, low: u8) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"),
            "labels": {"app": name},
        },
        "spec": {"nodeName": "node"},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": format!("10.32.0.{low}")}, {"ip": format!("fd00:32::{low}")}],
        },
    })
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

#[test]
fn policies_are_enforced_whatever_happens_to_the_watches() {
    let mut world = World::new("ctl");
    eventually("the first rules", LIMIT, || world.status.is_ready()).unwrap();
    let all = world.settle("no policy");

    let deny = policy("deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    world.set(POLICIES, deny.clone());
    assert!(world.settle("everything is denied in a namespace") < all / 2);
    let allow = policy(
        "allow",
        json!({
            "podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}],
                "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}],
            }],
        }),
    );
    world.set(POLICIES, allow.clone());
    world.settle("one thing is allowed");

    world.api.end_watches(false);
    world.delete_policy(&allow);
    world.settle("a change while watches end");

    world.set(POLICIES, allow);
    world.settle("allowed again");
    // What happens now, no watch tells.
    world.api.be_away(true);
    world.delete_policy(&deny);
    world.set(NAMESPACES, json!({"metadata": {"name": "other", "labels": {"team": "c"}}}));
    world.api.end_watches(true);
    world.api.be_away(false);
    world.settle("a server that was away, and has forgotten");
}

#[test]
fn rules_that_somebody_removes_come_back() {
    let mut world = World::new("foreign");
    let deny = policy("deny", json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    world.set(POLICIES, deny);
    let allowed = world.settle("ingress is denied");
    let within = LIMIT + Duration::from_secs(5);
    for command in ["nft flush ruleset", "nft delete element inet weave-npc in4 { 10.32.0.11 }"] {
        let before = world.metric("restored_total");
        world.host.namespace.exec(command).unwrap();
        eventually("the rules to come back", within, || world.metric("restored_total") > before)
            .unwrap();
        assert_eq!(world.settle(command), allowed);
    }
    // A table of somebody else is no reason to touch ours.
    let (restored, updates) = (world.metric("restored_total"), world.metric("updates_total"));
    world.host.namespace.exec("nft add table ip theirs").unwrap();
    world.set(NAMESPACES, json!({"metadata": {"name": "third", "labels": {}}}));
    world.settle("a table of somebody else");
    assert_eq!(world.metric("restored_total"), restored);
    assert!(world.metric("updates_total") >= updates);
}

/// What the controller and the router of Weave Net leave: here they drop everything.
const ORIGINAL: [&str; 14] = [
    "ipset create weave-k?Z;2#5^M}|1s7P3|H9i;* hash:ip",
    "ipset create weave-|0la list:set",
    "ipset add weave-|0la weave-k?Z;2#5^M}|1s7P3|H9i;*",
    "ipset create weaver-no-masq-local hash:ip",
    "iptables-nft -N WEAVE-NPC",
    "iptables-nft -N WEAVE-NPC-EGRESS",
    "iptables-nft -N WEAVE-NPC-DEFAULT",
    "iptables-nft -N WEAVE-NPC-EGRESS-ACCEPT",
    "iptables-nft -A WEAVE-NPC -m state --state NEW -j WEAVE-NPC-DEFAULT",
    "iptables-nft -A WEAVE-NPC-DEFAULT -m set --match-set weave-|0la src -j ACCEPT",
    "iptables-nft -A WEAVE-NPC-EGRESS -j DROP",
    "iptables-nft -A FORWARD -i weave -j WEAVE-NPC-EGRESS",
    "iptables-nft -A FORWARD -o weave -j WEAVE-NPC",
    "iptables-nft -A FORWARD -o weave -j DROP",
];

#[test]
fn what_the_original_left_is_taken_over() {
    let world = World::start("old", |host| {
        for line in ORIGINAL {
            host.namespace.exec(line).unwrap();
        }
    });
    let exec = |line: &str| world.host.namespace.exec(line).unwrap();
    eventually("the sets to be gone", LIMIT, || exec("ipset list -n") == "weaver-no-masq-local\n")
        .unwrap();
    // A router of Weave Net may still run, and put its rules back: what they jump to accepts.
    let chains = exec("iptables-nft -S");
    let own: Vec<_> = chains.lines().filter(|line| line.contains("A WEAVE-NPC")).collect();
    assert_eq!(own, ["-A WEAVE-NPC -j ACCEPT"], "{chains}");
    assert!(!chains.contains("WEAVE-NPC-DEFAULT"), "{chains}");
    world.settle("everything is allowed, as there is no policy");
}
