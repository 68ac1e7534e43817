//! What other peers say that is not so, or that cannot be together.

use std::collections::BTreeSet;

use weave_core::mesh::{PeerName, Uid};
use weave_core::time::Instant;
use weave_core::wire::gob::AtMost;

use crate::allocator::{Answer, Event, Origin, Output, RequestId, Stored, TICK};
use crate::message::{State, Unicast};
use crate::ring::{Entry, RawRing, Ring};
use crate::{Allocator, Config, Range, Subnet};

const LIAR: u64 = 66;

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

fn universe() -> Subnet {
    "10.32.0.0/26".parse().unwrap()
}

fn start() -> u32 {
    universe().range().start
}

/// Peers that hear each other at once, and a liar who is one of the mesh.
struct Mesh {
    peers: Vec<(PeerName, Allocator)>,
    now: Instant,
    requests: u64,
    given: Vec<(RequestId, u32)>,
    events: Vec<Event>,
    /// They hear nothing of each other.
    parted: bool,
}

impl Mesh {
    /// The range is divided among `seeds`, of which the first `count` are there.
    fn new(count: u64, seeds: u64) -> Self {
        let peers = (1..=count).map(|number| (name(number), allocator(number, seeds)));
        let (given, events) = (Vec::new(), Vec::new());
        let now = Instant::ORIGIN;
        let mut mesh =
            Self { peers: peers.collect(), now, requests: 0, given, events, parted: false };
        mesh.settle();
        mesh
    }

