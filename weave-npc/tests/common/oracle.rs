//! Who may reach whom, straight from the JSON of the objects: another way to the same answer.
//!
//! It follows the words of the API reference one by one and knows nothing of the crate's types: no
//! index, no normal form, each question is answered by looking at every object.

use std::net::IpAddr;

use serde_json::Value;
use weave_npc::{Packet, Protocol, Traffic};

use super::world::World;

/// Whether a packet arrives.
pub fn passes(world: &World, packet: &Packet) -> bool {
    direction_passes(world, packet, "Ingress") && direction_passes(world, packet, "Egress")
}

/// Whether a packet is allowed for one direction.
pub fn direction_passes(world: &World, packet: &Packet, direction: &str) -> bool {
    let (own, other) = match direction {
        "Ingress" => (packet.destination, packet.source),
        _ => (packet.source, packet.destination),
    };
    let Some(pod) = pod_at(world, own) else { return true };
    let on_its_node = list(&pod["status"]["hostIPs"]).iter().any(|ip| is(&ip["ip"], other));
    if own == other || on_its_node {
        return true;
    }
    let mut isolated = false;
    for policy in world.policies.values() {
        let spec = &policy["spec"];
        let about = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
            && list(&spec["policyTypes"]).iter().any(|kind| kind == direction)
            && selects(&spec["podSelector"], &pod["metadata"]["labels"]);
        if !about {
            continue;
        }
        isolated = true;
        let (rules, peers) = match direction {
            "Ingress" => ("ingress", "from"),
            _ => ("egress", "to"),
        };
        for rule in list(&spec[rules]) {
            let home = policy["metadata"]["namespace"].as_str().unwrap();
            // Each peer with each port.
            let anywhere = [Value::Null];
            let peers = list(&rule[peers]);
            let peers = if peers.is_empty() { &anywhere[..] } else { peers };
            let ports = list(&rule["ports"]);
            let ports = if ports.is_empty() { &anywhere[..] } else { ports };
            for peer in peers.iter().filter(|peer| is_peer(world, peer, home, other)) {
                let to_block = direction == "Egress" && !peer["ipBlock"].is_null();
                if ports.iter().any(|port| is_port(world, port, packet, to_block)) {
                    return true;
                }
            }
        }
    }
    !isolated
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is(text: &Value, address: IpAddr) -> bool {
    text.as_str().unwrap().parse::<IpAddr>().unwrap() == address
}

/// The youngest running pod with this address, of those with addresses of their own.
fn pod_at(world: &World, address: IpAddr) -> Option<&Value> {
    let has = |pod: &&Value| {
        pod["spec"]["hostNetwork"] != true
            && pod["status"]["phase"] == "Running"
            && list(&pod["status"]["podIPs"]).iter().any(|ip| is(&ip["ip"], address))
    };
    let youngest = |pod: &&Value| pod["metadata"]["uid"].as_str().unwrap().to_owned();
    world.pods.values().filter(has).max_by_key(youngest)
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    equal.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && list(&selector["matchExpressions"]).iter().all(|expression| {
            let label = labels.get(expression["key"].as_str().unwrap());
            let listed = label.is_some_and(|label| list(&expression["values"]).contains(label));
            match expression["operator"].as_str().unwrap() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => label.is_some(),
                "DoesNotExist" => label.is_none(),
                other => unreachable!("{other}"),
            }
        })
}

fn is_peer(world: &World, peer: &Value, home: &str, address: IpAddr) -> bool {
    if peer.is_null() {
        return true;
    }
    if let Some(block) = peer.get("ipBlock") {
        let inside = |cidr: &Value| {
            let (first, length) = cidr.as_str().unwrap().split_once('/').unwrap();
            let length = length.parse().unwrap();
            match (first.parse().unwrap(), address) {
                (IpAddr::V4(first), IpAddr::V4(address)) => {
                    same_start(&first.octets(), &address.octets(), length)
                }
                (IpAddr::V6(first), IpAddr::V6(address)) => {
                    same_start(&first.octets(), &address.octets(), length)
                }
                _ => false,
            }
        };
        return inside(&block["cidr"]) && !list(&block["except"]).iter().any(inside);
    }
    let Some(pod) = pod_at(world, address) else { return false };
    let namespace = pod["metadata"]["namespace"].as_str().unwrap();
    let in_namespace = match peer.get("namespaceSelector") {
        None => namespace == home,
        Some(selector) => world
            .namespaces
            .get(namespace)
            .is_some_and(|namespace| selects(selector, &namespace["metadata"]["labels"])),
    };
    let selector = peer.get("podSelector");
    in_namespace && selector.is_none_or(|selector| selects(selector, &pod["metadata"]["labels"]))
}

fn same_start(one: &[u8], other: &[u8], bits: usize) -> bool {
    let bit = |bytes: &[u8], position: usize| bytes[position / 8] >> (7 - position % 8) & 1;
    (0..bits).all(|position| bit(one, position) == bit(other, position))
}

fn is_port(world: &World, port: &Value, packet: &Packet, to_block: bool) -> bool {
    if port.is_null() {
        return true;
    }
    let Traffic::Port(protocol, number) = packet.traffic else { return false };
    let name = match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    if port["protocol"].as_str().unwrap_or("TCP") != name {
        return false;
    }
    match &port["port"] {
        Value::Null => true,
        Value::String(wanted) => {
            let pod = if to_block { None } else { pod_at(world, packet.destination) };
            let ports = pod.map_or(&[][..], |pod| list(&pod["spec"]["containers"][0]["ports"]));
            ports.iter().any(|port| {
                port["name"] == wanted.as_str()
                    && port["protocol"] == name
                    && port["containerPort"] == number
            })
        }
        first => {
            let last = port.get("endPort").unwrap_or(first);
            (first.as_u64().unwrap()..=last.as_u64().unwrap()).contains(&number.into())
        }
    }
}
