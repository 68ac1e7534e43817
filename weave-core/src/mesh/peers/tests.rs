use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::mesh::peer::MAX_NICKNAME_LEN;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../tests/vectors/topology.json")).unwrap()
}

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn names(value: &Value) -> BTreeSet<PeerName> {
    value.as_array().unwrap().iter().map(|name| text(name).parse().unwrap()).collect()
}

/// A peer as the vectors describe it.
fn peer(value: &Value) -> Peer {
    let connections = value["connections"].as_array().unwrap();
    let short_id = u16::try_from(value["short_id"].as_u64().unwrap()).unwrap();
    Peer {
        name: text(&value["name"]).parse().unwrap(),
        nickname: text(&value["nickname"]).into(),
        uid: Uid(text(&value["uid"]).parse().unwrap()),
        version: value["version"].as_u64().unwrap(),
        short_id: value["has_short_id"].as_bool().unwrap().then(|| {
            // Stands for one drawn at random.
            ShortId::new(short_id).unwrap_or(DRAWN)
        }),
        connections: connections.iter().map(connection).collect(),
    }
}

const DRAWN: ShortId = ShortId::new(4095).expect("below 4096");

fn connection(value: &Value) -> PeerConnection {
    PeerConnection {
        remote: text(&value["remote"]).parse().unwrap(),
        address: text(&value["addr"]).into(),
        outbound: value["outbound"].as_bool().unwrap(),
        established: value["established"].as_bool().unwrap(),
    }
}

fn features(peer: &Peer) -> Features {
    Features {
        name: peer.name,
        nickname: peer.nickname.clone(),
        uid: peer.uid,
        connection_id: 0,
        short_id: peer.short_id,
        trusted: false,
        overlays: None,
        further: BTreeMap::new(),
    }
}

/// What a step returned, as far as the vectors tell.
#[derive(Default)]
struct Outcome {
    applied: Option<Result<Applied, UpdateError>>,
    removed: BTreeSet<PeerName>,
    effects: Effects,
}

fn run(peers: &mut Peers, step: &Value, random: &mut Random) -> Outcome {
    let args = &step["args"];
    match text(&step["op"]) {
        "connect" => {
            let remote = peer(&args["remote"]);
            let registered = peers.register(&features(&remote), true, random).unwrap();
            peers.add_connection(PeerConnection {
                remote: remote.name,
                address: text(&args["addr"]).into(),
                outbound: args["outbound"].as_bool().unwrap(),
                established: false,
            });
            if args["established"].as_bool().unwrap() {
                assert!(peers.establish_connection(remote.name));
                assert!(!peers.establish_connection(remote.name), "it is already");
            }
            Outcome { effects: registered.effects, ..Outcome::default() }
        }
        "disconnect" => {
            let remote = text(&args["remote"]).parse().unwrap();
            peers.release(remote);
            assert!(peers.remove_connection(remote));
            assert!(!peers.remove_connection(remote), "it is already gone");
            Outcome::default()
        }
        "gc" => {
            let Collected { removed, effects } = peers.collect_garbage(random);
            let removed = removed.into_iter().map(|peer| peer.name).collect();
            Outcome { removed, effects, ..Outcome::default() }
        }
        "apply_update" => {
            let payload = step.get("update_hex").map_or("", text);
            let payload = hex::decode(payload).unwrap();
            let applied = peers.apply_update(&payload, random);
            let effects = applied.as_ref().map_or(Effects::default(), |applied| applied.effects);
            Outcome { applied: Some(applied), effects, ..Outcome::default() }
        }
        op => panic!("unknown step {op}"),
    }
}

/// Steps in which this router does more than the original, by scenario and number: it outlives what
/// others make up under its own UID, and keeps nothing of it that would have to be collected.
const UNLIKE_THE_ORIGINAL: [(&str, usize); 2] = [("own-incarnation", 1), ("own-incarnation", 2)];

