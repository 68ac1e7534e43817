//! The rules of spec mesh.md, one by one.

use super::*;
use crate::Cidr;

#[test]
fn a_refused_duplicate_makes_the_kept_one_prove_that_it_is_alive() {
    for connection_id in 0..32 {
        let mut bench = Bench::new();
        let mut first = bench.meet(features(2));
        bench.heard(&mut first);
        let second = bench.meet(Features { connection_id: connection_id << 59, ..features(2) });
        if bench.is_closed(&second) {
            assert_eq!(bench.tags(&mut first), [0]);
            return;
        }
    }
    panic!("no duplicate was refused");
}

#[test]
fn heartbeats_go_out_every_half_minute() {
    let mut bench = Bench::new();
    let mut remote = bench.meet(features(2));
    bench.pass(5 * SECOND);
    bench.heard(&mut remote);
    let mut heartbeats = 0;
    for _ in 0..10 {
        bench.pass(30 * SECOND);
        heartbeats += bench.tags(&mut remote).iter().filter(|tag| **tag == 0).count();
        bench.say(&mut remote, &Message::Heartbeat);
    }
    assert_eq!(heartbeats, 10);
    assert!(!bench.is_closed(&remote));
}

#[test]
fn a_silent_peer_is_given_up_after_a_minute() {
    let mut bench = Bench::new();
    let remote = bench.meet(features(2));
    bench.pass(59 * SECOND);
    assert!(!bench.is_closed(&remote));
    bench.pass(SECOND);
    assert_eq!(bench.end_of(remote.id), Some(&ConnectionError::ReadTimeout(60 * SECOND)));
    assert_eq!(bench.mesh.peers().count(), 1, "collected at once");
}

#[test]
fn the_original_gets_records_and_we_get_an_inventory() {
    let mut bench = Bench::new();
    let mut legacy = bench.meet(legacy_features(2));
    assert_eq!(bench.tags(&mut legacy), [4], "the complete state, to a peer without routes");
    let mut own = bench.meet(features(3));
    assert_eq!(bench.tags(&mut own), [64]);
    // A second later the change of the own record is announced.
    bench.pass(2 * SECOND);
    assert_eq!(bench.tags(&mut legacy), [4]);
    assert_eq!(bench.tags(&mut own), [64]);
    // And from time to time the complete state.
    bench.pass(28 * SECOND);
    let tags = bench.tags(&mut legacy);
    assert!(tags.contains(&4) && tags.iter().all(|tag| matches!(tag, 0 | 4)), "{tags:?}");
    let tags = bench.tags(&mut own);
    assert!(tags.contains(&64) && tags.iter().all(|tag| matches!(tag, 0 | 64)), "{tags:?}");
}

#[test]
fn what_is_new_is_passed_on_but_not_to_where_it_came_from() {
    let mut bench = Bench::new();
    let mut from = bench.meet(legacy_features(2));
    let mut to = bench.meet(legacy_features(3));
    bench.pass(5 * SECOND);
    bench.heard(&mut from);
    bench.heard(&mut to);
    let news = gossip("topology", 2, &record(2, &[1, 5]));
    bench.say(&mut from, &Message::Gossip(&news));
    assert!(bench.heard(&mut to).is_empty(), "not before the routes are calculated");
    bench.pass(SECOND / 5);
    assert_eq!(bench.tags(&mut to), [4]);
    assert!(bench.heard(&mut from).is_empty());
    bench.say(&mut from, &Message::Gossip(&news));
    bench.pass(SECOND / 5);
    assert!(bench.heard(&mut to).is_empty(), "it is no news any more");
}

