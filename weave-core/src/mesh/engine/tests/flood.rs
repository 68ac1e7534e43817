//! Neighbours that ask for too much, too often.

use super::*;

/// A router in a large mesh, the neighbour that told about it, and another one.
fn large_mesh() -> (Bench, Remote, Remote) {
    let mut bench = Bench::new();
    let mut teller = bench.meet(features(2));
    let mut table = Peers::new(name(2), String::new(), Uid(2000), ShortId::new(102).unwrap());
    let all: Vec<u64> = (300..2300).collect();
    for neighbour in std::iter::once(&1).chain(&all) {
        let address = SocketAddr::from(([10, 0, 0, 9], 6783));
        table.add_connection(PeerConnection::new(name(*neighbour), address, true));
    }
    for number in all {
        let _ = table.apply_update(&record(number, &[2]), &mut Random::new([1; 32])).unwrap();
    }
    for payload in table.encode_all() {
        bench.say(&mut teller, &Message::Gossip(&gossip("topology", 2, &payload)));
        bench.pass(5 * SECOND);
    }
    let id = bench.accept_from([10, 0, 0, 7]);
    let by = bench.shake(id, features(7), None, true).unwrap();
    bench.pass(5 * SECOND);
    assert!(bench.mesh.peers().count() > 2000);
    (bench, teller, by)
}

fn kinds() -> Vec<(&'static str, u8, Vec<u8>)> {
    let names: Vec<u8> = (10..60).flat_map(|number| name(number).to_bytes()).collect();
    let stale = gossip("topology", 2, &record(2, &[1]));
    let unicast = Unicast { channel: "x", source: name(2), destination: name(7), data: b"" };
    vec![
        ("heartbeat", 0, Vec::new()),
        ("digest", 64, [&[0][..], &[7; 32]].concat()),
        ("ask", 64, vec![1]),
        ("answer", 64, vec![2]),
        ("want", 64, [&[4][..], &names].concat()),
        ("probe", 65, vec![0]),
        ("gossip", 4, stale),
        ("control", 7, b"\x00\x05data".to_vec()),
        ("unicast", 5, unicast.encode()),
    ]
}

#[test]
fn no_kind_of_message_keeps_others_waiting() {
    let (mut bench, mut teller, mut by) = large_mesh();
    for (number, (kind, tag, payload)) in (100..).zip(kinds()) {
        let mut loud = bench.meet(features(number));
        bench.heard(&mut loud);
        bench.heard(&mut by);
        let received = bench.mesh.report().counters.messages_received;
        let message = Message::Unknown { tag, payload: &payload };
        let flood: Vec<u8> =
            (0..30_000).flat_map(|_| loud.session.seal(&message).unwrap()).collect();
        bench.input(loud.id, &flood);
        let handled = bench.mesh.report().counters.messages_received - received;
        assert!(handled < 26_000, "{kind}: {handled} messages in one turn");
        assert!(bench.mesh.is_behind(loud.id), "{kind}");
        // The others are not.
        bench.say(&mut by, &Message::Unknown { tag: 65, payload: &[0] });
        assert!(bench.tags(&mut by).contains(&65), "{kind}");
        bench.pass(3 * SECOND);
        bench.mesh.assert_consistent();
        let handled = bench.mesh.report().counters.messages_received - received;
        assert!(handled > 20, "{kind}: {handled} messages in three seconds");
        let answered: usize = bench.heard(&mut loud).iter().map(Bytes::len).sum();
        if ["digest", "ask", "answer", "want", "probe"].contains(&kind) {
            assert!(answered > 0, "{kind}: no answer at all");
        }
        assert!(answered < 32 << 20, "{kind}: {answered} bytes of answers in three seconds");
        assert!(!bench.is_closed(&loud) && !bench.is_closed(&by), "{kind}");
        bench.mesh.handle_closed(bench.now, loud.id, "reset".to_owned());
        bench.say(&mut teller, &Message::Heartbeat);
        bench.drain();
    }
    assert_eq!(bench.mesh.behind.len(), 0);
}

#[test]
fn one_answer_of_a_kind_waits_for_a_peer_that_does_not_read() {
    let (mut bench, mut teller, _by) = large_mesh();
    bench.heard(&mut teller);
    bench.written = false;
    // Something that it does not read.
    bench.mesh.send_control(bench.now, teller.id, Control::Switched(vec![0; 20 << 10].into()));
    bench.drain();
    for (_, tag, payload) in kinds() {
        for _ in 0..300 {
            bench.say(&mut teller, &Message::Unknown { tag, payload: &payload });
            bench.pass(Duration::from_millis(100));
        }
        // It is alive.
        bench.mesh.handle_written(bench.now, teller.id, 1);
    }
    bench.pass(10 * SECOND);
    assert!(!bench.mesh.is_behind(teller.id));
    assert_eq!(bench.tags(&mut teller), [7], "nothing was sent");
    assert!(bench.mesh.connections[&teller.id].waiting() < 100 << 10);
    bench.written = true;
    bench.mesh.handle_written(bench.now, teller.id, 20 << 10);
    bench.drain();
    let tags = bench.tags(&mut teller);
    for (tag, most) in [(65, 1), (64, 4), (4, 3)] {
        let count = tags.iter().filter(|sent| **sent == tag).count();
        assert!((1..=most).contains(&count), "{count} of tag {tag}");
    }
}

#[test]
fn what_waits_for_peers_is_bounded_and_who_holds_little_stays() {
    let mut bench = Bench::with(|config| config.connection_limit = None);
    let id = bench.accept_from([10, 0, 0, 7]);
    let modest = bench.shake(id, features(7), None, true).unwrap();
    let mut loud = bench.meet(features(2));
    let slow: Vec<Remote> = (10..200).map(|number| bench.meet(features(number))).collect();
    bench.pass(SECOND);
    bench.written = false;
    bench.mesh.send_control(bench.now, modest.id, Control::Switched(vec![0; 3 << 20].into()));
    let data = vec![0; 900 << 10];
    for number in 10..200 {
        let to = name(number);
        let unicast = Unicast { channel: "x", source: name(2), destination: to, data: &data };
        bench.say(&mut loud, &Message::Unicast(&unicast.encode()));
        bench.pass(Duration::from_millis(200));
        bench.mesh.assert_consistent();
    }
    let ended = slow.iter().filter(|slow| bench.is_closed(slow)).count();
    assert!((100..180).contains(&ended), "{ended}");
    assert_eq!(bench.mesh.report().counters.backlog_exhausted, ended as u64);
    assert!(!bench.is_closed(&modest), "it holds more than any of them, but they are of one host");
    drop(slow);
    bench.written = true;
    let mut ids: Vec<ConnectionId> = bench.mesh.connections.keys().copied().collect();
    while let Some(id) = ids.pop() {
        bench.mesh.handle_closed(bench.now, id, "reset".to_owned());
    }
    bench.drain();
    bench.mesh.assert_consistent();
    assert_eq!(bench.mesh.held, 0);
}