#[test]
fn scenarios_go_like_the_golden_ones() {
    let vectors = vectors();
    let scenarios = vectors["scenarios"].as_array().unwrap();
    assert_eq!(scenarios.len(), 10);
    for scenario in scenarios {
        let local = peer(&scenario["local"]);
        let mut random = Random::new([7; 32]);
        let mut peers = Peers::new(local.name, local.nickname, local.uid, local.short_id.unwrap());
        // The scenarios begin with a version of their own.
        peers.own_entry().peer.version = local.version;

        let mut unlisted = BTreeSet::new();
        for (number, step) in scenario["steps"].as_array().unwrap().iter().enumerate() {
            if UNLIKE_THE_ORIGINAL.contains(&(text(&scenario["name"]), number)) {
                continue;
            }
            let at = format!("{}, step {number}: {}", scenario["name"], step["note"]);
            let expect = &step["expect"];
            let before = peers.own().version;
            if let Some(version) = expect.get("local_version_before") {
                assert_eq!(before, version.as_u64().unwrap(), "{at}");
            }
            let outcome = run(&mut peers, step, &mut random);

            let removed = names(&expect["removed_by_gc"]);
            assert!(outcome.removed.is_subset(&removed), "{at}: {:?}", outcome.removed);
            let kept: BTreeSet<PeerName> = removed.difference(&outcome.removed).copied().collect();
            assert!(kept.is_subset(&unlisted), "{at}: {kept:?}");
            assert!(kept.iter().all(|name| peers.get(*name).is_none()), "{at}: {kept:?}");
            unlisted = unlisted_placeholders(&table(&expect["table"]));
            let invalidations = expect["short_id_invalidations"].as_u64().unwrap();
            assert_eq!(u64::from(outcome.effects.short_ids_changed), invalidations, "{at}");
            let reassigned = expect.get("local_short_id_reassigned").is_some();
            assert_eq!(outcome.effects.new_short_id.is_some(), reassigned, "{at}");
            match outcome.applied {
                Some(Ok(applied)) => {
                    assert_eq!(applied.names, names(&expect["update_names"]), "{at}");
                    assert_eq!(applied.delta, names(&expect["delta"]), "{at}");
                    assert_eq!(applied.effects.announce_own, peers.own().version != before, "{at}");
                }
                Some(Err(_)) => assert!(expect.get("error").is_some(), "{at}"),
                None => (),
            }
            let drawn = outcome.effects.new_short_id;
            assert_table(&peers, expect, drawn, &at);
            assert_short_ids(&peers, expect, drawn, &at);
            assert_consistent(&mut peers);
        }
    }
}

/// The placeholders in a table that no record in it has a connection to. The original makes them
/// of outdated records as well, only to collect them a second later.
fn unlisted_placeholders(table: &[Peer]) -> BTreeSet<PeerName> {
    let listed: BTreeSet<PeerName> =
        table.iter().flat_map(|peer| &peer.connections).map(|known| known.remote).collect();
    let placeholders = table.iter().filter(|peer| peer.uid == Uid(0)).map(|peer| peer.name);
    placeholders.filter(|name| !listed.contains(name)).collect()
}

fn without_unlisted(mut table: Vec<Peer>) -> Vec<Peer> {
    let unlisted = unlisted_placeholders(&table);
    table.retain(|peer| !unlisted.contains(&peer.name));
    table
}

fn table(value: &Value) -> Vec<Peer> {
    value.as_array().unwrap().iter().map(peer).collect()
}

fn assert_table(peers: &Peers, expect: &Value, drawn: Option<ShortId>, at: &str) {
    let mut expected = table(&expect["table"]);
    for peer in expected.iter_mut().filter(|peer| peer.short_id == Some(DRAWN)) {
        peer.short_id = drawn;
    }
    assert_eq!(
        without_unlisted(peers.iter().cloned().collect()),
        without_unlisted(expected),
        "{at}"
    );
    for value in expect["table"].as_array().unwrap() {
        let references = peers.references(text(&value["name"]).parse().unwrap());
        assert_eq!(references as u64, value["ref_count"].as_u64().unwrap(), "{at}");
    }
}

fn assert_short_ids(peers: &Peers, expect: &Value, drawn: Option<ShortId>, at: &str) {
    let expected = expect["short_ids"].as_array().unwrap();
    for value in expected {
        let number = u16::try_from(value["short_id"].as_u64().unwrap()).unwrap();
        let id = ShortId::new(number).or(drawn).unwrap();
        let owner: PeerName = text(&value["owner"]).parse().unwrap();
        assert_eq!(peers.short_ids().owner(id), Some(owner), "{at}");
        let others: BTreeSet<PeerName> = peers.short_ids().others(id).collect();
        assert_eq!(others, names(&value["others"]), "{at}");
    }
    assert_eq!(peers.short_ids().owned().count(), expected.len(), "{at}");
}