#[test]
fn what_is_behind_a_new_neighbour_is_told_once_more_with_the_link_to_it() {
    let mut bench = Bench::new();
    let mut near = bench.meet(legacy_features(2));
    bench.pass(5 * SECOND);
    let mut gate = bench.meet(legacy_features(3));
    for (number, neighbours) in [(3, &[1, 4][..]), (4, &[3, 5]), (5, &[4])] {
        let news = gossip("topology", 3, &record(number, neighbours));
        bench.say(&mut gate, &Message::Gossip(&news));
    }
    bench.pass(SECOND / 20);
    bench.heard(&mut near);
    // Until the link is announced a moment after it was made, `near` knows no way to any of them.
    bench.pass(SECOND);
    let told = |bench: &mut Bench, near: &mut Remote| -> Vec<u64> {
        let mut peers = Peers::new(name(9), String::new(), Uid(9), ShortId::new(9).unwrap());
        for message in bench.heard(near) {
            let gossip = Gossip::decode(&message[1..]).unwrap();
            let _ = peers.apply_update(gossip.data, &mut Random::new([1; 32])).unwrap();
        }
        let records = peers.iter().filter(|peer| peer.version > 0);
        records.map(|peer| peer.name.to_u64()).collect()
    };
    assert_eq!(told(&mut bench, &mut near), [1, 3, 4, 5]);
    // From then on they are news to nobody.
    let news = gossip("topology", 3, &record(3, &[1, 4, 6]));
    bench.say(&mut gate, &Message::Gossip(&news));
    bench.meet(legacy_features(7));
    bench.pass(SECOND / 20);
    bench.heard(&mut near);
    bench.pass(SECOND);
    let told = told(&mut bench, &mut near);
    assert!(told.contains(&1) && !told.contains(&4) && !told.contains(&5), "{told:?}");
}

#[test]
fn a_record_that_comes_before_the_link_to_it_is_kept_until_that_is_announced() {
    let mut bench = Bench::new();
    let mut gate = bench.meet(legacy_features(2));
    bench.pass(5 * SECOND);
    for news in [record(4, &[3]), record(3, &[4])] {
        bench.say(&mut gate, &Message::Gossip(&gossip("topology", 2, &news)));
        bench.pass(SECOND * 3 / 2);
    }
    bench.say(&mut gate, &Message::Gossip(&gossip("topology", 2, &record(2, &[1, 3]))));
    bench.pass(5 * SECOND);
    assert_eq!(bench.mesh.peers().get(name(4)).map(|peer| peer.version), Some(1));
    // What no link leads to is not kept by an endless stream of other news.
    bench.say(&mut gate, &Message::Gossip(&gossip("topology", 2, &record(8, &[9]))));
    for more in 1..=10 {
        let neighbours: Vec<u64> = (10..=10 + more).chain([1, 3]).collect();
        let news = record(2, &neighbours);
        bench.say(&mut gate, &Message::Gossip(&gossip("topology", 2, &news)));
        bench.pass(SECOND);
    }
    assert!(bench.mesh.peers().get(name(8)).is_none());
}

#[test]
fn our_own_record_from_before_a_restart_is_outlived() {
    let mut bench = Bench::new();
    let mut remote = bench.meet(legacy_features(2));
    // It still has a record of name 1, by another incarnation.
    bench.say(&mut remote, &Message::Gossip(&gossip("topology", 2, &record(1, &[2, 3, 4, 5]))));
    assert_eq!(bench.mesh.peers().own().version, 5);
    bench.pass(2 * SECOND);
    assert!(bench.tags(&mut remote).contains(&4), "and that is announced");
}

#[test]
fn a_router_somewhere_that_says_it_is_us_is_told_once_in_ten_minutes() {
    let mut bench = Bench::new();
    let mut remote = bench.meet(legacy_features(2));
    let twins = |bench: &Bench| {
        bench.events.iter().filter(|event| matches!(event, Event::DuplicateSelf { .. })).count()
    };
    // What a former incarnation left behind comes once, or twice.
    for (links, told) in [(5, 0), (10, 0), (15, 0), (20, 1), (25, 1)] {
        let neighbours: Vec<u64> = (2..2 + links).collect();
        let answer = gossip("topology", 2, &record(1, &neighbours));
        bench.say(&mut remote, &Message::Gossip(&answer));
        assert_eq!(bench.mesh.peers().own().version, links + 1, "outlived each time");
        assert_eq!(twins(&bench), told, "{links}");
    }
}

#[test]
fn control_messages_go_to_those_who_can_choose_and_legacy_ones_to_the_others() {
    let mut bench = Bench::new();
    let mut own = bench.meet(features(2));
    let mut legacy = bench.meet(Features { overlays: None, ..legacy_features(3) });
    for remote in [&mut own, &mut legacy] {
        bench.say(remote, &Message::Control(b"\x00\x05data"));
        bench.say(remote, &Message::Unknown { tag: 1, payload: b"" });
        bench.say(remote, &Message::Unknown { tag: 99, payload: b"future" });
    }
    let expected = [
        Control::Switched(Bytes::from_static(b"\x00\x05data")),
        Control::Legacy { message: 1, data: Bytes::new() },
    ];
    assert_eq!(bench.controls, expected);
    bench.heard(&mut own);
    bench.heard(&mut legacy);
    for control in &expected {
        bench.mesh.send_control(bench.now, own.id, control.clone());
        bench.mesh.send_control(bench.now, legacy.id, control.clone());
    }
    bench.drain();
    assert_eq!(bench.tags(&mut own), [7]);
    assert_eq!(bench.tags(&mut legacy), [1]);
}

