//! Who pays for what is wrong: nobody's link ends because of what its other end may only have
//! relayed.

use super::*;
use crate::mesh::gossip::{Channel, Data, GossipError, Outbox};
use crate::wire::gob::{Encoder, Text};

/// A channel that refuses everything.
struct Strict;

impl Channel for Strict {
    fn handle_unicast(
        &mut self,
        _: Instant,
        _: PeerName,
        _: &[u8],
        _: &mut Outbox,
    ) -> Result<(), GossipError> {
        Err(GossipError::Content("no".to_owned()))
    }

    fn handle_broadcast(
        &mut self,
        _: Instant,
        _: PeerName,
        _: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        Err(GossipError::Content("no".to_owned()))
    }

    fn handle_gossip(
        &mut self,
        _: Instant,
        _: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        Err(GossipError::Content("no".to_owned()))
    }

    fn complete_state(&mut self, _: Instant) -> Option<Arc<dyn Data>> {
        None
    }
}

fn unicast(channel: &str, to: u64, data: &[u8]) -> Vec<u8> {
    Unicast { channel, source: name(66), destination: name(to), data }.encode()
}

/// Gossip on a channel whose name is no text, which the original passes on.
fn odd_channel() -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.value(&Text(&[0xff]));
    encoder.value(&name(66));
    encoder.value(&&b"x"[..]);
    encoder.finish()
}

/// A record of which a router would keep nothing, as the original passes it on.
fn too_many_links() -> Bytes {
    let too_many: Vec<u64> = (100..101 + crate::mesh::MAX_CONNECTIONS as u64).collect();
    record(50, &too_many)
}

