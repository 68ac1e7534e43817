//! Members that tell each router something else.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::super::host::Bridge;
use super::*;
use crate::mesh::gossip::Data;
use crate::mesh::{PeerConnection, PeerName, Peers, ShortId, Uid, Unicast};
use crate::switch::{Arrival, DropCause, Frame, MAX_RELAYS, SwitchReport};

/// What a member says, whatever its router knows.
struct Lie(Vec<Bytes>);

impl Data for Lie {
    fn merge(&self, newer: &dyn Data) -> Arc<dyn Data> {
        Arc::new(Self([self.encode(), newer.encode()].concat()))
    }

    fn encode(&self) -> Vec<Bytes> {
        self.0.clone()
    }
}

/// A record as somebody could make it up.
pub(super) fn record(name: PeerName, uid: Uid, version: u64, neighbours: &[PeerName]) -> Bytes {
    let mut peers = Peers::new(name, "liar".to_owned(), uid, ShortId::new(7).unwrap());
    let additions = usize::try_from(version).unwrap() - neighbours.len();
    assert!(additions >= neighbours.len(), "each is added and established");
    let all = neighbours.iter().cycle().take(additions);
    for neighbour in all {
        let address = SocketAddr::from(([10, 0, 9, 9], 6783));
        peers.add_connection(PeerConnection::new(*neighbour, address, true));
    }
    neighbours.iter().for_each(|neighbour| assert!(peers.establish_connection(*neighbour)));
    peers.encode_all().remove(0)
}

pub(super) fn tell(net: &mut Net, member: HostId, records: Vec<Bytes>) {
    let lie = Arc::new(Lie(records));
    net.ask(member, |router, now| router.update(now, |mesh| mesh.gossip(now, "topology", lie)));
}

/// A frame comes in over an overlay, whoever sent it.
fn receive(net: &mut Net, host: HostId, arrival: Arrival, frame: &[u8]) {
    let now = net.now();
    let entry = &mut net.hosts[host.0];
    let running = entry.running.as_mut().unwrap();
    let mut bridge = Bridge(&mut entry.frames);
    running.worker.pass(now, &mut bridge).received(arrival, Frame::plain(frame));
    net.ask(host, |_, _| ());
}

/// Routers in a ring, and a member behind each of them.
struct Ring {
    net: Net,
    routers: Vec<HostId>,
    members: Vec<HostId>,
}

const NOWHERE: u64 = 0xf00d;

fn ring(seed: u64, size: usize) -> Ring {
    let mut net = Net::new(seed);
    let mut hosts = || -> Vec<HostId> {
        (0..size).map(|_| net.add_host_with(|config| config.discovery = false)).collect()
    };
    let (routers, members) = (hosts(), hosts());
    for at in 0..size {
        net.connect(routers[at], routers[(at + 1) % size]);
        net.connect(members[at], routers[at]);
    }
    converge(&mut net, 20 * SECOND);
    Ring { net, routers, members }
}

impl Ring {
    /// Each member tells its router that a certain peer is behind the next one.
    fn lie(&mut self) {
        self.lie_that_it_is_behind(|at, size| (at + 1) % size);
    }

    /// Each member tells its router that a certain peer is behind the member at that place.
    fn lie_that_it_is_behind(&mut self, place: impl Fn(usize, usize) -> usize) {
        let Self { net, routers, members } = self;
        let size = routers.len();
        let nowhere = PeerName::from_u64(NOWHERE).unwrap();
        for at in 0..size {
            let behind = place(at, size);
            let mut records: Vec<Bytes> = (0..size)
                .map(|other| {
                    let uid = net.router(members[other]).unwrap().mesh().peers().own().uid;
                    let mut neighbours = vec![net.name(routers[other])];
                    neighbours.extend((other == behind).then_some(nowhere));
                    record(net.name(members[other]), uid, 100, &neighbours)
                })
                .collect();
            records.push(record(nowhere, Uid(5), 100, &[net.name(members[behind])]));
            tell(net, members[at], records);
        }
        // The routes are calculated after a tenth of a second, and only then are the records passed
        // on, which is when each router hears what the others were told.
        net.run_for(Duration::from_millis(110));
        for (at, router) in routers.iter().enumerate() {
            let hop = net.router(*router).unwrap().mesh().routes().unicast_all(nowhere);
            let behind = place(at, size);
            let expected = if behind == at { members[at] } else { routers[behind] };
            assert_eq!(hop, Some(net.name(expected)), "they believe it");
        }
    }

    fn counters(&self) -> Vec<mesh::Counters> {
        let report = |host: &HostId| self.net.router(*host).unwrap().mesh().report();
        self.routers.iter().map(|host| report(host).counters).collect()
    }

    fn switches(&self) -> Vec<SwitchReport> {
        let report = |host: &HostId| self.net.router(*host).unwrap().report().switch;
        self.routers.iter().map(report).collect()
    }

    fn forwarded(&self) -> u64 {
        self.switches().iter().map(|switch| switch.forwarded).sum()
    }

    fn dropped(&self, cause: DropCause) -> u64 {
        self.switches().iter().map(|switch| switch.dropped.get(cause)).sum()
    }

    /// A connection between any two routers.
    fn mesh(&mut self) {
        for (at, a) in self.routers.iter().enumerate() {
            for b in &self.routers[at + 1..] {
                self.net.connect(*a, *b);
            }
        }
        converge(&mut self.net, 20 * SECOND);
        self.net.run_for(3 * SECOND);
    }

