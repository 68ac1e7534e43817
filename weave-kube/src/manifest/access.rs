//! The account of the pods, and the least it has to be allowed.

use serde_json::{Value, json};

use super::options::Wish;
use super::{NAME, NAMESPACE, metadata};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn objects(wish: &Wish) -> Vec<Value> {
    let version = format!("{RBAC}/v1");
    let subjects = json!([{ "kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE }]);
    let binding = |kind: &str, role: &str, is_namespaced| {
        json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": metadata(is_namespaced),
            "roleRef": { "apiGroup": RBAC, "kind": role, "name": NAME },
            "subjects": subjects,
        })
    };
    vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(true) }),
        json!({
            "apiVersion": version,
            "kind": "ClusterRole",
            "metadata": metadata(false),
            "rules": cluster_rules(wish),
        }),
        binding("ClusterRoleBinding", "ClusterRole", false),
        json!({
            "apiVersion": version,
            "kind": "Role",
            "metadata": metadata(true),
            "rules": [
                // Who has which addresses; written by 2.x, too.
                rule("", &["configmaps"], &["get", "update"], Some(NAME)),
                // What is made has no name yet that a rule could see.
                rule("", &["configmaps"], &["create"], None),
            ],
        }),
        binding("RoleBinding", "Role", true),
    ]
}

fn cluster_rules(wish: &Wish) -> Vec<Value> {
    let read = ["get", "list", "watch"];
    let mut rules = vec![
        // The peers, and which of them are gone.
        rule("", &["nodes"], &read, None),
        // The condition NetworkUnavailable.
        rule("", &["nodes/status"], &["patch"], None),
        // What an operator has to look at.
        rule("events.k8s.io", &["events"], &["create"], None),
    ];
    if wish.has_policies {
        rules.push(rule("", &["namespaces", "pods"], &read, None));
        rules.push(rule("networking.k8s.io", &["networkpolicies"], &read, None));
    }
    rules
}

fn rule(group: &str, resources: &[&str], verbs: &[&str], name: Option<&str>) -> Value {
    let mut rule = json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
    if let Some(name) = name {
        rule["resourceNames"] = json!([name]);
    }
    rule
}