/// What is kept besides the records says the same as they do.
fn assert_consistent(peers: &mut Peers) {
    let links: usize = peers.iter().map(|peer| peer.connections.len()).sum();
    assert_eq!(peers.links, links);
    let anew = Graph::new(peers.iter().map(|peer| (peer.name, peer.links())));
    assert_eq!(*peers.graph(), anew);
    for entry in peers.entries.values() {
        if let Some(encoded) = entry.encoded.get() {
            assert_eq!(*encoded, update::encode(&entry.peer));
        }
        if let Some(id) = entry.peer.short_id {
            let name = entry.peer.name;
            let ids = &peers.short_ids;
            assert!(ids.owner(id) == Some(name) || ids.others(id).any(|other| other == name));
        }
    }
}

#[test]
fn peer_names_are_the_golden_ones() {
    let vectors = vectors();
    let cases = vectors["peer_names"].as_array().unwrap();
    assert_eq!(cases.len(), 32);
    for case in cases {
        let parsed = text(&case["in"]).parse::<PeerName>();
        assert_eq!(parsed.is_ok(), case["ok"].as_bool().unwrap(), "{}", case["in"]);
        let Ok(parsed) = parsed else { continue };
        assert_eq!(parsed.to_string(), text(&case["canonical"]));
        assert_eq!(parsed.to_u64().to_string(), text(&case["uint"]));
        assert_eq!(hex::encode(parsed.to_bytes()), text(&case["bytes"]));
    }
}

fn alone(number: u64) -> Peers {
    Peers::new(name(number), format!("n{number}"), Uid(number), DRAWN)
}

fn neighbour(number: u64) -> Features {
    features(&Peer { uid: Uid(number), ..Peer::placeholder(name(number)) })
}

fn to(number: u64) -> PeerConnection {
    PeerConnection::new(name(number), "192.0.2.1:6783".parse().unwrap(), true)
}

/// A payload with these records.
fn payload(records: &[Peer]) -> Vec<u8> {
    if records.is_empty() {
        return Vec::new();
    }
    let records = records.iter().flat_map(|record| update::encode(record).to_vec());
    update::definitions().iter().copied().chain(records).collect()
}

fn hub(number: u64, spokes: impl Iterator<Item = u64>) -> Peer {
    let connections = spokes.map(to).collect();
    Peer { uid: Uid(1), version: 1, connections, ..Peer::placeholder(name(number)) }
}

#[test]
fn unknown_peers_are_registered_only_where_they_were_asked_for() {
    let mut random = Random::new([0; 32]);
    let mut peers = alone(1);
    let error = RegisterError::Unknown(name(2));
    assert_eq!(peers.register(&neighbour(2), false, &mut random), Err(error));
    assert_eq!(peers.count(), 1);

    assert!(!peers.register(&neighbour(2), true, &mut random).unwrap().restarted);
    assert!(!peers.register(&neighbour(2), false, &mut random).unwrap().restarted);
    let reborn = Features { uid: Uid(99), ..neighbour(2) };
    assert!(peers.register(&reborn, false, &mut random).unwrap().restarted);
    assert_eq!((peers.references(name(2)), peers.get(name(2)).unwrap().uid), (3, Uid(2)));
}

#[test]
fn a_peer_is_kept_while_something_holds_it() {
    let mut random = Random::new([0; 32]);
    let mut peers = alone(1);
    let _ = peers.register(&neighbour(2), true, &mut random).unwrap();
    assert_eq!(peers.collect_garbage(&mut random).removed, []);
    peers.add_connection(to(2));
    peers.release(name(2));
    peers.release(name(2));
    assert_eq!(peers.collect_garbage(&mut random).removed, [], "it is reachable");
    assert!(peers.remove_connection(name(2)));
    assert_eq!(peers.collect_garbage(&mut random).removed.len(), 1);
    assert_eq!(peers.count(), 1);
}

