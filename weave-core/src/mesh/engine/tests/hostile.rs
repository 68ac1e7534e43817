//! Peers that mean harm, or behave as if they did. Each may lose its own connection; nobody
//! else's, and no memory.

use super::*;

/// Somebody who does nothing wrong, and must not notice any of it.
fn bystander(bench: &mut Bench) -> Remote {
    bench.meet(features(7))
}

#[track_caller]
fn unharmed(bench: &Bench, bystander: &Remote) {
    assert!(!bench.is_closed(bystander));
    assert!(bench.neighbours().contains(&7));
}

#[test]
fn a_header_that_comes_byte_by_byte_has_ten_seconds() {
    let mut bench = Bench::new();
    let id = bench.accept();
    for byte in b"weave\x01" {
        bench.input(id, &[*byte]);
        bench.pass(2 * SECOND);
    }
    assert!(bench.closed.contains(&id));
    assert_eq!(bench.end_of(id), Some(&ConnectionError::HandshakeTimeout(10 * SECOND)));
}

#[test]
fn features_that_come_byte_by_byte_have_a_minute() {
    let mut bench = Bench::new();
    let id = bench.accept();
    bench.input(id, b"weave\x01\x02\x00\x00\x00\x10\x00");
    for _ in 0..59 {
        bench.pass(SECOND);
        bench.input(id, b"x");
    }
    assert!(!bench.closed.contains(&id));
    bench.pass(SECOND);
    assert_eq!(bench.end_of(id), Some(&ConnectionError::HandshakeTimeout(60 * SECOND)));
}

#[test]
fn a_message_that_comes_byte_by_byte_has_a_minute() {
    let mut bench = Bench::new();
    let remote = bench.meet(features(2));
    bench.input(remote.id, &[0, 0, 1, 0]);
    for _ in 0..59 {
        bench.pass(SECOND);
        bench.input(remote.id, b"x");
    }
    assert!(!bench.is_closed(&remote));
    bench.pass(2 * SECOND);
    assert_eq!(bench.end_of(remote.id), Some(&ConnectionError::ReadTimeout(60 * SECOND)));
}

#[test]
fn lengths_beyond_the_limit_end_the_connection_before_anything_comes() {
    let mut bench = Bench::new();
    let by = bystander(&mut bench);
    let id = bench.accept();
    bench.input(id, b"weave\x01\x02\x00\xff\xff\xff\xff");
    assert!(matches!(bench.end_of(id), Some(ConnectionError::Handshake(_))));
    let remote = bench.meet(features(2));
    bench.input(remote.id, &[0xff; 4]);
    assert!(matches!(bench.end_of(remote.id), Some(ConnectionError::Malformed(_))));
    unharmed(&bench, &by);
}

#[test]
fn garbage_ends_the_connection_and_says_what_was_wrong() {
    let mut bench = Bench::new();
    let by = bystander(&mut bench);
    for message in [
        Message::Gossip(b"\xff\xff\xff"),
        Message::Broadcast(b"\x00\x01"),
        Message::Unknown { tag: 64, payload: &[1, 2, 3] },
    ] {
        let mut remote = bench.meet(features(2));
        bench.say(&mut remote, &message);
        let Some(ConnectionError::Malformed(reason)) = bench.end_of(remote.id) else {
            panic!("{message:?}: {:?}", bench.end_of(remote.id))
        };
        assert!(!reason.is_empty());
    }
    let mut remote = bench.meet(features(2));
    bench.say(&mut remote, &Message::Gossip(&gossip("topology", 2, b"\x05hello")));
    assert!(matches!(bench.end_of(remote.id), Some(ConnectionError::Gossip { .. })));
    unharmed(&bench, &by);
}

#[test]
fn a_replayed_message_ends_the_connection() {
    let mut bench = Bench::with(|config| config.password = Password::new(PASSWORD));
    let id = bench.accept();
    let mut remote = bench.shake(id, features(2), Some(PASSWORD), true).unwrap();
    let frame = remote.session.seal(&Message::Heartbeat).unwrap();
    bench.input(id, &frame);
    assert!(!bench.is_closed(&remote));
    bench.input(id, &frame);
    assert!(matches!(bench.end_of(id), Some(ConnectionError::Malformed(_))));
}

