//! The events of the golden vectors.

use serde_json::Value;
use weave_npc::{Change, ObjectName, api};

pub const VECTORS: &str = include_str!("../../../tests/vectors/npc.json");

/// What an event says; none for one that begins a scenario.
pub fn change(event: &str, object: &Value) -> Option<Change> {
    let object = object.clone();
    let name = || {
        let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
        ObjectName::new(text("namespace"), text("name"))
    };
    Some(match event {
        "add-namespace" | "update-namespace" | "namespace-known-to-api-only" => {
            Change::Namespace(serde_json::from_value::<api::Namespace>(object).unwrap().read())
        }
        "delete-namespace" => {
            Change::NamespaceGone(object["metadata"]["name"].as_str().unwrap().to_owned())
        }
        "add-pod" | "update-pod" => {
            Change::Pod(Box::new(serde_json::from_value::<api::Pod>(object).unwrap().read()))
        }
        "delete-pod" => Change::PodGone(name()),
        "add-networkpolicy" | "update-networkpolicy" => {
            let policy: api::NetworkPolicy = serde_json::from_value(object).unwrap();
            Change::Policy(policy.read().0)
        }
        "delete-networkpolicy" => Change::PolicyGone(name()),
        "common-world" => return None,
        other => unreachable!("{other}"),
    })
}