#[test]
fn what_comes_before_the_link_is_made_waits_for_it() {
    let mut bench = Bench::new();
    bench.prepared = false;
    let mut remote = bench.meet(legacy_features(2));
    bench.say(&mut remote, &Message::Gossip(&gossip("topology", 2, &record(2, &[1, 5]))));
    assert_eq!(bench.mesh.peers().count(), 2);
    let version = bench.mesh.peers().own().version;
    bench.mesh.link_prepared(bench.now, remote.id);
    bench.drain();
    assert_eq!(bench.mesh.peers().count(), 3);
    assert!(bench.mesh.peers().own().version > version);
}

#[test]
fn a_link_that_fails_ends_its_connection() {
    let mut bench = Bench::new();
    let remote = bench.meet(features(2));
    bench.mesh.link_established(bench.now, remote.id);
    bench.pass(SECOND);
    assert!(bench.mesh.report().connections[0].established);
    bench.mesh.link_failed(bench.now, remote.id, "no heartbeat".to_owned());
    bench.drain();
    let error = ConnectionError::Link("no heartbeat".to_owned());
    assert_eq!(bench.end_of(remote.id), Some(&error));
}

#[test]
fn trust_takes_both_sides_and_passwords_give_keys() {
    for (trusts, trusted, sealed) in
        [(false, false, true), (true, false, true), (false, true, true), (true, true, false)]
    {
        let mut bench = Bench::with(|config| {
            config.password = Password::new(PASSWORD);
            if trusts {
                config.trusted_subnets = vec![Cidr::network("10.0.0.0/8").unwrap()];
            }
        });
        let id = bench.accept();
        let features = Features { trusted, ..features(2) };
        bench.shake(id, features, Some(PASSWORD), true).unwrap();
        assert_eq!(bench.requests[0].session_key.is_some(), sealed, "{trusts} {trusted}");
        assert_eq!(bench.mesh.report().connections[0].trusted, trusts && trusted);
    }
}

#[test]
fn links_are_told_all_that_the_neighbour_announced() {
    let mut bench = Bench::new();
    let mut features = features(2);
    features.further.insert("Cipher".to_owned(), "aead".to_owned());
    bench.meet(features);
    let told = &bench.requests[0].remote_features;
    assert_eq!(told.get("NickName").map(String::as_str), Some("peer2"));
    assert_eq!(told.get("Cipher").map(String::as_str), Some("aead"));
}

#[test]
fn a_discovered_address_must_lead_to_a_peer_that_is_known() {
    let mut bench = Bench::with(|config| config.discovery = true);
    let mut teller = bench.meet(legacy_features(2));
    bench.say(&mut teller, &Message::Gossip(&gossip("topology", 2, &record(2, &[1, 5]))));
    bench.pass(4 * SECOND);
    let (id, address) = bench.dials[0];
    assert_eq!(address, SocketAddr::from(([10, 0, 0, 9], 6783)));
    bench.mesh.handle_dialled(bench.now, id, SocketAddr::from(([10, 0, 0, 1], 999)), address);
    bench.drain();
    bench.shake(id, features(6), None, false).unwrap();
    let error = bench.end_of(id).unwrap().to_string();
    assert_eq!(error, "unknown remote name 00:00:00:00:00:06 at a discovered address");
}

#[test]
fn a_target_of_the_user_may_be_anybody() {
    let mut bench = Bench::new();
    bench.mesh.connect(bench.now, &["10.0.0.9:7000".to_owned()], false).unwrap();
    bench.drain();
    let (id, address) = bench.dials[0];
    bench.mesh.handle_dialled(bench.now, id, SocketAddr::from(([10, 0, 0, 1], 999)), address);
    bench.drain();
    bench.shake(id, features(6), None, false).unwrap();
    assert_eq!(bench.neighbours(), [6]);
    assert_eq!(bench.mesh.targets().collect::<Vec<_>>(), ["10.0.0.9:7000"]);
}