#[test]
fn another_password_is_called_by_its_name() {
    let mut bench = Bench::with(|config| config.password = Password::new(PASSWORD));
    let id = bench.accept();
    assert!(bench.shake(id, features(2), Some("guess"), true).is_none());
    assert!(!bench.closed.contains(&id), "a reset now could overtake what shows the other side");
    bench.pass(2 * SECOND);
    let error = bench.end_of(id).unwrap().to_string();
    assert!(error.contains("is the password the same"), "{error}");
    assert_eq!(bench.mesh.report().counters.passwords_differed, 1);
    assert!(!error.contains(PASSWORD));
}

#[test]
fn a_thousand_half_open_connections_keep_nobody_out() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        bench.accept();
    }
    assert!(bench.closed.len() >= 1000 - 256);
    let by = bystander(&mut bench);
    unharmed(&bench, &by);
    bench.pass(11 * SECOND);
    assert_eq!(bench.mesh.connections.len(), 1, "all others have run out of time");
}

#[test]
fn half_open_connections_make_room_where_most_come_from() {
    let mut bench = Bench::new();
    let local = SocketAddr::from(([10, 0, 0, 1], 6783));
    let elsewhere = SocketAddr::from(([10, 0, 0, 99], 40000));
    let patient = bench.mesh.handle_accepted(bench.now, local, elsewhere);
    bench.drain();
    for _ in 0..1000 {
        bench.accept();
    }
    assert!(!bench.closed.contains(&patient));
    bench.shake(patient, features(2), None, true).unwrap();
    assert_eq!(bench.neighbours(), [2]);
}

#[test]
fn unfinished_handshakes_of_one_host_are_few_and_a_known_peer_is_spared() {
    let mut bench = Bench::new();
    bench.mesh.connect(bench.now, &["10.255.0.1".to_owned()], false).unwrap();
    let peer = bench.accept_from([10, 255, 0, 1]);
    let mut turned_away = 0;
    for round in 0..20_u8 {
        for host in 0..250 {
            bench.accept_from([10, 1, round, host]);
        }
        // An honest router at a high address, of which nobody knows.
        let stranger = bench.accept_from([223, 0, 0, round]);
        for host in 0..20 {
            bench.accept_from([10, 2, round, host]);
        }
        turned_away += usize::from(bench.closed.contains(&stranger));
    }
    assert!(turned_away < 10, "{turned_away} of 20");
    assert!(!bench.closed.contains(&peer));
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.accept();
    }
    assert_eq!(bench.mesh.connections.len(), 64);
}

#[test]
fn one_host_does_not_use_up_all_connections() {
    let mut bench = Bench::with(|config| config.connection_limit = Some(40));
    for number in 10..60 {
        bench.meet(features(number));
    }
    assert_eq!(bench.neighbours().len(), 20);
    let refused = bench.events.iter().find_map(|event| match event {
        Event::ConnectionEnded { error: ConnectionError::LimitOfSource(limit), .. } => Some(*limit),
        _ => None,
    });
    bench.pass(2 * SECOND);
    assert!(refused.is_none_or(|limit| limit == 20));
    let id = bench.accept_from([10, 0, 0, 7]);
    bench.shake(id, features(7), None, true).unwrap();
    assert!(bench.neighbours().contains(&7));
}

#[test]
fn what_is_sent_before_the_handshake_is_little() {
    let mut bench = Bench::new();
    let id = bench.accept();
    bench.input(id, b"weave\x01\x02\x00\x00\x00\x50\x00");
    let error = bench.end_of(id).unwrap().to_string();
    assert!(error.contains("at most 18432 are allowed"), "{error}");
}

