//! Random objects and histories of a small cluster, in which everything meets.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};
use weave_npc::{Change, Cluster, ObjectName, Packet, Protocol, Traffic, api};

use super::dice::Dice;

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 2] = ["app", "tier"];
const VALUES: [&str; 3] = ["", "x", "y"];
const PODS: [&str; 4] = ["p", "q", "r", "s"];
const PORT_NAMES: [&str; 2] = ["web", "dns"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
pub const NODES: [&str; 2] = ["n1", "n2"];

/// The objects that are there, by kind and name.
#[derive(Clone, Default)]
pub struct World {
    pub namespaces: BTreeMap<String, Value>,
    pub pods: BTreeMap<(String, String), Value>,
    pub policies: BTreeMap<(String, String), Value>,
    age: u64,
}

impl World {
    /// Changes one object, and tells the model.
    pub fn step(&mut self, dice: &mut Dice, cluster: &mut Cluster) -> Change {
        let namespace = (*dice.pick(&NAMESPACES)).to_owned();
        let gone = dice.once_in(4);
        let change = match dice.below(8) {
            0 | 1 if gone => {
                self.namespaces.remove(&namespace);
                Change::NamespaceGone(namespace)
            }
            0 | 1 => {
                let value = json!({"metadata": {"name": namespace, "labels": labels(dice)}});
                self.namespaces.insert(namespace, value.clone());
                Change::Namespace(from::<api::Namespace>(value).read())
            }
            2..=4 => {
                let name = (*dice.pick(&PODS)).to_owned();
                if gone {
                    self.pods.remove(&(namespace.clone(), name.clone()));
                    Change::PodGone(ObjectName::new(namespace, name))
                } else {
                    self.age += 1;
                    let value = pod(dice, &namespace, &name, self.age);
                    self.pods.insert((namespace, name), value.clone());
                    Change::Pod(Box::new(from::<api::Pod>(value).read()))
                }
            }
            _ => {
                let name = (*dice.pick(&PODS)).to_owned();
                if gone {
                    self.policies.remove(&(namespace.clone(), name.clone()));
                    Change::PolicyGone(ObjectName::new(namespace, name))
                } else {
                    let value = policy(dice, &namespace, &name);
                    self.policies.insert((namespace, name), value.clone());
                    let (policy, problems) = from::<api::NetworkPolicy>(value).read();
                    assert_eq!(problems, []);
                    Change::Policy(policy)
                }
            }
        };
        cluster.handle_change(change.clone());
        change
    }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn labels(dice: &mut Dice) -> Value {
    let mut labels = json!({});
    for key in KEYS {
        if dice.once_in(2) {
            labels[key] = json!(dice.pick(&VALUES));
        }
    }
    labels
}

fn selector(dice: &mut Dice) -> Value {
    if dice.once_in(3) {
        return json!({});
    }
    let expressions = dice.some(3, |dice| {
        let key = dice.pick(&KEYS);
        match dice.below(4) {
            0 => json!({"key": key, "operator": "Exists"}),
            1 => json!({"key": key, "operator": "DoesNotExist"}),
            operator => {
                let operator = if operator == 2 { "In" } else { "NotIn" };
                let values = [*dice.pick(&VALUES), *dice.pick(&VALUES)];
                json!({"key": key, "operator": operator, "values": values})
            }
        }
    });
    let labels = if dice.once_in(2) { labels(dice) } else { json!({}) };
    json!({"matchLabels": labels, "matchExpressions": expressions})
}

fn pod(dice: &mut Dice, namespace: &str, name: &str, age: u64) -> Value {
    // Fewer addresses than pods: they are given to others, and the order is not that of names.
    let ips = match dice.below(6) {
        0 => vec![],
        1 => vec![json!({"ip": format!("fd00::{}", 1 + dice.below(8))})],
        2 | 3 => vec![json!({"ip": format!("10.32.0.{}", 1 + dice.below(8))})],
        _ => {
            let low = 1 + dice.below(8);
            vec![json!({"ip": format!("10.32.0.{low}")}), json!({"ip": format!("fd00::{low}")})]
        }
    };
    let ports = dice.some(4, |dice| {
        let number = dice.pick(&[53, 80, 81]);
        let mut port = json!({"containerPort": number, "protocol": dice.pick(&PROTOCOLS)});
        if !dice.once_in(4) {
            port["name"] = json!(dice.pick(&PORT_NAMES));
        }
        port
    });
    let node = dice.below(2);
    let phase = if dice.once_in(6) { "Succeeded" } else { "Running" };
    json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("{age:04}"),
            "labels": labels(dice),
            "creationTimestamp": format!("2026-01-01T00:{:02}:{:02}Z", age / 60, age % 60),
        },
        "spec": {
            "nodeName": NODES[usize::from(node > 0)],
            "hostNetwork": dice.once_in(8),
            "containers": [{"ports": ports}],
        },
        "status": {
            "phase": phase, "podIPs": ips,
            "hostIPs": [{"ip": format!("10.0.0.{}", 1 + node)}],
        },
    })
}