#[test]
fn a_dial_that_is_not_answered_is_given_up() {
    let mut bench = Bench::new();
    bench.mesh.connect(bench.now, &["10.0.0.9".to_owned()], false).unwrap();
    bench.pass(30 * SECOND);
    let (id, _) = bench.dials[0];
    assert!(bench.closed.contains(&id));
    assert!(matches!(bench.end_of(id), Some(ConnectionError::Dial(_))));
    bench.pass(4 * SECOND);
    assert_eq!(bench.dials.len(), 2);
}

#[test]
fn gossip_for_a_slow_neighbour_is_merged_and_sent_when_it_reads() {
    let mut bench = Bench::new();
    let mut from = bench.meet(legacy_features(2));
    let mut slow = bench.meet(legacy_features(3));
    bench.pass(5 * SECOND);
    bench.heard(&mut slow);
    bench.written = false;
    // Something large enough to be in its way.
    bench.mesh.send_control(bench.now, slow.id, Control::Switched(vec![0; 100_000].into()));
    for version in 1..20_u64 {
        let neighbours: Vec<u64> = std::iter::once(1).chain(10..10 + version).collect();
        bench.say(&mut from, &Message::Gossip(&gossip("topology", 2, &record(2, &neighbours))));
        bench.pass(SECOND / 2);
    }
    assert_eq!(bench.tags(&mut slow), [7]);
    bench.written = true;
    bench.mesh.handle_written(bench.now, slow.id, 100_000);
    bench.mesh.handle_written(bench.now, slow.id, 1_000_000);
    bench.drain();
    assert_eq!(bench.tags(&mut slow), [4], "all of it as one message");
}

#[test]
fn a_neighbour_is_asked_for_records_that_are_missing_less_and_less_often() {
    let mut bench = Bench::new();
    let mut remote = bench.meet(features(2));
    bench.say(&mut remote, &Message::Gossip(&gossip("topology", 2, &record(2, &[1, 5]))));
    let mut asked = Vec::new();
    bench.heard(&mut remote);
    for second in 1..=50_u32 {
        bench.pass(SECOND);
        bench.say(&mut remote, &Message::Heartbeat);
        if bench.heard(&mut remote).iter().any(|message| message.starts_with(&[64, 1])) {
            asked.push(second);
        }
    }
    assert_eq!(asked, [1, 3, 7, 15, 31]);
    bench.say(&mut remote, &Message::Gossip(&gossip("topology", 2, &record(5, &[2]))));
    bench.pass(60 * SECOND);
    assert_eq!(bench.mesh.deadlines.gaps, None, "nothing is missing any more");
}

#[test]
fn after_a_change_one_neighbour_is_asked_whether_anything_was_missed() {
    let mut bench = Bench::new();
    let mut from = bench.meet(features(2));
    let mut remotes = [bench.meet(features(3)), bench.meet(features(4))];
    bench.pass(10 * SECOND);
    for remote in remotes.iter_mut().chain([&mut from]) {
        bench.heard(remote);
    }
    bench.say(&mut from, &Message::Gossip(&gossip("topology", 2, &record(2, &[1]))));
    bench.pass(4 * SECOND);
    let digests: usize = remotes
        .iter_mut()
        .chain([&mut from])
        .map(|remote| {
            let heard = bench.heard(remote);
            heard.iter().filter(|message| message.starts_with(&[64, 0])).count()
        })
        .sum();
    assert_eq!(digests, 1);
}

#[test]
fn connections_of_an_address_that_is_gone_end_and_are_dialled_again() {
    let mut bench = Bench::new();
    bench.mesh.connect(bench.now, &["10.0.0.9:7000".to_owned()], false).unwrap();
    bench.drain();
    let (id, address) = bench.dials[0];
    bench.mesh.handle_dialled(bench.now, id, SocketAddr::from(([10, 0, 0, 1], 999)), address);
    bench.drain();
    bench.shake(id, features(6), None, false).unwrap();
    let other = IpAddr::from([10, 0, 0, 2]);
    assert_eq!(bench.mesh.local_addresses(), BTreeSet::from([[10, 0, 0, 1].into()]));
    bench.mesh.handle_address_gone(bench.now, other);
    bench.drain();
    assert_eq!(bench.neighbours(), [6]);
    bench.mesh.handle_address_gone(bench.now, [10, 0, 0, 1].into());
    bench.drain();
    let error = bench.end_of(id).unwrap().to_string();
    assert_eq!(error, "connection lost: the local address 10.0.0.1 is gone");
    bench.pass(3 * SECOND);
    assert_eq!(bench.dials.len(), 2);
}
