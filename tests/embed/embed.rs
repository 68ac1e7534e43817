//! A program that embeds nodes: three in one process, and one with a bridge.
//!
//! ```text
//!   station ── port ── one ══[memory]══ two ── port ── station
//!                       ╚═══[sleeve]═══ three ── port ── station
//! ```
//!
//! The scenarios run one after the other, since all of them count what the process has, each in a
//! network namespace of its own, for which the test needs root.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod leftovers;
mod memory;
mod port;

use std::time::Duration;

use leftovers::{Leftovers, in_namespace};
use memory::Memory;
use port::Station;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use weave_node::api::report::Report;
use weave_node::core::mesh::PeerName;
use weave_node::{Bridge, Builder, Event, Events, GossipFailure, MemoryStore, Node};

/// For what takes some milliseconds when nothing else runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What these nodes tell each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Place {
    room: String,
    seats: u32,
}

fn builder(number: u8, station: &Station) -> Builder {
    Node::builder()
        .nickname(format!("node{number}"))
        .listen(([127, 0, 0, number], 6783).into())
        .password("correct horse battery staple")
        .store(MemoryStore::new())
        .bridge(Bridge::port(station.clone()))
        .ipam("10.32.0.0/24".parse().unwrap())
}

async fn until(events: &mut Events, mut is_it: impl FnMut(&Event) -> bool) -> Event {
    let next = async {
        loop {
            let event = events.next().await.expect("the node runs");
            if is_it(&event) {
                return event;
            }
        }
    };
    timeout(PATIENCE, next).await.expect("the event comes")
}

/// Waits for what can only be asked for.
async fn poll<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answer = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, answer).await.expect("the condition holds at last")
}

/// The transport in use to a neighbour.
fn transport(report: &Report, peer: PeerName) -> Option<String> {
    let connections = &report.router.connections;
    let to_peer = connections.iter().find(|c| c.peer == peer.to_string())?;
    Some(to_peer.attrs.as_ref()?.get("name")?.as_str()?.to_owned())
}

async fn three_nodes() {
    let stations = [Station::default(), Station::default(), Station::default()];
    let memory = Memory::default();
    let one = builder(1, &stations[0]).overlay(memory.clone()).start().await.unwrap();
    let two = builder(2, &stations[1]).overlay(memory.clone()).peers(["127.0.0.1"]);
    let two = two.start().await.unwrap();
    let mut events = one.events();
    let (send, source) = tokio::sync::mpsc::channel(1);
    let three = builder(3, &stations[2]).peer_source(source).start().await.unwrap();
    send.send(vec!["127.0.0.1".to_owned()]).await.unwrap();

    let mut missing = vec![two.name(), three.name()];
    until(&mut events, |event| {
        missing.retain(|peer| *event != Event::PeerUp(*peer));
        missing.is_empty()
    })
    .await;
    let report = one.report().await.unwrap();
    assert_eq!(transport(&report, two.name()).as_deref(), Some("memory"));
    assert_eq!(transport(&report, three.name()).as_deref(), Some("sleeve"));

    // Frames: one floods, and each of the others answers over its own transport.
    stations[0].reaches(&memory, one.name(), &[&stations[1], &stations[2]]).await;

    // Addresses.
    let addresses = [one.ipam(), two.ipam(), three.ipam()];
    let given = addresses[0].allocate("job-1").await.unwrap();
    let other = addresses[1].allocate("job-2").await.unwrap();
    assert_ne!(given.address(), other.address());
    assert_eq!(addresses[0].allocate("job-1").await.unwrap(), given, "the same again");
    assert!(addresses[2].claim("job-3", given).await.is_err(), "it is taken");
    let holder = "job-1".to_owned();
    let wanted = Event::AddressGiven { holder: holder.clone(), cidr: given };
    until(&mut events, |event| *event == wanted).await;
    addresses[0].release_all("job-1").await.unwrap();
    let wanted = Event::AddressReturned { holder, cidr: given };
    until(&mut events, |event| *event == wanted).await;
    assert!(addresses[0].holders().is_empty());

    // Gossip of one's own.
    let places = one.gossip::<Place>("places").await.unwrap();
    let theirs = three.gossip::<Place>("places").await.unwrap();
    assert!(matches!(
        one.gossip::<Place>("places").await,
        Err(GossipFailure::InUse(name)) if name == "places"
    ));
    let place = Place { room: "cellar".to_owned(), seats: 3 };
    places.publish(&place).await.unwrap();
    assert_eq!(poll(async || theirs.get(one.name())).await, place);
    let endless = Place { room: "x".repeat(weave_node::MAX_VALUE), seats: 0 };
    assert!(matches!(places.publish(&endless).await, Err(GossipFailure::TooLong(_))));

    // A source that names nobody any more: the node stops connecting, and has nothing to remember.
    send.send(Vec::new()).await.unwrap();
    let targets = async || three.report().await.unwrap().router.targets.is_empty().then_some(());
    poll(targets).await;

    let name = two.name();
    two.shut_down().await;
    until(&mut events, |event| *event == Event::PeerDown(name)).await;
    three.shut_down().await;
    one.shut_down().await;
    let rest = async { while events.next().await.is_some() {} };
    timeout(PATIENCE, rest).await.expect("the stream ends");
    assert!(places.publish(&place).await.is_err(), "the node is gone");
    drop(addresses);
}

fn three_nodes_in_one_process_leave_nothing() {
    in_namespace(|| {
        let before = Leftovers::now();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(three_nodes());
        runtime.shutdown_timeout(PATIENCE);
        before.assert_unchanged(&[]);
    });
}

fn a_node_with_a_bridge_leaves_that_alone() {
    in_namespace(|| {
        let before = Leftovers::now();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let node = Node::builder()
                .nickname("edge")
                .store(MemoryStore::new())
                .bridge(Bridge::named("weave").mtu(1400))
                .start()
                .await
                .unwrap();
            assert!(Leftovers::now().interfaces().contains("weave"));
            let report = node.report().await.unwrap();
            assert_eq!(report.router.nick_name, "edge");
            node.shut_down().await;
        });
        runtime.shutdown_timeout(PATIENCE);
        // Containers would be on it, and go on speaking to each other.
        before.assert_unchanged(&["weave"]);
    });
}

fn what_cannot_be_had_is_said() {
    in_namespace(|| {
        let before = Leftovers::now();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let station = Station::default();
            let one = builder(1, &station).start().await.unwrap();
            let error = builder(1, &station).start().await.unwrap_err().to_string();
            assert!(error.contains("127.0.0.1:6783"), "{error}");
            let none = builder(2, &station).ipam("10.32.0.0/30".parse().unwrap());
            let none = none.overlay(memory::Broken).start().await.unwrap_err().to_string();
            assert!(none.contains("out of order"), "{none}");
            one.shut_down().await;
        });
        runtime.shutdown_timeout(PATIENCE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(builder(1, &Station::default()).start()).unwrap_err();
        assert!(error.to_string().contains("several threads"), "{error}");
        drop(runtime);
        before.assert_unchanged(&[]);
    });
}

#[test]
fn an_embedder_gets_what_the_interface_says_and_nothing_is_left() {
    three_nodes_in_one_process_leave_nothing();
    a_node_with_a_bridge_leaves_that_alone();
    what_cannot_be_had_is_said();
}