fn block(dice: &mut Dice) -> Value {
    const BLOCKS: [(&str, &[&str]); 7] = [
        ("10.32.0.0/24", &["10.32.0.4/30", "10.32.0.1/32", "10.32.0.0/29", "fd00::/64"]),
        ("10.32.0.2/31", &["10.32.0.2/32"]),
        ("0.0.0.0/0", &["10.0.0.0/8", "192.168.0.0/16", "10.32.0.0/28"]),
        ("192.168.0.0/16", &["192.168.0.0/24"]),
        ("fd00::/64", &["fd00::4/126", "fd00::1/128"]),
        ("::/0", &["fd00::/8", "::/0"]),
        ("10.0.0.0/30", &["10.0.0.1/32"]),
    ];
    let (cidr, cuts) = dice.pick(&BLOCKS);
    let except = dice.some(3, |dice| *dice.pick(cuts));
    json!({"cidr": cidr, "except": except})
}

fn rule(dice: &mut Dice, field: &str) -> Value {
    let peers = dice.some(4, |dice| match dice.below(4) {
        0 => json!({"podSelector": selector(dice)}),
        1 => json!({"namespaceSelector": selector(dice)}),
        2 => json!({"podSelector": selector(dice), "namespaceSelector": selector(dice)}),
        _ => json!({"ipBlock": block(dice)}),
    });
    let ports = dice.some(4, |dice| {
        let mut port = json!({});
        if !dice.once_in(4) {
            port["protocol"] = json!(dice.pick(&PROTOCOLS));
        }
        match dice.below(5) {
            0 => {}
            1 | 2 => port["port"] = json!(dice.pick(&PORT_NAMES)),
            3 => port["port"] = json!(dice.pick(&[53, 80, 81])),
            _ => {
                port["port"] = json!(dice.pick(&[1, 80, 81]));
                port["endPort"] = json!(dice.pick(&[81, 100, 65535]));
            }
        }
        port
    });
    json!({field: peers, "ports": ports})
}

fn policy(dice: &mut Dice, namespace: &str, name: &str) -> Value {
    let types: &[&str] = match dice.below(4) {
        0 => &["Ingress"],
        1 => &["Egress"],
        2 => &["Ingress", "Egress"],
        _ => &["Egress", "Ingress"],
    };
    json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "podSelector": selector(dice),
            "policyTypes": types,
            "ingress": dice.some(3, |dice| rule(dice, "from")),
            "egress": dice.some(3, |dice| rule(dice, "to")),
        },
    })
}

/// A packet between two addresses that mean something in this world.
pub fn packet(dice: &mut Dice) -> Packet {
    let six = dice.once_in(3);
    let mut address = || -> IpAddr {
        let low = 1 + dice.below(8);
        let text = match (six, dice.below(6)) {
            (false, 0) => {
                (*dice.pick(&["192.168.0.7", "192.168.1.7", "10.0.0.1", "8.8.8.8"])).into()
            }
            (true, 0) => (*dice.pick(&["2001:db8::1", "fd00::aa"])).into(),
            (false, _) => format!("10.32.0.{low}"),
            (true, _) => format!("fd00::{low}"),
        };
        text.parse().unwrap()
    };
    let (source, destination) = (address(), address());
    let traffic = match dice.below(8) {
        0 => Traffic::Portless,
        _ => Traffic::Port(*dice.pick(&Protocol::ALL), *dice.pick(&[1, 53, 80, 81, 82, 1000])),
    };
    Packet { source, destination, traffic }
}
