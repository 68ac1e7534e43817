//! The real client against an API server that fails, forgets and comes back.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::annotations::{Annotations, Listed};
use crate::api::ApiError;
use crate::fake::Fake;
use crate::follow::follow;
use crate::nodes::Nodes;
use crate::reclaim::Identity;
use crate::state::State;
use crate::upkeep::{Reclaimer, TakeOver, keep_condition};
use crate::watching::Pauses;

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSES: Pauses =
    Pauses { first: Duration::from_millis(1), longest: Duration::from_millis(20) };

/// Follows the nodes of a server while something goes on.
async fn following(fake: &Fake, story: impl AsyncFnOnce(watch::Receiver<Nodes>, &State)) {
    let (api, state) = (fake.api(), State::new("a"));
    let nodes = watch::Sender::new(Nodes::default());
    let told = nodes.subscribe();
    timeout(LIMIT, async {
        tokio::select! {
            () = follow(&api, PAUSES, 0.0, &nodes, &state) => panic!("it ended"),
            () = story(told, &state) => {}
        }
    })
    .await
    .expect("it takes too long");
}

async fn until_peers(nodes: &mut watch::Receiver<Nodes>, expected: &[&str]) {
    nodes.wait_for(|nodes| nodes.peers("a") == expected).await.unwrap();
}