#[test]
fn records_are_encoded_once_for_all_neighbours() {
    let mut random = Random::new([0; 32]);
    let mut peers = alone(1);
    let _ = peers.apply_update(&payload(&[hub(2, 3..5)]), &mut random).unwrap();
    let encoded = |peers: &Peers, number| peers.entries[&name(number)].encoded.get().cloned();
    assert_eq!(encoded(&peers, 2), None);
    assert_eq!(peers.encode_all().concat(), payload(&peers.iter().cloned().collect::<Vec<_>>()));
    let first = encoded(&peers, 2).unwrap();
    assert_eq!(
        peers.encode(&BTreeSet::from([name(2), name(77)])).concat(),
        payload(&[hub(2, 3..5)])
    );
    assert_eq!(encoded(&peers, 2).unwrap().as_ptr(), first.as_ptr());
    peers.add_connection(to(2));
    assert_eq!(encoded(&peers, 1), None, "the own record changed");
    assert!(encoded(&peers, 2).is_some(), "the other one did not");
    assert_eq!(peers.encode(&BTreeSet::new()), Vec::<Bytes>::new());
}

#[test]
fn a_large_table_goes_in_several_payloads() {
    let mut random = Random::new([0; 32]);
    let mut peers = alone(1);
    for number in 2..102 {
        let _ = peers.apply_update(&payload(&[hub(number, 2..1002)]), &mut random).unwrap();
    }
    let payloads = peers.encode_all();
    assert!(payloads.len() > 2);
    assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD_LEN));
    let mut other = alone(5000);
    for payload in payloads {
        let _ = other.apply_update(&payload, &mut random).unwrap();
    }
    assert_eq!(other.count(), peers.count() + 1);
    assert_eq!(other.get(name(50)), peers.get(name(50)));
}

/// A record that confirms a link to each of these.
fn spoke(number: u64, hubs: &[u64]) -> Peer {
    let connections = hubs.iter().map(|hub| to(*hub)).collect();
    Peer { uid: Uid(1), version: 1, connections, ..Peer::placeholder(name(number)) }
}

/// A neighbour that this process has a connection to.
fn meet(peers: &mut Peers, number: u64) {
    let mut random = Random::new([0; 32]);
    let _ = peers.register(&neighbour(number), true, &mut random).unwrap();
    peers.add_connection(to(number));
}

/// A member that tells of so many invented peers, and their confirming records.
fn inventor(number: u64, version: u64, invented: std::ops::Range<u64>) -> Vec<Peer> {
    let hub = Peer { version, ..hub(number, std::iter::once(1).chain(invented.clone())) };
    std::iter::once(hub).chain(invented.map(|spoke_of| spoke(spoke_of, &[number]))).collect()
}

#[test]
fn what_is_beyond_the_limit_is_dropped_record_by_record() {
    let mut random = Random::new([0; 32]);
    let mut peers = alone(1);
    meet(&mut peers, 2);
    meet(&mut peers, 3);
    let fits = payload(&inventor(2, 5, 10_000..12_200));
    assert_eq!(peers.apply_update(&fits, &mut random).unwrap().dropped, 0);
    // What an honest neighbour passes on: 2,200 others that a second member invented, and among
    // them a peer that exists.
    let mut passed_on = vec![hub(3, [1, 4, 5].into_iter()), spoke(5, &[3])];
    passed_on.extend(inventor(4, 5, 20_000..22_200));
    passed_on[2].connections = [3].into_iter().chain(20_000..22_200).map(to).collect();
    let applied = peers.apply_update(&payload(&passed_on), &mut random).unwrap();
    assert_eq!(peers.count(), MAX_PEERS);
    assert!(applied.dropped > 0 && applied.delta.len() > 2000, "{}", applied.dropped);
    assert!(applied.delta.contains(&name(5)));
    // Both have about half of the table, and the peers that exist are all there.
    let count = |from| peers.names().filter(|n| (from..from + 3000).contains(&n.to_u64())).count();
    assert!(count(10_000).abs_diff(count(20_000)) < 10);
    for real in 1..=5 {
        assert!(peers.get(name(real)).is_some_and(|peer| peer.uid != Uid(0)), "{real}");
    }
    assert_consistent(&mut peers);

    // Newcomers have precedence, here and at the neighbour.
    meet(&mut peers, 6);
    let news = [Peer { version: 9, ..hub(3, [1, 4, 5, 7].into_iter()) }, spoke(7, &[3])];
    let applied = peers.apply_update(&payload(&news), &mut random).unwrap();
    assert_eq!(applied.delta, BTreeSet::from([name(3), name(7)]));
    assert_eq!(applied.removed.len(), 1, "one that was invented makes room");
    assert!(peers.get(name(6)).is_some() && peers.get(name(7)).is_some());
    assert_eq!(peers.count(), MAX_PEERS);
    assert_consistent(&mut peers);
}

