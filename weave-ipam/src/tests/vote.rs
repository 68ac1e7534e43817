//! The vectors of the vote.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weave_core::mesh::{PeerName, Uid};
use weave_core::wire::gob::AtMost;

use super::vectors::{bytes, list, load, peer, text};
use crate::consensus::{Claims, ClaimsError, Consensus, NodeClaims, NodeId, ProposalId};
use crate::message::State;

fn proposal(proposal: ProposalId) -> Value {
    if proposal.round == 0 {
        return Value::Null;
    }
    let ProposalId { round, proposer } = proposal;
    json!({ "round": round, "proposer": proposer.name.to_string(), "proposer_uid": proposer.uid })
}

pub(super) fn shown(claims: &Claims) -> Value {
    let node = |(node, claims): (&NodeId, &NodeClaims)| {
        let mut value: Vec<String> =
            claims.accepted_value.value.0.iter().map(PeerName::to_string).collect();
        value.sort();
        json!({
            "node": node.name.to_string(),
            "uid": node.uid,
            "promise": proposal(claims.promise),
            "accepted": proposal(claims.accepted),
            "accepted_value": value,
            "accepted_value_origin": proposal(claims.accepted_value.origin),
        })
    };
    claims.iter().map(node).collect()
}

/// What the vectors have in the order of the text.
pub(super) fn sorted(claims: &Value) -> Value {
    let mut claims = list(claims).to_vec();
    claims.sort_by_key(|node| (text(&node["node"]).to_owned(), node["uid"].as_u64()));
    claims.into()
}

#[test]
fn scripts() {
    for script in list(&load("ipam-ring.json")["paxos"]) {
        let quorum = script["quorum"].as_u64().unwrap().try_into().unwrap();
        let begin = |name: PeerName, uid: &Value| {
            let mut node = Consensus::new(name, Uid(uid.as_u64().unwrap()));
            node.set_quorum(quorum);
            node
        };
        let mut nodes: BTreeMap<&str, (PeerName, Consensus)> = BTreeMap::new();
        for node in list(&script["nodes"]) {
            let name = peer(&node["name"]);
            nodes.insert(text(&node["label"]), (name, begin(name, &node["uid"])));
        }
        let mut messages: BTreeMap<&str, Claims> = BTreeMap::new();
        for step in list(&script["steps"]) {
            let (name, node) = nodes.get_mut(text(&step["node"])).unwrap();
            match text(&step["op"]) {
                "propose" => node.propose(),
                "send" => {
                    let state = State::decode(&bytes(&step["payload_hex"])).unwrap();
                    let claims = state.claims.unwrap().0;
                    assert_eq!(shown(&claims), shown(node.claims()), "{step}");
                    let again = State { claims: Some(AtMost(claims.clone())), ..State::default() };
                    assert_eq!(State::decode(&again.encode()).unwrap(), again);
                    messages.insert(text(&step["message"]), claims);
                }
                "update" => {
                    let news = node.update(&messages[text(&step["message"])]).unwrap();
                    assert_eq!(news, step["learned"].as_bool().unwrap(), "{step}");
                }
                "think" => {
                    assert_eq!(node.think(), step["changed"].as_bool().unwrap(), "{step}");
                }
                "restart" => *node = begin(*name, &step["new_uid"]),
                other => panic!("{other}"),
            }
            let after = &step["after"];
            assert_eq!(shown(node.claims()), sorted(&after["knows"]), "{}: {step}", script["name"]);
            let decided = node.decided().map(|value| {
                let mut value: Vec<String> = value.iter().map(PeerName::to_string).collect();
                value.sort();
                value
            });
            assert_eq!(decided.is_some(), after["consensus"].as_bool().unwrap(), "{step}");
            if let Some(expected) = after.get("consensus_value").filter(|value| !value.is_null()) {
                assert_eq!(json!(decided.unwrap_or_default()), *expected, "{step}");
            }
        }
    }
}

#[test]
fn claims_beyond_reason_are_refused() {
    let name = PeerName::from_u64(1).unwrap();
    let mut node = Consensus::new(name, Uid(1));
    let theirs = |round| {
        let node = NodeId { name, uid: 2 };
        let promise = ProposalId { round, proposer: node };
        Claims::from([(node, NodeClaims { promise, ..NodeClaims::default() })])
    };
    let error = node.update(&theirs(u64::MAX)).unwrap_err();
    assert_eq!(error, ClaimsError::Round { round: u64::MAX, node: name });
    assert!(node.claims().is_empty());
    assert!(node.update(&theirs(7)).unwrap());
    node.set_quorum(3);
    node.propose();
    assert_eq!(node.claims()[&NodeId { name, uid: 1 }].promise.round, 8);

    let many: Claims =
        (0..20_000).map(|uid| (NodeId { name, uid }, NodeClaims::default())).collect();
    assert_eq!(node.update(&many), Err(ClaimsError::TooManyNodes));
}