#[tokio::test]
async fn peers_follow_the_nodes() {
    let fake = Fake::start().await;
    for (name, address) in [("a", "192.0.2.1"), ("b", "192.0.2.2"), ("c", "192.0.2.3")] {
        fake.set_node(name, address);
    }
    following(&fake, async |mut nodes, state| {
        until_peers(&mut nodes, &["192.0.2.2", "192.0.2.3"]).await;
        fake.set_node("d", "192.0.2.4");
        until_peers(&mut nodes, &["192.0.2.2", "192.0.2.3", "192.0.2.4"]).await;
        fake.remove_node("b");
        fake.set_node("c", "192.0.2.33");
        until_peers(&mut nodes, &["192.0.2.33", "192.0.2.4"]).await;
        assert!(nodes.borrow().are_all("a"));
        assert_eq!(state.report().nodes, 3);
        // Two pages of the list, and one watch.
        assert_eq!(fake.requests().len(), 3, "{:?}", fake.requests());
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let fake = Fake::start().await;
    fake.set_node("a", "192.0.2.1");
    following(&fake, async |mut nodes, _| {
        nodes.wait_for(|nodes| nodes.are_all("a")).await.unwrap();
        for number in 2..6 {
            fake.end_watches();
            fake.set_node("b", &format!("192.0.2.{number}"));
            until_peers(&mut nodes, &[&format!("192.0.2.{number}")]).await;
        }
        let lists = fake.requests().iter().filter(|line| !line.contains("watch=true")).count();
        assert_eq!(lists, 1);
    })
    .await;
}

#[tokio::test]
async fn what_the_server_forgot_is_listed() {
    let fake = Fake::start().await;
    fake.set_node("a", "192.0.2.1");
    fake.set_node("b", "192.0.2.2");
    following(&fake, async |mut nodes, _| {
        until_peers(&mut nodes, &["192.0.2.2"]).await;
        fake.remove_node("b");
        fake.set_node("c", "192.0.2.3");
        fake.compact();
        fake.end_watches();
        until_peers(&mut nodes, &["192.0.2.3"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_away_changes_nothing_and_is_caught_up_with() {
    let fake = Fake::start().await;
    fake.set_node("a", "192.0.2.1");
    fake.set_node("b", "192.0.2.2");
    following(&fake, async |mut nodes, state| {
        until_peers(&mut nodes, &["192.0.2.2"]).await;
        for code in [0, 500] {
            let before = nodes.borrow().peers("a");
            fake.refuse(code, "etcd is away");
            let asked = fake.requests().len();
            while fake.requests().len() < asked + 3 {
                tokio::task::yield_now().await;
            }
            assert!(!state.report().reachable);
            assert!(state.report().last_error.contains("does not answer"));
            assert_eq!(nodes.borrow().peers("a"), before);
            fake.answer();
            fake.set_node("b", &format!("192.0.2.{}", 100 + code / 10));
            let expected = format!("192.0.2.{}", 100 + code / 10);
            until_peers(&mut nodes, &[&expected]).await;
            assert!(state.report().reachable);
        }
    })
    .await;
}

#[tokio::test]
async fn missing_rights_are_one_clear_line() {
    let fake = Fake::start().await;
    fake.refuse(403, "nodes is forbidden: User \"weave-net\" cannot list resource \"nodes\"");
    following(&fake, async |_, state| {
        while state.report().last_error.is_empty() {
            tokio::task::yield_now().await;
        }
        let error = state.report().last_error;
        assert!(
            error.starts_with("list nodes: the API server does not let the router do this: nodes")
        );
        assert!(error.ends_with("(`weave kube manifest`)") && !error.contains('\n'), "{error}");
    })
    .await;
}

/// A router that is asked to take over peers.
#[derive(Default)]
struct Router {
    taken: Mutex<Vec<String>>,
    reachable: Vec<String>,
}

impl TakeOver for &Router {
    async fn take_over(&self, peer: &str) -> Result<Option<u32>, String> {
        if self.reachable.iter().any(|other| other == peer) {
            return Ok(None);
        }
        self.taken.lock().unwrap().push(peer.to_owned());
        Ok(Some(7))
    }
}

const PEERS: &str = "kube-peers.weave.works/peers";

fn peer(name: &str) -> String {
    format!("00:00:00:00:00:{name}")
}

fn identity(name: &str) -> Identity {
    Identity { peer: peer(name), node: name.to_owned() }
}

fn list(names: &[&str]) -> String {
    let listed = |name: &&str| Listed { peer: peer(name), node: (*name).to_owned() };
    let mut annotations = Annotations::default();
    annotations.set_peers(names.iter().map(listed).collect());
    annotations.0[PEERS].clone()
}

fn annotations(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Lets a router reclaim once; returns whom it took over, and how that ended.
async fn reclaim(fake: &Fake, name: &str, router: &Router) -> Result<Vec<String>, ApiError> {
    let (api, own, state) = (fake.api(), identity(name), State::new(name));
    let (nodes, _) = api.list_nodes().await.unwrap();
    let mut reclaimer = Reclaimer::new(&api, &own, &state, router, 0.5);
    reclaimer.lost = Duration::from_millis(1);
    let left = timeout(LIMIT, reclaimer.reclaim(&nodes)).await.expect("it takes too long")?;
    let left: Vec<_> = left.into_iter().map(|left| left.peer).collect();
    assert_eq!(left, router.reachable);
    let taken = router.taken.lock().unwrap().clone();
    assert_eq!(state.report().reclaimed_addresses, 7 * taken.len() as u64);
    Ok(taken)
}

#[tokio::test]
async fn the_first_router_makes_the_map() {
    let fake = Fake::start().await;
    fake.set_node("0a", "192.0.2.1");
    let router = Router::default();
    assert_eq!(reclaim(&fake, "0a", &router).await, Ok(Vec::new()));
    assert_eq!(fake.annotations(), annotations(&[(PEERS, &list(&["0a"]))]));
}

#[tokio::test]
async fn a_node_that_is_gone_is_reclaimed_by_one_write_after_the_lock() {
    let fake = Fake::start().await;
    fake.set_node("0a", "192.0.2.1");
    fake.set_annotation(PEERS, &list(&["0a", "0b"]));
    fake.set_annotation("of.another/program", "x");
    let router = Router::default();
    assert_eq!(reclaim(&fake, "0a", &router).await, Ok(vec![peer("0b")]));
    let expected = [("of.another/program", "x"), (PEERS, &list(&["0a"]))];
    assert_eq!(fake.annotations(), annotations(&expected));
    let writes = fake.requests().iter().filter(|line| line.starts_with("PUT")).count();
    assert_eq!(writes, 2);
}

#[tokio::test]
async fn who_loses_the_race_for_a_lock_leaves_it() {
    let fake = Fake::start().await;
    fake.set_node("0a", "192.0.2.1");
    fake.set_node("0c", "192.0.2.3");
    fake.set_annotation(PEERS, &list(&["0a", "0b", "0c"]));
    fake.rival(|annotations| {
        annotations["kube-peers.weave.works/00_00_00_00_00_0b"] = peer("0c").into();
    });
    let router = Router::default();
    assert_eq!(reclaim(&fake, "0a", &router).await, Ok(Vec::new()));
    let other = Router::default();
    assert_eq!(reclaim(&fake, "0c", &other).await, Ok(vec![peer("0b")]));
    assert_eq!(fake.annotations(), annotations(&[(PEERS, &list(&["0a", "0c"]))]));
}

#[tokio::test]
async fn what_was_taken_over_is_written_down_whoever_else_writes() {
    let fake = Fake::start().await;
    fake.set_node("0a", "192.0.2.1");
    fake.set_annotation(PEERS, &list(&["0a", "0b"]));
    fake.set_annotation("kube-peers.weave.works/00_00_00_00_00_0b", &peer("0a"));
    for number in 0..3 {
        fake.rival(move |annotations| annotations["other"] = number.to_string().into());
    }
    let router = Router::default();
    assert_eq!(reclaim(&fake, "0a", &router).await, Ok(vec![peer("0b")]));
    assert_eq!(fake.annotations(), annotations(&[("other", "2"), (PEERS, &list(&["0a"]))]));
}

#[tokio::test]
async fn a_node_that_came_back_meanwhile_is_left_alone() {
    let fake = Fake::start().await;
    fake.set_node("0a", "192.0.2.1");
    fake.set_annotation(PEERS, &list(&["0a", "0b"]));
    let (api, own, state) = (fake.api(), identity("0a"), State::new("0a"));
    let (before, _) = api.list_nodes().await.unwrap();
    fake.set_node("0b", "192.0.2.2");
    let router = Router::default();
    let reclaimer = Reclaimer::new(&api, &own, &state, &router, 0.0);
    reclaimer.reclaim(&before).await.unwrap();
    assert!(router.taken.lock().unwrap().is_empty());
    assert_eq!(fake.annotations(), annotations(&[(PEERS, &list(&["0a", "0b"]))]));
}

#[tokio::test]
async fn a_router_that_runs_without_its_node_keeps_its_addresses() {
    let fake = Fake::start().await;
    fake.set_node("0a", "192.0.2.1");
    fake.set_annotation(PEERS, &list(&["0a", "0b", "0c"]));
    let router = Router { reachable: vec![peer("0b")], ..Router::default() };
    assert_eq!(reclaim(&fake, "0a", &router).await, Ok(vec![peer("0c")]));
    let peers = &fake.annotations()[PEERS];
    assert_eq!(*peers, list(&["0a", "0b"]));
}

#[tokio::test]
async fn a_map_that_makes_no_sense_is_told_of_and_kept() {
    let fake = Fake::start().await;
    fake.set_node("0a", "192.0.2.1");
    fake.set_annotation(PEERS, "nonsense");
    let router = Router::default();
    let error = reclaim(&fake, "0a", &router).await.unwrap_err().to_string();
    assert!(error.starts_with("annotation kube-peers.weave.works/peers of ConfigMap"), "{error}");
    assert_eq!(fake.annotations()[PEERS], "nonsense");
}

#[tokio::test]
async fn the_condition_is_set_whenever_somebody_resets_it() {
    let fake = Fake::start().await;
    fake.set_node("a", "192.0.2.1");
    let api = fake.api();
    following(&fake, async |mut nodes, state| {
        let unavailable = |nodes: &Nodes| nodes.find("a").and_then(|node| node.network_unavailable);
        let pause = Duration::from_millis(1);
        let keeping = keep_condition(&api, "a", state, pause, nodes.clone());
        let story = async {
            nodes.wait_for(|nodes| unavailable(nodes) == Some(false)).await.unwrap();
            for _ in 0..3 {
                let patches = fake.patches().len();
                fake.set_condition("a", "True");
                while fake.patches().len() == patches {
                    tokio::task::yield_now().await;
                }
                nodes.wait_for(|nodes| unavailable(nodes) == Some(false)).await.unwrap();
            }
        };
        tokio::select! { () = keeping => panic!("it ended"), () = story => {} }
    })
    .await;
    let condition = &fake.patches()[0]["status"]["conditions"][0];
    assert_eq!(condition["type"], "NetworkUnavailable");
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&"False".into(), &"WeaveIsUp".into())
    );
    assert!(condition["lastHeartbeatTime"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn warnings_are_events_of_the_node_as_far_as_that_is_allowed() {
    let fake = Fake::start().await;
    let (api, state) = (fake.api(), State::new("a"));
    state.warn(&api, "a", "TooFewConnections", "CONN_LIMIT=1 is less").await;
    let events = fake.events();
    assert_eq!(events[0]["note"], "CONN_LIMIT=1 is less");
    assert_eq!(events[0]["regarding"]["name"], "a");
    fake.refuse(403, "events is forbidden");
    state.warn(&api, "a", "TooFewConnections", "again").await;
    state.warn(&api, "a", "TooFewConnections", "and again").await;
    let asked = fake.requests().iter().filter(|line| line.contains("/events")).count();
    assert_eq!(asked, 2);
}