#[test]
fn incomplete_messages_of_all_connections_share_one_budget() {
    let mut bench = Bench::new();
    let by = bystander(&mut bench);
    let mut modest = bench.meet(features(8));
    let frame = modest.session.seal(&Message::Gossip(&gossip("x", 8, &vec![0; 1 << 20]))).unwrap();
    let (first, second) = frame.split_at(frame.len() / 2);
    bench.input(modest.id, first);
    let chunk = vec![0; 1 << 20];
    for number in 10..200_u64 {
        let remote = bench.meet(features(number));
        // A message of 10 MiB, of which the end never comes.
        bench.input(remote.id, &(10_u32 << 20).to_be_bytes());
        for _ in 0..9 {
            if !bench.is_closed(&remote) {
                bench.input(remote.id, &chunk);
            }
        }
        assert!(bench.mesh.partial <= reassembly::BUDGET);
    }
    let held: usize =
        bench.mesh.connections.values().filter_map(|c| Some(c.peered()?.session.buffered())).sum();
    assert_eq!(bench.mesh.partial, held);
    let ended = bench.events.iter().filter(|event| {
        let Event::ConnectionEnded { error, .. } = event else { return false };
        matches!(error, ConnectionError::Reassembly { .. })
    });
    assert!(ended.count() > 150);
    bench.input(modest.id, second);
    unharmed(&bench, &by);
    assert!(!bench.is_closed(&modest), "who holds little is left alone");
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let mut bench = Bench::with(|config| config.connection_limit = Some(2));
    let by = bystander(&mut bench);
    bench.meet(features(2));
    let mut third = bench.meet(features(3));
    let told = bench.heard(&mut third);
    assert_eq!(told[0].as_ref(), b"\x41\x02\x02connection limit of 2 reached");
    bench.pass(2 * SECOND);
    assert_eq!(bench.end_of(third.id), Some(&ConnectionError::Limit(2)));
    let legacy = bench.meet(legacy_features(4));
    assert!(bench.is_closed(&legacy), "closed at once, as the original does");
    unharmed(&bench, &by);
}

#[test]
fn a_peer_that_does_not_read_is_given_up_after_a_minute() {
    let mut bench = Bench::new();
    let remote = bench.meet(features(2));
    bench.written = false;
    for _ in 0..6 {
        bench.pass(10 * SECOND);
        // It does talk.
        bench.input(remote.id, &[0, 0, 0, 1, 0]);
    }
    // The first that had to wait is the announcement of the new connection, after a second.
    assert_eq!(bench.end_of(remote.id), None);
    bench.pass(2 * SECOND);
    assert_eq!(bench.end_of(remote.id), Some(&ConnectionError::WriteStall(60 * SECOND)));
}

#[test]
fn unicasts_for_a_slow_neighbour_are_dropped_not_kept() {
    let mut bench = Bench::new();
    let mut fast = bench.meet(features(2));
    let slow = bench.meet(features(3));
    bench.pass(SECOND);
    bench.written = false;
    for number in 0..100 {
        let data = vec![number; 100 << 10];
        let payload =
            Unicast { channel: "x", source: name(2), destination: name(3), data: &data }.encode();
        bench.say(&mut fast, &Message::Unicast(&payload));
        bench.pass(SECOND / 50);
    }
    let report = bench.mesh.report();
    let unsent = report.connections.iter().find(|c| c.peer == name(3)).unwrap().unsent;
    assert!(unsent <= (1 << 20) + (64 << 10), "{unsent}");
    assert!(report.counters.dropped_backlog >= 80);
    assert!(!bench.is_closed(&slow));
}

#[test]
fn channels_out_of_thin_air_are_bounded() {
    let mut bench = Bench::new();
    let mut remote = bench.meet(features(2));
    for number in 0..1000 {
        let payload = gossip(&format!("channel{number}"), 2, b"x");
        bench.say(&mut remote, &Message::Gossip(&payload));
    }
    assert!(bench.mesh.channels.len() <= 64);
    assert!(!bench.is_closed(&remote));
}

#[test]
fn broadcasts_of_many_sources_to_a_slow_neighbour_are_bounded() {
    let mut bench = Bench::new();
    let mut loud = bench.meet(features(2));
    let everybody: Vec<u64> = (10..1500).collect();
    bench.say(&mut loud, &Message::Gossip(&gossip("topology", 2, &record(2, &everybody))));
    let _slow = bench.meet(features(3));
    bench.pass(SECOND);
    bench.written = false;
    let data = vec![0; 64 << 10];
    for round in 0..3_u8 {
        for source in &everybody {
            let payload = gossip("x", *source, &[&data[..], &[round]].concat());
            bench.say(&mut loud, &Message::Broadcast(&payload));
        }
    }
    let id = bench.mesh.by_peer[&name(3)];
    let connection = &bench.mesh.connections[&id];
    assert!(connection.unsent() < 1 << 20);
}