#[test]
fn what_a_neighbour_may_have_relayed_is_dropped_and_counted() {
    let cut = |mut payload: Vec<u8>| {
        payload.truncate(payload.len() - 5);
        payload
    };
    let long = "x".repeat(300);
    let (own, other) = (1, 3);
    // What it is, and whether it is counted as refused, malformed, or records dropped.
    let cases: [(&str, Message<'_>, [u64; 3]); 14] = [
        ("a unicast of the topology", Message::Unicast(&unicast("topology", own, b"x")), [1, 0, 0]),
        ("one to relay", Message::Unicast(&unicast("topology", other, b"x")), [1, 0, 0]),
        ("a refused unicast", Message::Unicast(&unicast("strict", own, b"x")), [1, 0, 0]),
        ("a cut unicast", Message::Unicast(&cut(unicast("strict", own, b"12345678"))), [0, 1, 0]),
        ("one to relay", Message::Unicast(&cut(unicast("strict", other, b"12345678"))), [0, 1, 0]),
        ("an empty unicast", Message::Unicast(b""), [0, 1, 0]),
        ("a unicast of garbage", Message::Unicast(b"\xff\xff\xff"), [0, 1, 0]),
        ("a long channel name", Message::Unicast(&unicast(&long, own, b"x")), [0, 1, 0]),
        ("refused gossip", Message::Gossip(&gossip("strict", 2, b"x")), [1, 0, 0]),
        ("a refused broadcast", Message::Broadcast(&gossip("strict", 66, b"x")), [1, 0, 0]),
        ("a long channel name", Message::Gossip(&gossip(&long, 2, b"x")), [0, 1, 0]),
        ("an odd channel name", Message::Gossip(&odd_channel()), [0, 1, 0]),
        ("an odd channel name", Message::Broadcast(&odd_channel()), [0, 1, 0]),
        (
            "a record with too many connections",
            Message::Gossip(&gossip("topology", 2, &too_many_links())),
            [0, 0, 1],
        ),
    ];
    let mut bench = Bench::new();
    bench.mesh.add_channel("strict", Box::new(Strict));
    let mut relay = bench.meet(features(2));
    let mut behind = bench.meet(features(3));
    bench.pass(SECOND);
    bench.heard(&mut behind);
    for (what, message, expected) in cases {
        let before = bench.mesh.report().counters;
        bench.say(&mut relay, &message);
        assert_eq!(bench.end_of(relay.id), None, "{what}");
        let after = bench.mesh.report().counters;
        let counted = [
            after.gossip_refused - before.gossip_refused,
            after.gossip_malformed - before.gossip_malformed,
            after.records_dropped - before.records_dropped,
        ];
        assert_eq!(counted, expected, "{what}");
    }
    assert!(bench.heard(&mut behind).is_empty(), "none of it is passed on");
    let told = bench.events.iter().filter(|e| matches!(e, Event::GossipDropped { .. }));
    assert_eq!(told.count(), 1, "a flood is told once a minute");
}

#[test]
fn nobody_speaks_in_the_name_of_a_neighbour() {
    let mut bench = Bench::new();
    bench.mesh.add_channel("strict", Box::new(Strict));
    let mut liar = bench.meet(features(2));
    let _neighbour = bench.meet(features(3));
    let mut behind = bench.meet(features(4));
    bench.say(&mut liar, &Message::Gossip(&gossip("topology", 2, &record(2, &[1]))));
    bench.pass(SECOND);
    bench.heard(&mut behind);
    let said = |source: u64, channel: &str, to: u64| {
        let to = name(to);
        Unicast { channel, source: name(source), destination: to, data: b"x" }.encode()
    };
    let broadcast = |source: u64| gossip("other", source, b"x");
    // What it is, whether it is passed on, and whether it is refused.
    let cases = [
        (Message::Unicast(&said(3, "strict", 1)), 0, 1),
        (Message::Unicast(&said(3, "strict", 4)), 0, 1),
        (Message::Unicast(&said(1, "strict", 1)), 0, 1),
        (Message::Unicast(&said(1, "topology", 1)), 0, 0),
        (Message::Broadcast(&broadcast(3)), 0, 1),
        (Message::Unicast(&said(2, "strict", 4)), 1, 0),
        (Message::Unicast(&said(9, "strict", 4)), 1, 0),
        (Message::Broadcast(&broadcast(2)), 1, 0),
    ];
    for (message, passed_on, refused) in cases {
        let before = bench.mesh.report().counters.gossip_refused;
        bench.say(&mut liar, &message);
        bench.pass(SECOND);
        let heard = bench.tags(&mut behind).into_iter().filter(|tag| [6, 66].contains(tag));
        let after = bench.mesh.report().counters.gossip_refused;
        assert_eq!((heard.count(), after - before), (passed_on, refused), "{message:?}");
        assert_eq!(bench.end_of(liar.id), None);
    }
}

#[test]
fn what_only_the_neighbour_can_have_made_ends_its_connection() {
    let message_of = |session: &mut Session, message: &Message<'_>| session.seal(message).unwrap();
    let cases = [
        ("gossip of garbage", Message::Gossip(b"\xff\xff\xff")),
        ("a broadcast of garbage", Message::Broadcast(b"\x00\x01")),
        ("records of garbage", Message::Gossip(&gossip("topology", 2, b"\x05hello"))),
        ("an inventory of garbage", Message::Unknown { tag: 64, payload: &[1, 2, 3] }),
    ];
    for (what, message) in cases {
        let mut bench = Bench::new();
        let bystander = bench.meet(features(7));
        let mut liar = bench.meet(features(2));
        let frame = message_of(&mut liar.session, &message);
        bench.input(liar.id, &frame);
        let error = bench.end_of(liar.id);
        let own_fault =
            matches!(error, Some(ConnectionError::Malformed(_) | ConnectionError::Gossip { .. }));
        assert!(own_fault, "{what}: {error:?}");
        assert!(!bench.is_closed(&bystander), "{what}");
    }
}

#[test]
fn a_long_message_over_a_slow_link_has_time_as_long_as_it_goes_on() {
    let mut bench = Bench::new();
    let mut relay = bench.meet(features(2));
    let frame = relay.session.seal(&Message::Unicast(&unicast("x", 1, &vec![0; 9 << 20]))).unwrap();
    // 1 Mbit/s: three quarters of a minute more than a message has.
    for part in frame.chunks(88 << 10) {
        bench.input(relay.id, part);
        bench.pass(SECOND);
    }
    assert_eq!(bench.end_of(relay.id), None);
    let payload = unicast("x", 3, &vec![0; 2 << 20]);
    bench.meet(features(3));
    bench.pass(SECOND);
    bench.say(&mut relay, &Message::Unicast(&payload));
    let counters = bench.mesh.report().counters;
    assert_eq!((counters.unicasts_relayed, counters.dropped_backlog), (0, 1));
}

fn bare_connection(remote: u64) -> PeerConnection {
    PeerConnection::new(name(remote), SocketAddr::from(([10, 0, 0, 9], 6783)), true)
}

#[test]
fn a_table_that_others_made_large_goes_to_a_neighbour_bit_by_bit() {
    let mut bench = Bench::new();
    let mut liar = bench.meet(features(2));
    let mine: Vec<u64> = std::iter::once(1).chain(100..160).collect();
    bench.say(&mut liar, &Message::Gossip(&gossip("topology", 2, &record(2, &mine))));
    for number in 100..160 {
        let mut claims = Peers::new(name(number), String::new(), Uid(1), ShortId::new(9).unwrap());
        for remote in 100..4000 {
            let address = "x".repeat(80).as_str().into();
            claims.add_connection(PeerConnection { address, ..bare_connection(remote) });
        }
        let news = gossip("topology", 2, &claims.encode_all().remove(0));
        bench.say(&mut liar, &Message::Gossip(&news));
        // So much is told over some time.
        bench.pass(SECOND / 4);
    }
    let size: usize = bench.mesh.peers().encode_all().iter().map(Bytes::len).sum();
    assert!(size > 17 << 20, "more than a connection may hold: {size}");
    bench.written = false;
    let newcomer = bench.meet(legacy_features(3));
    assert_eq!(bench.end_of(newcomer.id), None);
    // The first part came with the end of the handshake.
    bench.mesh.handle_written(bench.now, newcomer.id, 2 << 20);
    bench.drain();
    let mut total = 0;
    for _ in 0..100 {
        let Some(sent) = bench.sent.remove(&newcomer.id) else { break };
        assert!(sent.len() < 2 << 20, "{} bytes at once", sent.len());
        total += sent.len();
        bench.mesh.handle_written(bench.now, newcomer.id, sent.len());
        bench.drain();
    }
    assert!(total > 16 << 20, "{total}");
}

#[test]
fn a_unicast_says_how_often_it_may_be_relayed_where_the_next_router_understands() {
    let mut bench = Bench::new();
    let mut from = bench.meet(features(2));
    let mut to = bench.meet(features(3));
    bench.pass(SECOND);
    bench.heard(&mut to);
    let payload = unicast("x", 3, b"psst");
    let with = |relays: u8| [&[relays][..], &payload].concat();
    let tell = |bench: &mut Bench, from: &mut Remote, to: &mut Remote, message: &Message<'_>| {
        bench.say(from, message);
        bench.heard(to).iter().map(|message| message[..2].to_vec()).collect::<Vec<_>>()
    };
    let plain = tell(&mut bench, &mut from, &mut to, &Message::Unicast(&payload));
    assert_eq!(plain, [[66, 8]], "it is a neighbour: no relay is needed, and eight are to spare");
    for (said, passed_on) in
        [(255, vec![[66, 8]]), (5, vec![[66, 4]]), (1, vec![[66, 0]]), (0, vec![])]
    {
        let message = Message::Unknown { tag: 66, payload: &with(said) };
        assert_eq!(tell(&mut bench, &mut from, &mut to, &message), passed_on, "{said}");
    }
    assert_eq!(bench.mesh.report().counters.gossip_circled, 1);
    assert_eq!(bench.end_of(from.id), None);
    let mut legacy = bench.meet(legacy_features(4));
    bench.pass(SECOND);
    bench.heard(&mut legacy);
    let payload = [&[3][..], &unicast("x", 4, b"psst")].concat();
    bench.say(&mut from, &Message::Unknown { tag: 66, payload: &payload });
    assert_eq!(bench.tags(&mut legacy), [5], "the original gets what it understands");
}

