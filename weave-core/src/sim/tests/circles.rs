//! Members that tell each router something else.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::super::host::Bridge;
use super::*;
use crate::mesh::gossip::Data;
use crate::mesh::{PeerConnection, PeerName, Peers, ShortId, Uid};
use crate::switch::{Arrival, DropCause, Frame};

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
        let Self { net, routers, members } = self;
        let size = routers.len();
        let nowhere = PeerName::from_u64(NOWHERE).unwrap();
        for at in 0..size {
            let behind = (at + 1) % size;
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
            assert_eq!(hop, Some(net.name(routers[(at + 1) % size])), "a circle");
        }
    }

    fn counters(&self) -> Vec<mesh::Counters> {
        let report = |host: &HostId| self.net.router(*host).unwrap().mesh().report();
        self.routers.iter().map(|host| report(host).counters).collect()
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
        let to = PeerName::from_u64(NOWHERE).unwrap();
        for number in 0..100_u32 {
            let payload = Bytes::copy_from_slice(&number.to_be_bytes());
            ring.net.ask(ring.routers[0], |router, now| {
                router.update(now, |mesh| mesh.unicast(now, "words", to, payload));
            });
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
        for (at, a) in ring.routers.iter().enumerate() {
            for b in &ring.routers[at + 1..] {
                ring.net.connect(*a, *b);
            }
        }
        converge(&mut ring.net, 20 * SECOND);
        ring.net.run_for(3 * SECOND);
        ring.lie();
        let switches = |ring: &Ring| {
            let report = |host: &HostId| ring.net.router(*host).unwrap().report().switch;
            ring.routers.iter().map(report).collect::<Vec<_>>()
        };
        let before: u64 = switches(&ring).iter().map(|switch| switch.forwarded).sum();
        let Ring { net, routers, members } = &mut ring;
        let arrival = Arrival {
            neighbour: net.name(members[0]),
            source: net.name(members[0]),
            destination: PeerName::from_u64(NOWHERE).unwrap(),
        };
        for _ in 0..100 {
            receive(net, routers[0], arrival, &[6; 64]);
        }
        net.run_for(SECOND);
        let after: u64 = switches(&ring).iter().map(|switch| switch.forwarded).sum();
        assert_eq!(after - before, 100, "the next router sees that the last one is no farther");
        let refused: u64 =
            switches(&ring).iter().map(|switch| switch.dropped.get(DropCause::NoDetour)).sum();
        assert_eq!(refused, 100);
    }
}