    fn peer(&mut self, number: u64) -> &mut Allocator {
        &mut self.peers.iter_mut().find(|peer| peer.0 == name(number)).unwrap().1
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut busy = false;
            for index in 0..self.peers.len() {
                let from = self.peers[index].0;
                while let Some(output) = self.peers[index].1.poll_output() {
                    busy = true;
                    match output {
                        Output::Broadcast if !self.parted => {
                            let state = self.peers[index].1.state(0).encode();
                            for (to, allocator) in &mut self.peers {
                                if *to != from {
                                    allocator.handle_gossip(self.now, Some(from), &state).unwrap();
                                }
                            }
                        }
                        Output::Unicast { to, payload } if !self.parted => {
                            if let Some((_, peer)) = self.peers.iter_mut().find(|p| p.0 == to) {
                                peer.handle_unicast(self.now, from, &payload).unwrap();
                            }
                        }
                        Output::Answer { request, answer: Ok(Answer::Allocated(cidr)) } => {
                            let address = cidr.address().to_bits();
                            let twice = self.given.iter().any(|(_, other)| *other == address);
                            assert!(!twice, "{cidr} is given twice");
                            self.given.push((request, address));
                        }
                        Output::Event(event) => self.events.push(event),
                        _ => {}
                    }
                }
            }
            if !busy {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn tick(&mut self) {
        self.now += TICK;
        let now = self.now;
        self.peers.iter_mut().for_each(|(_, peer)| peer.handle_timeout(now));
        self.settle();
    }

    fn gossip(&mut self) {
        for index in 0..self.peers.len() {
            let state = self.peers[index].1.state(0).encode();
            for other in (0..self.peers.len()).filter(|other| *other != index) {
                self.peers[other].1.handle_gossip(self.now, None, &state).unwrap();
            }
        }
        self.settle();
    }

    fn allocate(&mut self, number: u64) -> Option<u32> {
        self.requests += 1;
        let (now, request) = (self.now, RequestId(self.requests));
        let holder = format!("c{}", self.requests);
        self.peer(number).allocate(now, request, &holder, universe(), false);
        self.settle();
        self.given.iter().find(|(id, _)| *id == request).map(|(_, address)| *address)
    }

    /// The liar tells one peer of entries, as gossip of a neighbour or to all.
    fn lie(&mut self, to: u64, entries: &[Entry]) {
        let seeds = self.peer(to).ring().seeds().to_vec();
        let ring = ring_of(LIAR, entries, &seeds);
        let state = State { ring: Some(ring), ..State::default() }.encode();
        let (now, source) = (self.now, name(LIAR));
        assert_eq!(self.peer(to).handle_gossip(now, None, &state), Ok(()));
        assert_eq!(self.peer(to).handle_gossip(now, Some(source), &state), Ok(()));
        self.settle();
    }

    fn owners(&mut self, number: u64) -> Vec<(u32, PeerName)> {
        let entries = self.peer(number).ring().entries().to_vec();
        entries.iter().map(|entry| (entry.token - start(), entry.peer)).collect()
    }
}

fn ring_of(peer: u64, entries: &[Entry], seeds: &[PeerName]) -> RawRing {
    let range = universe().range();
    RawRing {
        start: range.start,
        end: range.end,
        peer: name(peer),
        entries: AtMost(entries.to_vec()),
        seeds: AtMost(seeds.to_vec()),
    }
}

fn allocator(number: u64, seeds: u64) -> Allocator {
    let config = Config {
        name: name(number),
        uid: Uid(number),
        nickname: format!("host{number}"),
        universe: universe(),
        origin: Origin::Seed((1..=seeds).map(name).collect()),
    };
    let seed = [u8::try_from(number).unwrap(); 32];
    let mut allocator = Allocator::new(config, Stored::default(), vec![], seed, Instant::ORIGIN);
    // The first division is told before anything else happens.
    allocator.set_reachable((1..=4).chain([LIAR]).map(name).collect());
    allocator
}

fn claimed(token: u32, peer: u64, version: u32) -> Entry {
    Entry { token: start() + token, peer: name(peer), version, free: 0 }
}

/// "The range of 2 is mine, version 1,000,000."
#[test]
fn a_lie_about_a_range_in_use_changes_nothing() {
    for version in [1, 1_000_000, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
        let mut mesh = Mesh::new(2, 2);
        let address = mesh.allocate(2).unwrap();
        let before = mesh.owners(1);
        let lie = [claimed(0, 1, 0), claimed(32, LIAR, version)];
        for to in [1, 2, 1] {
            mesh.lie(to, &lie);
            mesh.gossip();
        }
        for number in [1, 2] {
            assert_eq!(mesh.owners(number), before, "version {version}");
        }
        assert!(mesh.peer(2).space().used().contains(address));
        let report = mesh.peer(2).report();
        let conflict = report.conflicts.iter().find(|conflict| conflict.peer == name(LIAR));
        if version < u32::MAX / 2 {
            let text = &conflict.unwrap().text;
            for part in ["10.32.0.32", "`weave accept", &format!("version {version}")] {
                assert!(text.contains(part), "{text}");
            }
        }
        // Both go on giving addresses out.
        assert!(mesh.allocate(1).is_some() && mesh.allocate(2).is_some());
        // Nothing is heard of it for a while.
        for _ in 0..40 {
            mesh.tick();
        }
        assert_eq!(mesh.peer(2).report().conflicts, [], "version {version}");
    }
}

/// What the owner tells wins over the lie at peers that believe it, such as those of Weave Net.
#[test]
fn an_owner_wins_back_those_who_believed_a_lie() {
    let mut mesh = Mesh::new(2, 2);
    mesh.allocate(2).unwrap();
    let seeds = mesh.peer(2).ring().seeds().to_vec();
    let believed = [claimed(0, 1, 0), claimed(32, LIAR, 1_000_000), claimed(40, LIAR, 7)];
    let victim = Ring::try_from(ring_of(3, &believed, &seeds)).unwrap();
    mesh.lie(2, &believed);
    let told = Ring::try_from(RawRing::from(mesh.peer(2).ring())).unwrap();
    let merged = victim.merge(&told, |_| false).unwrap().ring;
    for address in [32, 39, 40, 63] {
        assert_eq!(merged.owner(start() + address), Some(name(2)), "{address}");
    }
}

/// A peer is made to believe that it owns what others give out.
#[test]
fn gifts_of_somebody_else_are_not_used() {
    let mut mesh = Mesh::new(2, 2);
    let used = mesh.allocate(2).unwrap();
    mesh.lie(1, &[claimed(0, 1, 0), claimed(32, 1, 1_000_000)]);
    // More than it owns, while the owner does not answer.
    mesh.parted = true;
    let given: Vec<u32> = (0..40).filter_map(|_| mesh.allocate(1)).collect();
    assert_eq!(given.len(), 31, "all of its own but the first address of the range");
    assert!(given.iter().all(|address| *address < start() + 32 && *address != used));
    for _ in 0..14 {
        mesh.tick();
    }
    let report = mesh.peer(1).report();
    let text = &report.conflicts.first().unwrap().text;
    assert!(text.contains("given to us") && text.contains("weave rmpeer"), "{text}");
}

/// The owner is there: nobody else disposes of what it has, in small steps neither. A liar who was
/// believed to own the range could give it to a third peer, in good faith of that one.
#[test]
fn what_a_peer_in_reach_has_is_given_by_that_peer_alone() {
    let mut mesh = Mesh::new(3, 3);
    let before = mesh.owners(1);
    let used: Vec<u32> = (0..4).filter_map(|_| mesh.allocate(2)).collect();
    mesh.parted = true;
    let token = before[1].0;
    for version in 1..40 {
        let steps = [
            vec![claimed(token, LIAR, version)],
            vec![claimed(token + 1, LIAR, version)],
            vec![claimed(token, 1, version + 1), claimed(token + 1, 1, version + 1)],
        ];
        steps.iter().for_each(|lie| mesh.lie(1, lie));
    }
    assert_eq!(mesh.owners(1), before);
    let given: Vec<u32> = (0..40).filter_map(|_| mesh.allocate(1)).collect();
    assert!(!given.is_empty() && given.iter().all(|address| !used.contains(address)));
}

/// A router that is started again is not gone, and whoever was just started knows of nobody who is.
#[test]
fn who_was_out_of_reach_for_a_moment_has_what_it_had() {
    let mut mesh = Mesh::new(2, 2);
    let before = mesh.owners(1);
    mesh.parted = true;
    let in_reach = |mesh: &mut Mesh, peers: &[u64]| {
        mesh.peer(1).set_reachable(peers.iter().copied().map(name).collect());
    };
    for reach in [&[1, LIAR][..], &[1, 2, LIAR], &[1, LIAR]] {
        in_reach(&mut mesh, reach);
        mesh.lie(1, &[claimed(32, LIAR, 9)]);
        assert_eq!(mesh.owners(1), before);
        (0..4).for_each(|_| mesh.tick());
    }
    // Then others may have taken over what it has.
    (0..3).for_each(|_| mesh.tick());
    mesh.lie(1, &[claimed(32, LIAR, 9)]);
    assert_eq!(mesh.owners(1).last(), Some(&(32, name(LIAR))));
    // But it comes back, and had not left.
    in_reach(&mut mesh, &[1, 2, LIAR]);
    let seeds = mesh.peer(2).ring().seeds().to_vec();
    let ring = ring_of(2, &[claimed(0, 1, 0), claimed(32, 2, 10)], &seeds);
    let state = State { ring: Some(ring), ..State::default() }.encode();
    let now = mesh.now;
    for source in [None, Some(name(3)), Some(name(2))] {
        assert_eq!(mesh.owners(1).last(), Some(&(32, name(LIAR))), "not on hearsay");
        mesh.peer(1).handle_gossip(now, source, &state).unwrap();
    }
    assert_eq!(mesh.owners(1).last(), Some(&(32, name(2))));
}

/// What nobody uses goes to who says so himself, as with Weave Net: a peer that comes back gives up
/// what was taken over. Others cannot speak for the one who is said to have it.
#[test]
fn what_is_not_in_use_is_not_given_up_on_hearsay() {
    let mut mesh = Mesh::new(2, 2);
    let before = mesh.owners(2);
    mesh.lie(2, &[claimed(0, 1, 0), claimed(32, 1, 1_000_000)]);
    assert_eq!(mesh.owners(2), before);
    assert_eq!(mesh.owners(1), before);
    let seeds = mesh.peer(2).ring().seeds().to_vec();
    let entries = [claimed(0, 1, 0), claimed(32, 1, 100)];
    let state = State { ring: Some(ring_of(1, &entries, &seeds)), ..State::default() }.encode();
    let now = mesh.now;
    mesh.peer(2).handle_gossip(now, Some(name(1)), &state).unwrap();
    assert_eq!(mesh.owners(2).last(), Some(&(32, name(1))));
}

/// What the others know by hearsay is asked for, and then believed.
#[test]
fn a_change_is_believed_when_its_owner_confirms_it() {
    let mut mesh = Mesh::new(3, 2);
    mesh.parted = true;
    let range = universe().range();
    let request = Unicast::SpaceRequest(range).encode();
    let now = mesh.now;
    mesh.peer(2).handle_unicast(now, name(3), &request).unwrap();
    mesh.settle();
    mesh.parted = false;
    let granted = mesh.owners(2);
    assert!(granted.iter().any(|(_, owner)| *owner == name(3)));
    // 1 tells 3 what it is told by a neighbour.
    let state = mesh.peer(2).state(0).encode();
    mesh.peer(1).handle_gossip(now, None, &state).unwrap();
    mesh.peer(3).handle_gossip(now, None, &state).unwrap();
    mesh.settle();
    assert_eq!(mesh.owners(1), granted);
    assert_eq!(mesh.owners(3), granted);
    assert_eq!(mesh.peer(1).report().conflicts, []);
}

/// A host whose clock went back goes on asking.
#[test]
fn a_clock_that_goes_back_does_not_keep_a_peer_from_asking() {
    let mut mesh = Mesh::new(2, 2);
    let late = mesh.now + TICK * 1000;
    mesh.peer(1).handle_timeout(late);
    mesh.lie(1, &[claimed(32, LIAR, 9)]);
    mesh.now += TICK;
    let now = mesh.now;
    mesh.peer(1).handle_timeout(now);
    let asks = std::iter::from_fn(|| mesh.peer(1).poll_output())
        .any(|output| matches!(output, Output::Unicast { to, .. } if to == name(2)));
    assert!(asks);
    assert_eq!(mesh.peer(1).poll_timeout(), now + TICK);
}

/// Three hosts take the space of a fourth at once.
#[test]
fn three_takeovers_at_once_end_with_one_owner() {
    let mut mesh = Mesh::new(3, 4);
    for number in 1..=3 {
        let reachable: BTreeSet<PeerName> = (1..=3).map(name).collect();
        mesh.peer(number).set_reachable(reachable);
    }
    mesh.parted = true;
    let now = mesh.now;
    for number in 1..=3 {
        assert_eq!(mesh.peer(number).take_over(now, &name(4).to_string()), 16);
        // All of its own, and not yet what it took.
        for _ in 0..16 {
            mesh.allocate(number);
        }
    }
    mesh.settle();
    mesh.parted = false;
    mesh.gossip();
    for _ in 0..12 {
        mesh.tick();
        mesh.gossip();
    }
    let owners = mesh.owners(1);
    assert_eq!(owners.last(), Some(&(48, name(1))));
    assert_eq!([mesh.owners(2), mesh.owners(3)], [owners.clone(), owners]);
    // All 62 addresses can be had, each once.
    for _ in 0..20 {
        for number in 1..=3 {
            mesh.allocate(number);
        }
        mesh.tick();
    }
    assert_eq!(mesh.given.len(), 62);
}

/// Two hosts took over the same while they were parted for long, and gave some of it out.
#[test]
fn the_user_decides_who_gives_in() {
    let mut mesh = Mesh::new(2, 3);
    let apart = |mesh: &mut Mesh, number| {
        let now = mesh.now;
        mesh.peer(number).set_reachable([name(number)].into());
        mesh.peer(number).take_over(now, &name(3).to_string());
    };
    mesh.parted = true;
    [1, 2].into_iter().for_each(|number| apart(&mut mesh, number));
    (0..3).for_each(|_| mesh.tick());
    let now = mesh.now;
    // Each claims one there.
    for (number, address) in [(1, "10.32.0.50/26"), (2, "10.32.0.60/26")] {
        let (cidr, request) = (address.parse().unwrap(), RequestId(900 + number));
        mesh.peer(number).claim(now, request, "claimed", cidr, false, false);
    }
    mesh.settle();
    mesh.parted = false;
    for number in [1, 2] {
        mesh.peer(number).set_reachable([1, 2].map(name).into());
    }
    for _ in 0..6 {
        mesh.gossip();
        mesh.tick();
    }
    for number in [1, 2] {
        assert_ne!(mesh.peer(number).report().conflicts, [], "{number}");
    }
    assert!(!mesh.peer(2).give_in(now, "nobody"));
    let now = mesh.now;
    assert!(mesh.peer(2).give_in(now, "host1"));
    mesh.settle();
    for _ in 0..40 {
        mesh.gossip();
        mesh.tick();
    }
    for number in [1, 2] {
        assert_eq!(mesh.peer(number).report().conflicts, [], "{number}");
        let ring = mesh.peer(number).ring().clone();
        assert_eq!(ring.owner(start() + 50), Some(name(1)));
        assert_eq!(ring.owner(start() + 60), Some(name(2)));
        assert_eq!(ring.owner(start() + 55), Some(name(1)));
    }
    assert_eq!(mesh.owners(1), mesh.owners(2));
}

/// Meshes that were divided apart become one, without a reset of containers.
#[test]
fn a_ring_of_others_takes_the_place_of_ours() {
    let mut mesh = Mesh::new(1, 1);
    let now = mesh.now;
    let first = mesh.allocate(1).unwrap();
    let config = Config {
        name: name(2),
        uid: Uid(2),
        nickname: "host2".to_owned(),
        universe: universe(),
        origin: Origin::Seed(vec![name(2)]),
    };
    let mut other = Allocator::new(config, Stored::default(), vec![], [2; 32], now);
    other.set_reachable([1, 2].map(name).into());
    let cidr = "10.32.0.9/26".parse().unwrap();
    other.claim(now, RequestId(77), "mine", cidr, false, false);
    while other.poll_output().is_some() {}
    mesh.peers.push((name(2), other));
    mesh.gossip();
    for number in [1, 2] {
        let report = mesh.peer(number).report();
        let text = &report.conflicts.first().unwrap().text;
        assert!(text.contains("seeded by different peers") && text.contains("weave accept"));
    }
    assert!(mesh.peer(2).give_in(now, "host1"));
    mesh.settle();
    for _ in 0..40 {
        mesh.tick();
        mesh.gossip();
    }
    assert_eq!(mesh.peer(2).ring().seeds(), [name(1)]);
    assert_eq!(mesh.peer(2).held("mine", universe()), [cidr]);
    assert!(mesh.peer(1).space().used().contains(first));
    assert_eq!(mesh.owners(1), mesh.owners(2));
    for number in [1, 2] {
        assert_eq!(mesh.peer(number).report().conflicts, []);
    }
    for number in 0..70 {
        mesh.allocate(1 + number % 2);
    }
}

/// What a liar can make others keep, store and say has a limit.
#[test]
fn a_flood_of_lies_costs_little() {
    let mut mesh = Mesh::new(2, 2);
    mesh.allocate(2).unwrap();
    let mut broadcasts = 0;
    for round in 1..=200 {
        let lies: Vec<Entry> =
            (0..32).map(|token| claimed(32 + token, LIAR + u64::from(round), round * 9)).collect();
        let lies = [vec![claimed(0, 1, 0)], lies].concat();
        let ring = ring_of(LIAR, &lies, &[1, 2].map(name));
        let state = State { ring: Some(ring), ..State::default() }.encode();
        let now = mesh.now;
        mesh.peer(2).handle_gossip(now, Some(name(LIAR)), &state).unwrap();
        while let Some(output) = mesh.peer(2).poll_output() {
            broadcasts += u32::from(output == Output::Broadcast);
        }
    }
    assert!(broadcasts <= 16, "{broadcasts} broadcasts in one moment");
    assert!(mesh.peer(2).report().conflicts.len() <= 256);
    let mut told = 0;
    for _ in 0..100 {
        mesh.events.clear();
        mesh.tick();
        let lines = mesh.events.iter().filter(|event| event.is_warning()).count();
        assert!(lines <= 4, "{lines} lines in 5 s");
        told += lines;
    }
    assert!((1..=256).contains(&told), "{told} lines");
    let used: Vec<Range> = mesh.peer(2).space().used().iter().collect();
    assert_eq!(used.iter().map(|range| range.size()).sum::<u32>(), 1);
    assert_eq!(mesh.peer(2).ring().owner(used[0].start), Some(name(2)));
}