#[test]
fn more_peers_than_can_be_part_nobody_and_keep_nobody_out() {
    let mut bench = Bench::new();
    let by = bystander(&mut bench);
    let mut remote = bench.meet(features(2));
    for start in [10_u64, 4000] {
        let many: Vec<u64> = (start..start + 3990).collect();
        let payload = gossip("topology", 2, &record(start, &many));
        bench.say(&mut remote, &Message::Gossip(&payload));
    }
    assert_eq!(bench.end_of(remote.id), None);
    assert_eq!(bench.mesh.peers().count(), crate::mesh::MAX_PEERS);
    bench.meet(features(3));
    assert_eq!(bench.neighbours().into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([2, 3, 7]));
    bench.pass(5 * SECOND);
    assert_eq!(bench.mesh.peers().count(), 4, "what it invented is collected");
    unharmed(&bench, &by);
}

#[test]
fn offers_of_everything_are_asked_for_once() {
    let mut bench = Bench::new();
    let mut remote = bench.meet(features(2));
    bench.heard(&mut remote);
    let entry = |number: u64| {
        let mut entry = vec![0; 39];
        entry[..6].copy_from_slice(&name(number).to_bytes());
        entry[21] = 9;
        entry
    };
    let offer: Vec<u8> = std::iter::once(3).chain((10..3000).flat_map(entry)).collect();
    for _ in 0..10 {
        bench.say(&mut remote, &Message::Unknown { tag: 64, payload: &offer });
    }
    let wants = bench.heard(&mut remote);
    assert_eq!(wants.len(), 1);
    assert!(bench.mesh.asked.len() <= crate::mesh::MAX_PEERS);
    assert!(!bench.is_closed(&remote));
}

#[test]
fn our_own_name_is_refused_and_both_ends_have_time_to_learn_why() {
    let mut bench = Bench::new();
    let version = bench.mesh.peers().own().version;
    let clone = bench.meet(features(1));
    assert!(!bench.is_closed(&clone), "a reset now could overtake our features");
    bench.pass(2 * SECOND);
    assert!(matches!(bench.end_of(clone.id), Some(ConnectionError::NameCollision { .. })));
    let told = bench.events.iter().filter(|e| matches!(e, Event::NameCollision(_))).count();
    bench.meet(features(1));
    bench.pass(2 * SECOND);
    let again = bench.events.iter().filter(|e| matches!(e, Event::NameCollision(_))).count();
    assert_eq!((told, again), (1, 1), "told once");
    assert_eq!(bench.mesh.peers().own().version, version);
}

#[test]
fn a_name_stays_with_the_router_that_answers() {
    for notices in [true, false] {
        let mut bench = Bench::new();
        let incarnation = |uid| Features {
            uid: Uid(uid),
            nickname: format!("incarnation{uid}"),
            further: if notices { features(2).further } else { BTreeMap::new() },
            ..features(2)
        };
        let mut first = bench.meet(incarnation(10));
        bench.pass(2 * SECOND);
        bench.heard(&mut first);
        let mut second = bench.meet(incarnation(20));
        let heard = bench.heard(&mut first);
        assert_eq!(heard.len(), 1, "it is asked whether it is there");
        if notices {
            assert_eq!(heard[0].as_ref(), [65, 0]);
            bench.say(&mut first, &Message::Unknown { tag: 65, payload: &[1] });
        } else {
            // The original passes a unicast on to where it is for.
            let message = Message::decode(&heard[0]).unwrap();
            let Message::Unicast(payload) = message else { panic!("{message:?}") };
            assert_eq!(Unicast::decode(payload).unwrap().destination, name(1));
            bench.say(&mut first, &message);
        }
        let reasons: Vec<_> = bench.heard(&mut second).iter().map(|m| m[..3].to_vec()).collect();
        assert_eq!(reasons, if notices { vec![vec![65, 2, 1]] } else { Vec::new() });
        bench.pass(2 * SECOND);
        assert!(matches!(bench.end_of(second.id), Some(ConnectionError::NameTaken(_))));
        assert!(!bench.is_closed(&first));
        let name_conflicts = bench.mesh.report().name_conflicts;
        assert_eq!((name_conflicts[0].kept.uid, name_conflicts[0].refused.uid), (Uid(10), Uid(20)));
        let line = name_conflicts[0].to_string();
        assert!(line.contains("incarnation10 (UID 10, at 10.0.0.2:1025) keeps"), "{line}");
        assert!(line.contains("incarnation20 (UID 20, at 10.0.0.2:1026) is refused"), "{line}");
        bench.meet(incarnation(20));
        bench.say(&mut first, &Message::Heartbeat);
        let told = bench.events.iter().filter(|e| matches!(e, Event::NameCollision(_)));
        assert_eq!(told.count(), 1, "told once");
        bench.pass(2 * SECOND);
        assert_eq!(bench.mesh.peers().references(name(2)), 1);
        unharmed_link(&bench, &first);
    }
}

