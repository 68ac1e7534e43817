//! NetworkPolicies.

use serde::Deserialize;

use super::pod::protocol;
use super::{LabelSelector, Metadata, Problem, Problems};
use crate::block::parse_block;
use crate::labels::Selector;
use crate::object::{self, Namespaces, PodPeer, PortNumber};

/// A NetworkPolicy of `networking.k8s.io/v1`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicy {
    /// Name and namespace.
    pub metadata: Metadata,
    /// What it says.
    pub spec: Spec,
}

/// What a policy says.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The pods that it is about.
    pub pod_selector: LabelSelector,
    /// For which directions it isolates them.
    pub policy_types: Option<Vec<String>>,
    /// What may reach them.
    pub ingress: Option<Vec<Rule>>,
    /// What they may reach.
    pub egress: Option<Vec<Rule>>,
}

/// A rule of either direction.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// The peers of a rule for ingress.
    pub from: Option<Vec<Peer>>,
    /// The peers of a rule for egress.
    pub to: Option<Vec<Peer>>,
    /// The ports.
    pub ports: Option<Vec<Port>>,
}

/// A peer of a rule.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Peer {
    /// Pods,
    pub pod_selector: Option<LabelSelector>,
    /// in namespaces,
    pub namespace_selector: Option<LabelSelector>,
    /// or addresses.
    pub ip_block: Option<IpBlock>,
}

/// Addresses.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(default)]
pub struct IpBlock {
    /// These,
    pub cidr: String,
    /// but not those.
    pub except: Option<Vec<String>>,
}

/// A port of a rule.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Its protocol, by default TCP.
    pub protocol: Option<String>,
    /// Its number or name; all ports of the protocol if there is none.
    pub port: Option<IntOrString>,
    /// The last one of a range.
    pub end_port: Option<i64>,
}

/// A number or a name.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// A name.
    String(String),
}

impl NetworkPolicy {
    /// Fills in what the API server would fill in, for one that it has not seen: the directions.
    #[must_use]
    pub fn with_defaults(mut self) -> Self {
        let spec = &mut self.spec;
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
            let egress = egress.then(|| "Egress".to_owned());
            spec.policy_types = Some(["Ingress".to_owned()].into_iter().chain(egress).collect());
        }
        self
    }

    /// Reads it. What cannot be understood allows nothing; if it is the selector of its pods, the
    /// policy is about all pods of its namespace.
    pub fn read(self) -> (object::Policy, Vec<Problem>) {
        let mut found = Vec::new();
        let mut problems = Problems { path: "spec".to_owned(), found: &mut found };
        let spec = self.spec;
        let pods = spec.pod_selector.read(&mut problems.at("podSelector"));
        let pods = pods.unwrap_or_else(Selector::everything);
        let (mut ingress, mut egress) = (None, None);
        for (position, direction) in spec.policy_types.unwrap_or_default().iter().enumerate() {
            match direction.as_str() {
                "Ingress" => ingress = Some(()),
                "Egress" => egress = Some(()),
                other => {
                    let mut at = problems.at(format_args!("policyTypes[{position}]"));
                    at.add(format!("{other:?} is unknown; Ingress and Egress are known"));
                }
            }
        }
        // Rules for a direction that the policy is not about say nothing.
        let ingress = ingress.map(|()| rules(spec.ingress, "ingress", &mut problems));
        let egress = egress.map(|()| rules(spec.egress, "egress", &mut problems));
        (object::Policy { name: self.metadata.object_name(), pods, ingress, egress }, found)
    }
}

fn rules(
    rules: Option<Vec<Rule>>,
    direction: &str,
    problems: &mut Problems<'_>,
) -> Vec<object::Rule> {
    let rules = rules.unwrap_or_default().into_iter().enumerate();
    rules
        .map(|(position, rule)| {
            let mut at = problems.at(format_args!("{direction}[{position}]"));
            let (peers, field) = match direction {
                "ingress" => (rule.from, "from"),
                _ => (rule.to, "to"),
            };
            let peers = match peers {
                Some(peers) if !peers.is_empty() => object::Peers::Some(each(
                    peers,
                    |position| format!("{field}[{position}]"),
                    &mut at,
                    Peer::read,
                )),
                _ => object::Peers::Anywhere,
            };
            let ports = match rule.ports {
                Some(ports) if !ports.is_empty() => object::Ports::Some(each(
                    ports,
                    |position| format!("ports[{position}]"),
                    &mut at,
                    Port::read,
                )),
                _ => object::Ports::All,
            };
            object::Rule { peers, ports }
        })
        .collect()
}

/// Reads each, without those that cannot be understood.
fn each<T, R>(
    all: Vec<T>,
    path: impl Fn(usize) -> String,
    problems: &mut Problems<'_>,
    read: impl Fn(T, &mut Problems<'_>) -> Option<R>,
) -> Vec<R> {
    let all = all.into_iter().enumerate();
    all.filter_map(|(position, one)| read(one, &mut problems.at(path(position)))).collect()
}

impl Peer {
    fn read(self, problems: &mut Problems<'_>) -> Option<object::Peer> {
        let pods = match (self.namespace_selector, self.pod_selector, self.ip_block) {
            (None, None, Some(block)) => return block.read(&mut problems.at("ipBlock")),
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                problems.add("ipBlock stands together with a selector");
                return None;
            }
            (None, None, None) => {
                problems.add("neither ipBlock nor a selector that is known");
                return None;
            }
            (Some(namespaces), pods, None) => {
                let namespaces = namespaces.read(&mut problems.at("namespaceSelector"));
                let pods = pods.unwrap_or_default().read(&mut problems.at("podSelector"));
                PodPeer { namespaces: Namespaces::Matching(namespaces?), pods: pods? }
            }
            (None, Some(pods), None) => {
                let pods = pods.read(&mut problems.at("podSelector"))?;
                PodPeer { namespaces: Namespaces::Own, pods }
            }
        };
        Some(object::Peer::Pods(pods))
    }
}