#[test]
fn more_invented_peers_take_from_their_own_branch() {
    let mut random = Random::new([0; 32]);
    let mut peers = alone(1);
    peers.limits.peers = 100;
    meet(&mut peers, 2);
    meet(&mut peers, 3);
    // A line of honest peers behind 3: 3 - 10 - 11 - ... - 29.
    let mut line = vec![hub(3, [1, 10].into_iter())];
    line.extend((10..30).map(|n| spoke(n, &[if n == 10 { 3 } else { n - 1 }, n + 1])));
    let _ = peers.apply_update(&payload(&line), &mut random).unwrap();
    for (version, first) in [(5, 1000), (6, 3000), (7, 5000)] {
        let update = payload(&inventor(2, version, first..first + 500));
        let _ = peers.apply_update(&update, &mut random).unwrap();
        assert_eq!(peers.count(), 100);
        let kept = (10..30).filter(|n| peers.get(name(*n)).is_some()).count();
        assert_eq!(kept, 20, "however far away they are");
    }
    assert_consistent(&mut peers);
}

#[test]
fn what_is_merely_claimed_makes_room_for_what_links_lead_to() {
    let mut random = Random::new([0; 32]);
    let mut peers = alone(1);
    peers.limits.peers = 50;
    meet(&mut peers, 2);
    let claims = payload(&[hub(2, std::iter::once(1).chain(100..1000))]);
    let _ = peers.apply_update(&claims, &mut random).unwrap();
    assert_eq!(peers.count(), 50, "placeholders, as many as there is room for");
    meet(&mut peers, 3);
    let news = payload(&[hub(3, [1, 4].into_iter()), spoke(4, &[3])]);
    let applied = peers.apply_update(&news, &mut random).unwrap();
    assert_eq!((applied.dropped, peers.count()), (0, 50));
    assert!(peers.get(name(3)).is_some() && peers.get(name(4)).is_some());
    assert_consistent(&mut peers);
}

#[test]
fn a_neighbour_finds_room_in_a_full_table_unless_all_are_neighbours() {
    let mut random = Random::new([0; 32]);
    let mut peers = alone(1);
    peers.limits.peers = 10;
    meet(&mut peers, 2);
    let _ = peers.apply_update(&payload(&inventor(2, 5, 100..200)), &mut random).unwrap();
    for number in 3..11 {
        let registered = peers.register(&neighbour(number), true, &mut random).unwrap();
        assert_eq!((registered.removed.len(), peers.count()), (1, 10));
    }
    let error = RegisterError::Full(name(11));
    assert_eq!(peers.register(&neighbour(11), true, &mut random), Err(error));
    assert_consistent(&mut peers);
}

#[test]
fn connections_are_shared_like_peers() {
    let mut random = Random::new([0; 32]);
    let mut peers = alone(1);
    let connections = vec![to(3); update::MAX_CONNECTIONS + 1];
    let claim = payload(&[Peer { connections, ..hub(2, 0..0) }]);
    let applied = peers.apply_update(&claim, &mut random).unwrap();
    assert_eq!((applied.dropped, applied.names.len(), peers.count()), (1, 0, 1));

    peers.limits.links = 200;
    meet(&mut peers, 2);
    meet(&mut peers, 3);
    let honest = [hub(3, [1, 4].into_iter()), spoke(4, &[3, 5]), spoke(5, &[4])];
    let _ = peers.apply_update(&payload(&honest), &mut random).unwrap();
    let mut greedy = inventor(2, 5, 100..120);
    greedy[1..].iter_mut().for_each(|spoke| spoke.connections.extend((500..540).map(to)));
    let applied = peers.apply_update(&payload(&greedy), &mut random).unwrap();
    assert!(applied.dropped >= 15 && peers.links <= 200, "{} {}", applied.dropped, peers.links);
    for real in 1..=5 {
        assert!(peers.get(name(real)).is_some_and(|peer| peer.uid != Uid(0)), "{real}");
    }
    assert_consistent(&mut peers);
}