#[test]
fn what_goes_round_in_a_circle_among_routers_of_weave_net_is_stopped() {
    let mut bench = Bench::new();
    let mut from = bench.meet(legacy_features(2));
    let mut to = bench.meet(legacy_features(3));
    for record in [record(2, &[1, 66]), record(66, &[2])] {
        bench.say(&mut from, &Message::Gossip(&gossip("topology", 2, &record)));
    }
    bench.pass(SECOND);
    bench.heard(&mut to);
    let circling = unicast("x", 3, b"round");
    let broadcast = gossip("x", 66, b"and round");
    for _ in 0..1000 {
        bench.say(&mut from, &Message::Unicast(&circling));
        bench.say(&mut from, &Message::Broadcast(&broadcast));
    }
    let tags = bench.tags(&mut to);
    let count = |tag: u8| tags.iter().filter(|found| **found == tag).count();
    assert_eq!((count(5), count(6)), (64, 64));
    assert_eq!(bench.mesh.report().counters.gossip_circled, 2 * (1000 - 64));
    for number in 0..1000_u32 {
        let honest = unicast("x", 3, &number.to_be_bytes());
        bench.say(&mut from, &Message::Unicast(&honest));
    }
    let passed_on = bench.tags(&mut to).len();
    assert!(passed_on > 990, "what differs is not taken for it: {passed_on}");
}

#[test]
fn what_others_make_up_about_this_router_is_outlived() {
    let mut bench = Bench::new();
    let mut remote = bench.meet(legacy_features(2));
    bench.pass(2 * SECOND);
    let own = bench.mesh.peers().own().clone();
    let forged = |version: u64, remote: u64| {
        let mut peers = Peers::new(name(1), String::new(), own.uid, ShortId::new(1).unwrap());
        (0..version).for_each(|_| peers.add_connection(bare_connection(remote)));
        peers.encode_all().remove(0)
    };
    // Under the version that this router has itself, and a later one.
    for version in [own.version, own.version + 100] {
        bench.say(&mut remote, &Message::Gossip(&gossip("topology", 2, &forged(version, 9))));
        assert_eq!(bench.mesh.peers().own().version, version + 1);
        assert_eq!(bench.mesh.peers().own().connections, own.connections);
    }
    // What it said itself is no news, nor is what is outdated.
    let payload = bench.mesh.peers().encode(&BTreeSet::from([name(1)])).remove(0);
    let version = bench.mesh.peers().own().version;
    for payload in [payload, forged(own.version, 8)] {
        bench.say(&mut remote, &Message::Gossip(&gossip("topology", 2, &payload)));
    }
    assert_eq!(bench.mesh.peers().own().version, version);
}