    /// A hundred frames arrive at the first router.
    fn receive(&mut self, arrival: Arrival) {
        let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[8, 0], &[6; 50]].concat();
        for _ in 0..100 {
            receive(&mut self.net, self.routers[0], arrival, &frame);
        }
        self.net.run_for(SECOND);
    }

    fn connections_ended(&self) -> usize {
        let ended =
            |event: &&Event| matches!(event, Event::Mesh(mesh::Event::ConnectionEnded { .. }));
        self.routers.iter().map(|host| self.net.events(*host).iter().filter(ended).count()).sum()
    }
}

#[test]
fn a_unicast_does_not_go_round_in_a_circle_for_ever() {
    for size in [3, 4, 5, 8] {
        let mut ring = ring(70, size);
        let ended = ring.connections_ended();
        ring.lie();
        let destination = PeerName::from_u64(NOWHERE).unwrap();
        // Of a peer that is nobody's neighbour: none of them notices that it came the wrong way.
        let source = PeerName::from_u64(0xfa2).unwrap();
        let (id, _) = ring.net.connections(ring.members[0])[0];
        for number in 0..100_u32 {
            let data = &number.to_be_bytes();
            let unicast = Unicast { channel: "words", source, destination, data }.encode();
            let len = u32::try_from(unicast.len() + 1).unwrap().to_be_bytes();
            let frame = [&len[..], &[5], &unicast].concat();
            assert!(ring.net.inject(ring.members[0], id, frame.into()));
        }
        ring.net.run_for(SECOND);
        let relayed: u64 = ring.counters().iter().map(|c| c.unicasts_relayed).sum();
        let circled: u64 = ring.counters().iter().map(|c| c.gossip_circled).sum();
        assert_eq!(circled, 100, "each is stopped");
        assert!(relayed <= 100 * 12, "after a few hops: {relayed}");
        assert_eq!(ring.connections_ended(), ended);
        // Those who were lied about put it right.
        converge(&mut ring.net, 20 * SECOND);
    }
}

#[test]
fn what_is_made_up_of_a_router_is_put_right_by_that_router() {
    let mut net = Net::new(71);
    let hosts = net.add_hosts(5);
    for host in &hosts[1..] {
        net.connect(*host, hosts[0]);
    }
    mesh_fully(&mut net, 20 * SECOND);
    let honest = net.router(hosts[3]).unwrap().mesh().peers().own().clone();
    for version in [honest.version, honest.version + 1000] {
        let made_up = record(honest.name, honest.uid, version, &[net.name(hosts[4])]);
        tell(&mut net, hosts[4], vec![made_up]);
        net.run_for(5 * SECOND);
        net.fully_meshed().unwrap();
    }
    let now = net.router(hosts[3]).unwrap().mesh().peers().own();
    assert!(now.version > honest.version + 1000);
    assert_eq!(now.connections.len(), 4);
}

#[test]
fn a_frame_does_not_go_round_in_a_circle_where_all_routers_are_connected() {
    for size in [3, 5] {
        let mut ring = ring(75, size);
        ring.mesh();
        ring.lie();
        let before = ring.forwarded();
        let neighbour = ring.net.name(ring.members[0]);
        let destination = PeerName::from_u64(NOWHERE).unwrap();
        ring.receive(Arrival { neighbour, source: neighbour, destination, relays: 0 });
        let relayed = ring.forwarded() - before;
        assert_eq!(relayed, 100, "the next router sees that the last one is no farther");
        assert_eq!(ring.dropped(DropCause::NoDetour), 100);
    }
}

#[test]
fn a_frame_goes_round_in_a_circle_of_routers_until_it_was_relayed_too_often() {
    for size in [4, 5, 8] {
        let mut ring = ring(70, size);
        ring.lie();
        let before = ring.forwarded();
        let neighbour = ring.net.name(ring.members[0]);
        let destination = PeerName::from_u64(NOWHERE).unwrap();
        ring.receive(Arrival { neighbour, source: neighbour, destination, relays: 0 });
        assert_eq!(ring.forwarded() - before, 100 * u64::from(MAX_RELAYS), "ring of {size}");
        assert_eq!(ring.dropped(DropCause::HopLimit), 100, "ring of {size}");
    }
}

#[test]
fn a_broadcast_goes_round_in_a_circle_of_routers_until_it_was_relayed_too_often() {
    for size in [5, 8] {
        let mut ring = ring(77, size);
        ring.lie_that_it_is_behind(|at, size| (at + size - 1) % size);
        let before = ring.forwarded();
        let Ring { net, routers, .. } = &ring;
        let neighbour = net.name(routers[size - 1]);
        let (source, destination) = (PeerName::from_u64(NOWHERE).unwrap(), net.name(routers[0]));
        ring.receive(Arrival { neighbour, source, destination, relays: 0 });
        // Each router sends it to the next one and to its member.
        assert_eq!(ring.forwarded() - before, 2 * 100 * u64::from(MAX_RELAYS), "ring of {size}");
        assert_eq!(ring.dropped(DropCause::HopLimit), 100, "ring of {size}");
    }
}

#[test]
fn a_broadcast_does_not_multiply_where_each_router_believes_to_be_its_root() {
    let mut ring = ring(78, 5);
    ring.mesh();
    ring.lie_that_it_is_behind(|at, _| at);
    let before = ring.forwarded();
    let Ring { net, routers, members } = &ring;
    let (neighbour, destination) = (net.name(members[0]), net.name(routers[0]));
    let source = PeerName::from_u64(NOWHERE).unwrap();
    ring.receive(Arrival { neighbour, source, destination, relays: 0 });
    assert_eq!(ring.forwarded() - before, 100 * 4, "the first router sends it to the others");
    assert_eq!(ring.dropped(DropCause::ReversePath), 100 * 4, "and these to nobody");
}