#[test]
fn what_is_odd_but_harmless_is_put_right() {
    let mut random = Random::new([0; 32]);
    let mut peers = alone(1);
    let odd = Peer {
        nickname: "\u{e9}".repeat(MAX_NICKNAME_LEN),
        connections: vec![
            PeerConnection { remote: PeerName::UNKNOWN, ..to(3) },
            PeerConnection { address: "a:1".repeat(100).as_str().into(), ..to(3) },
            PeerConnection { address: "host:6783".into(), ..to(4) },
        ],
        ..hub(2, 0..0)
    };
    let red = Peer { nickname: "\u{1b}[31mred\n".into(), ..hub(9, 0..0) };
    let nobody = Peer { name: PeerName::UNKNOWN, ..hub(2, 5..6) };
    let applied = peers.apply_update(&payload(&[nobody, odd, red]), &mut random).unwrap();
    assert_eq!(applied.names, BTreeSet::from([name(2), name(9)]));
    assert_eq!(peers.get(name(9)).unwrap().nickname, "\u{fffd}[31mred\u{fffd}");
    let kept = peers.get(name(2)).unwrap();
    assert_eq!(kept.nickname, "\u{e9}".repeat(MAX_NICKNAME_LEN / 2));
    assert_eq!(kept.connections.len(), 2);
    assert_eq!(kept.connection(name(3)).unwrap().address.to_string(), "");
    let address = &kept.connection(name(4)).unwrap().address;
    assert_eq!((address.to_string().as_str(), address.socket()), ("host:6783", None));
    assert_eq!(peers.names().map(PeerName::to_u64).collect::<Vec<_>>(), [1, 2, 3, 4, 9]);
}

#[test]
fn the_last_short_id_is_waited_for() {
    let mut random = Random::new([0; 32]);
    let mut peers = Peers::new(name(9000), String::new(), Uid(1), DRAWN);
    // A router that has every id, by way of peers that nothing leads to.
    for id in (0..ShortId::COUNT).filter_map(ShortId::new) {
        let _ = peers.short_ids.register(id, name(u64::from(id.get()) + 1));
    }
    let _ = peers.register(&neighbour(5000), true, &mut random).unwrap();
    assert_eq!(peers.own().short_id, Some(DRAWN), "there is none to move to");

    let _ = peers.short_ids.unregister(ShortId::new(17).unwrap(), name(18));
    peers.release(name(5000));
    let collected = peers.collect_garbage(&mut random);
    assert_eq!(collected.effects.new_short_id, ShortId::new(17));
    assert!(collected.effects.announce_own);
    assert_eq!(peers.own().short_id, ShortId::new(17));
}

/// Copies of records: the edition determines what is in it, unless somebody lies.
fn some_record() -> impl Strategy<Value = Peer> {
    let edition = (2u64..12, 1u64..3, 1u64..4, any::<bool>(), 0u64..3);
    edition.prop_map(|(number, uid, version, has_short_id, lie)| {
        let seed = number * 7 + uid * 5 + version * 3 + lie * 11;
        let remotes: BTreeSet<u64> = (0..seed % 5).map(|k| (seed * (k + 3)) % 14 + 1).collect();
        let short_id = u16::try_from(seed % 6).ok().and_then(ShortId::new);
        let connections = remotes
            .into_iter()
            .filter(|remote| *remote != number)
            .map(|remote| PeerConnection { established: (seed + remote) % 3 > 0, ..to(remote) });
        Peer {
            name: name(number),
            nickname: format!("nick{number}.{uid}"),
            uid: Uid(uid),
            version,
            short_id: short_id.filter(|_| has_short_id),
            connections: connections.collect(),
        }
    })
}

fn some_updates() -> impl Strategy<Value = Vec<Vec<Peer>>> {
    proptest::collection::vec(proptest::collection::vec(some_record(), 0..6), 1..6)
}