impl IpBlock {
    fn read(self, problems: &mut Problems<'_>) -> Option<object::Peer> {
        let mut block = |path: String, text: &str| {
            let block = parse_block(text);
            if block.is_none() {
                problems.at(path).add(format!("{text:?} is not ADDRESS/PREFIX-LENGTH"));
            }
            block
        };
        let whole = block("cidr".to_owned(), &self.cidr);
        let except = self.except.unwrap_or_default();
        let except = except.iter().enumerate();
        let except: Vec<_> =
            except.map(|(position, text)| block(format!("except[{position}]"), text)).collect();
        let except = except.into_iter().collect::<Option<_>>()?;
        Some(object::Peer::Block { block: whole?, except })
    }
}

impl Port {
    fn read(self, problems: &mut Problems<'_>) -> Option<object::Port> {
        let Some(protocol) = protocol(self.protocol.as_deref()) else {
            let text = self.protocol.unwrap_or_default();
            problems.at("protocol").add(format!("{text:?} is none of TCP, UDP and SCTP"));
            return None;
        };
        let mut number = |field: &str, number: i64| {
            let found = u16::try_from(number).ok().filter(|number| *number > 0);
            if found.is_none() {
                problems.at(field).add(format!("{number} is not from 1 to 65535"));
            }
            found
        };
        let number = match (self.port, self.end_port) {
            (None, None) => PortNumber::ANY,
            (Some(IntOrString::String(name)), None) => PortNumber::Named(name),
            (Some(IntOrString::Int(port)), None) => {
                let port = number("port", port)?;
                PortNumber::Range(port..=port)
            }
            (Some(IntOrString::Int(port)), Some(last)) => {
                let (port, last) = (number("port", port)?, number("endPort", last)?);
                if port > last {
                    problems.at("endPort").add(format!("{last} is less than port, {port}"));
                    return None;
                }
                PortNumber::Range(port..=last)
            }
            (None | Some(IntOrString::String(_)), Some(_)) => {
                problems.at("endPort").add("needs a port that is a number");
                return None;
            }
        };
        Some(object::Port { protocol, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &str) -> (object::Policy, Vec<String>) {
        let text = format!(r#"{{"metadata": {{"name": "p", "namespace": "n"}}, "spec": {spec}}}"#);
        let policy: NetworkPolicy = serde_json::from_str(&text).unwrap();
        let (policy, problems) = policy.read();
        (policy, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_thing_that_cannot_be_understood_is_named_and_allows_nothing() {
        let (policy, problems) = read(
            r#"{"policyTypes": ["Ingress"], "podSelector": {}, "ingress": [{
                "from": [
                    {},
                    {"ipBlock": {"cidr": "10.0.0.0/40"}},
                    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "x"]}},
                    {"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}},
                    {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}},
                    {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}
                ],
                "ports": [
                    {"protocol": "ICMP"},
                    {"port": 0},
                    {"port": 80, "endPort": 70000},
                    {"port": 80, "endPort": 79},
                    {"port": "http", "endPort": 80},
                    {"endPort": 80}
                ]
            }]}"#,
        );
        let nothing =
            object::Rule { peers: object::Peers::Some(vec![]), ports: object::Ports::Some(vec![]) };
        assert_eq!(policy.ingress, Some(vec![nothing]));
        let expected = [
            "spec.ingress[0].from[0]: neither ipBlock nor a selector that is known",
            "spec.ingress[0].from[1].ipBlock.cidr: \"10.0.0.0/40\" is not ADDRESS/PREFIX-LENGTH",
            "spec.ingress[0].from[2].ipBlock.except[1]: \"x\" is not ADDRESS/PREFIX-LENGTH",
            "spec.ingress[0].from[3]: ipBlock stands together with a selector",
            "spec.ingress[0].from[4].namespaceSelector.matchExpressions[0].operator: \"Gt\" is \
             unknown; In, NotIn, Exists and DoesNotExist are known",
            "spec.ingress[0].from[5].podSelector.matchExpressions[0].values: In needs values",
            "spec.ingress[0].ports[0].protocol: \"ICMP\" is none of TCP, UDP and SCTP",
            "spec.ingress[0].ports[1].port: 0 is not from 1 to 65535",
            "spec.ingress[0].ports[2].endPort: 70000 is not from 1 to 65535",
            "spec.ingress[0].ports[3].endPort: 79 is less than port, 80",
            "spec.ingress[0].ports[4].endPort: needs a port that is a number",
            "spec.ingress[0].ports[5].endPort: needs a port that is a number",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn a_policy_whose_selector_is_unknown_is_about_all_pods() {
        let (policy, problems) = read(
            r#"{"policyTypes": ["Egress"],
                "podSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}"#,
        );
        assert!(policy.pods.is_everything());
        assert_eq!((policy.ingress, policy.egress), (None, Some(vec![])));
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn directions_are_those_that_are_written() {
        let spec = r#"{"podSelector": {}, "egress": [{}]}"#;
        let (policy, _) = read(spec);
        assert_eq!((policy.ingress, policy.egress), (None, None), "as the API server has it");
        let text = format!(r#"{{"metadata": {{"name": "p"}}, "spec": {spec}}}"#);
        let policy: NetworkPolicy = serde_json::from_str(&text).unwrap();
        let (policy, _) = policy.with_defaults().read();
        assert_eq!(policy.ingress, Some(vec![]));
        assert_eq!(policy.egress.map(|rules| rules.len()), Some(1));
    }
}