fn unharmed_link(bench: &Bench, remote: &Remote) {
    assert_eq!(bench.mesh.report().connections[0].id, remote.id);
    assert!(bench.mesh.duplicates.is_empty());
}

#[test]
fn a_name_goes_to_the_newcomer_if_the_other_one_is_silent() {
    let mut bench = Bench::new();
    let incarnation = |uid| Features { uid: Uid(uid), ..features(2) };
    let first = bench.meet(incarnation(10));
    bench.pass(30 * SECOND);
    let second = bench.meet(incarnation(20));
    let third = bench.meet(incarnation(20));
    bench.pass(6 * SECOND);
    assert_eq!(bench.end_of(first.id), Some(&ConnectionError::Superseded(name(2))));
    assert!(bench.is_closed(&second) != bench.is_closed(&third), "one of its two");
    assert_eq!(bench.neighbours(), [2]);
    assert!(bench.mesh.report().name_conflicts.is_empty());
}

#[test]
fn a_name_goes_to_the_newcomer_at_once_if_the_other_one_turns_out_to_be_gone() {
    let mut bench = Bench::new();
    let incarnation = |uid| Features { uid: Uid(uid), ..features(2) };
    let first = bench.meet(incarnation(10));
    let second = bench.meet(incarnation(20));
    // The kernel of the restarted machine knows nothing of the first connection.
    bench.mesh.handle_closed(bench.now, first.id, "connection reset by peer".to_owned());
    bench.drain();
    unharmed_link(&bench, &second);
}

#[test]
fn a_duplicate_wins_over_a_silent_one_whatever_its_number() {
    let mut lower = 0;
    for number in 0..20 {
        let mut bench = Bench::new();
        let first = bench.meet(Features { connection_id: number << 60, ..features(2) });
        bench.pass(20 * SECOND);
        let second = bench.meet(Features { connection_id: 5 << 60, ..features(2) });
        let uids: Vec<_> = bench.requests.iter().map(|request| request.connection_uid).collect();
        lower += usize::from(uids[1] < uids[0]);
        assert!(!bench.is_closed(&first), "it is asked");
        bench.pass(3 * SECOND);
        assert!(bench.is_closed(&first) && !bench.is_closed(&second));
        unharmed_link(&bench, &second);
    }
    assert!((1..20).contains(&lower), "both cases occur");
}

#[test]
fn a_refusal_is_believed() {
    let mut bench = Bench::new();
    let mut remote = bench.meet(features(2));
    let payload = b"\x02\x01name collision: somebody else is peer1";
    bench.say(&mut remote, &Message::Unknown { tag: 65, payload });
    let error = bench.end_of(remote.id).unwrap().to_string();
    assert_eq!(error, "refused by the peer: name collision: somebody else is peer1");
}

#[test]
fn calls_about_connections_that_never_were_are_ignored() {
    let mut bench = Bench::new();
    let (id, now) = (ConnectionId(4711), bench.now);
    bench.mesh.handle_bytes(now, id, b"x");
    bench.mesh.handle_written(now, id, usize::MAX);
    bench.mesh.handle_closed(now, id, String::new());
    bench.mesh.handle_dial_failed(now, id, String::new());
    bench.mesh.link_prepared(now, id);
    bench.mesh.link_established(now, id);
    bench.mesh.link_failed(now, id, String::new());
    bench.mesh.send_control(now, id, Control::Switched(Bytes::new()));
    bench.mesh.handle_resolved(now, "nobody", Ok(Vec::new()));
    bench.drain();
    assert!(bench.events.is_empty());
}