/// The records without the own one, whose version and short id depend on the history.
fn others(peers: &Peers) -> Vec<Peer> {
    peers.iter().filter(|peer| peer.name != peers.own).cloned().collect()
}

fn merged(updates: &[Vec<Peer>]) -> Peers {
    let mut random = Random::new([5; 32]);
    let mut peers = alone(1);
    for update in updates {
        let before: BTreeMap<PeerName, Peer> =
            peers.iter().map(|peer| (peer.name, peer.clone())).collect();
        let applied = peers.apply_update(&payload(update), &mut random).unwrap();
        for peer in others(&peers) {
            // Placeholders are not news: nothing is known of them.
            let news = before.get(&peer.name) != Some(&peer) && peer.uid != Uid(0);
            assert_eq!(applied.delta.contains(&peer.name), news);
        }
    }
    peers
}

proptest! {
    #[test]
    fn the_order_of_updates_does_not_matter(updates in some_updates()) {
        let forward = merged(&updates);
        let mut reversed: Vec<Vec<Peer>> = updates.clone();
        reversed.reverse();
        reversed.iter_mut().for_each(|update| update.reverse());
        let backward = merged(&reversed);
        // Placeholders for what only a record mentioned that is now outdated wait for the
        // collection.
        let known = |peers: &Peers| {
            others(peers).into_iter().filter(|peer| peer.uid != Uid(0)).collect::<Vec<_>>()
        };
        prop_assert_eq!(known(&forward), known(&backward));

        let mut random = Random::new([6; 32]);
        let mut collected = [forward, backward].map(|mut peers| {
            let _ = peers.register(&neighbour(2), true, &mut random).unwrap();
            peers.add_connection(to(2));
            let _ = peers.collect_garbage(&mut random);
            peers
        });
        // Of a neighbour without a record, what is known depends on whether somebody told of it.
        let kept = |peers: &Peers| {
            let placeholder = |peer: Peer| Peer::placeholder(peer.name);
            let kept = others(peers).into_iter();
            kept.map(|p| if p.version == 0 { placeholder(p) } else { p }).collect::<Vec<_>>()
        };
        prop_assert_eq!(kept(&collected[0]), kept(&collected[1]));
        collected.iter_mut().for_each(assert_consistent);
    }

    #[test]
    fn what_was_seen_is_no_news(updates in some_updates()) {
        let mut random = Random::new([5; 32]);
        let mut peers = merged(&updates);
        let table: Vec<Peer> = peers.iter().cloned().collect();
        for update in &updates {
            let applied = peers.apply_update(&payload(update), &mut random).unwrap();
            prop_assert_eq!(applied.delta, BTreeSet::new());
            prop_assert_eq!(applied.effects, Effects::default());
        }
        for payload in peers.encode_all() {
            let applied = peers.apply_update(&payload, &mut random).unwrap();
            prop_assert_eq!(applied.delta, BTreeSet::new());
        }
        prop_assert_eq!(peers.iter().cloned().collect::<Vec<_>>(), table);
        assert_consistent(&mut peers);
    }

    #[test]
    fn a_table_survives_its_encoding(updates in some_updates()) {
        let mut random = Random::new([5; 32]);
        let sender = merged(&updates);
        let mut receiver = Peers::new(name(100), String::new(), Uid(1), DRAWN);
        for payload in sender.encode_all() {
            let _ = receiver.apply_update(&payload, &mut random).unwrap();
        }
        let received = others(&receiver);
        prop_assert_eq!(received, sender.iter().cloned().collect::<Vec<_>>());
    }

    #[test]
    fn no_payload_makes_it_panic(
        updates in some_updates(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut random = Random::new([5; 32]);
        let mut peers = alone(1);
        let mut bytes = payload(&updates.concat());
        for (at, byte) in changes {
            let at = at.index(bytes.len().max(1));
            bytes.get_mut(at).into_iter().for_each(|place| *place = byte);
        }
        let before: Vec<Peer> = peers.iter().cloned().collect();
        if peers.apply_update(&bytes, &mut random).is_err() {
            prop_assert_eq!(peers.iter().cloned().collect::<Vec<_>>(), before);
        }
        assert_consistent(&mut peers);
        let _ = peers.collect_garbage(&mut random);
        assert_consistent(&mut peers);
    }
}
