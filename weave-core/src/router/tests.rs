//! Routers in one process: TCP is a queue of bytes, transports are queues of frames.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::mesh::{Config, ConnectionId, PeerName, Uid};
use crate::switch::{
    Arrival, DropCause, Envelope, Forwarded, Forwarder, Frame, Inject, Link, LinkEvent, LinkStatus,
    MemberState, Overlay, PrepareError, Worker, WorkerId,
};
use crate::time::Instant;
use crate::wire::MacAddress;

/// What a transport carries from one peer to its neighbour.
struct Parcel {
    source: PeerName,
    destination: PeerName,
    frame: Vec<u8>,
}

/// The state of one kind of transport, all over the net.
#[derive(Default)]
struct Air {
    /// By sender and receiver.
    parcels: BTreeMap<(PeerName, PeerName), VecDeque<Parcel>>,
    /// Links that want to say something.
    events: BTreeMap<(PeerName, PeerName), VecDeque<LinkEvent>>,
    wakers: BTreeMap<(PeerName, PeerName), Waker>,
    invalidated: u32,
}

#[derive(Clone)]
struct Radio {
    name: &'static str,
    air: Arc<Mutex<Air>>,
}

struct RadioLink {
    air: Arc<Mutex<Air>>,
    /// This side and the other.
    ends: (PeerName, PeerName),
}

impl Overlay for Radio {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(
        &mut self,
        _: Instant,
        request: &LinkRequest,
        waker: Waker,
    ) -> Result<Box<dyn Link>, PrepareError> {
        let ends = (request.own, request.remote);
        self.air.lock().unwrap().wakers.insert(ends, waker);
        Ok(Box::new(RadioLink { air: self.air.clone(), ends }))
    }

    fn invalidate_routes(&mut self) {
        self.air.lock().unwrap().invalidated += 1;
    }
}

impl Link for RadioLink {
    fn confirm(&mut self, _: Instant) {
        self.push(LinkEvent::Control { message: 1, data: vec![1] });
    }

    fn handle_control(&mut self, _: Instant, message: u8, data: &[u8]) {
        assert_eq!((message, data), (1, &[1][..]));
        self.push(LinkEvent::Established);
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        self.air.lock().unwrap().events.entry(self.ends).or_default().pop_front()
    }

    fn forwarder(&self) -> Arc<dyn Forwarder> {
        Arc::new(RadioLink { air: self.air.clone(), ends: self.ends })
    }

    fn status(&self) -> LinkStatus {
        LinkStatus::default()
    }
}

impl RadioLink {
    fn push(&self, event: LinkEvent) {
        self.air.lock().unwrap().events.entry(self.ends).or_default().push_back(event);
    }
}

impl Forwarder for RadioLink {
    fn forward(&self, _: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let parcel = Parcel {
            source: envelope.source,
            destination: envelope.destination,
            frame: envelope.frame.bytes.to_vec(),
        };
        self.air.lock().unwrap().parcels.entry(self.ends).or_default().push_back(parcel);
        Forwarded::Accepted
    }

    fn flush(&self, _: WorkerId) {}
}

#[derive(Default)]
struct Bridge(Vec<Vec<u8>>);

impl Inject for Bridge {
    fn inject(&mut self, frame: Frame<'_>) {
        self.0.push(frame.bytes.to_vec());
    }
}

struct Node {
    router: Router,
    worker: Worker,
    bridge: Bridge,
    events: Vec<Event>,
}

struct Net {
    now: Instant,
    nodes: Vec<Node>,
    radios: Vec<Radio>,
    /// Which end of which node is at the other end of an end of a node.
    tcp: BTreeMap<(usize, ConnectionId), (usize, ConnectionId)>,
    next_port: u16,
}

fn name(node: usize) -> PeerName {
    PeerName::from_u64(0x0200_0000_0001 + u64::try_from(node).unwrap()).unwrap()
}

fn address(node: usize) -> SocketAddr {
    ([10, 0, 0, u8::try_from(node).unwrap() + 1], 6783).into()
}

impl Net {
    /// Nodes without discovery, each with the transports named, best first.
    fn new(count: usize, overlays: &[&'static str]) -> Self {
        let now = Instant::ORIGIN;
        let radios: Vec<Radio> =
            overlays.iter().map(|&name| Radio { name, air: Arc::default() }).collect();
        let nodes = (0..count)
            .map(|node| {
                let mut config = Config::new(name(node), Uid(u64::try_from(node).unwrap() + 77));
                config.discovery = false;
                let switch = Arc::new(Switch::new(name(node), 7));
                let overlays = radios.iter().cloned().map(|radio| Box::new(radio) as _).collect();
                let seed = [u8::try_from(node).unwrap(); 32];
                let router = Router::new(config, switch.clone(), overlays, seed, now);
                let worker = Worker::new(switch).unwrap();
                Node { router, worker, bridge: Bridge::default(), events: Vec::new() }
            })
            .collect();
        Self { now, nodes, radios, tcp: BTreeMap::new(), next_port: 40_000 }
    }

    /// As above, connected in a row, and settled.
    fn chain(count: usize, overlays: &[&'static str]) -> Self {
        let mut net = Self::new(count, overlays);
        for node in 1..count {
            let target = address(node - 1).to_string();
            net.nodes[node].router.connect(net.now, &[target], false).unwrap();
        }
        net.run(Duration::from_secs(10));
        net
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let next = self.nodes.iter().filter_map(|node| node.router.poll_timeout()).min();
            match next {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    for node in &mut self.nodes {
                        if node.router.poll_timeout().is_some_and(|at| at <= self.now) {
                            node.router.handle_timeout(self.now);
                        }
                    }
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Carries out what all routers want, until they want nothing more.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for node in 0..self.nodes.len() {
                while let Some(output) = self.nodes[node].router.poll_output() {
                    quiet = false;
                    self.carry_out(node, output);
                }
            }
            quiet &= !self.deliver_parcels();
            if quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        let now = self.now;
        match output {
            Output::Dial { id, address: to } => {
                let Some(other) = (0..self.nodes.len()).find(|&other| address(other) == to) else {
                    let error = "refused".to_owned();
                    return self.nodes[node].router.handle_dial_failed(now, id, error);
                };
                self.next_port += 1;
                let from = SocketAddr::new(address(node).ip(), self.next_port);
                let far = self.nodes[other].router.handle_accepted(now, to, from);
                self.tcp.insert((node, id), (other, far));
                self.tcp.insert((other, far), (node, id));
                self.nodes[node].router.handle_dialled(now, id, from, to);
            }
            Output::Resolve { target, .. } => {
                let result = Err("no names here".to_owned());
                self.nodes[node].router.handle_resolved(now, &target, result);
            }
            Output::Send { id, bytes } => {
                self.nodes[node].router.handle_written(now, id, bytes.len());
                if let Some(&(other, far)) = self.tcp.get(&(node, id)) {
                    self.nodes[other].router.handle_bytes(now, far, &bytes);
                }
            }
            Output::Close { id } => {
                if let Some((other, far)) = self.tcp.remove(&(node, id)) {
                    self.tcp.remove(&(other, far));
                    self.nodes[other].router.handle_closed(now, far, "reset".to_owned());
                }
            }
            Output::Event(event) => self.nodes[node].events.push(event),
        }
    }

    fn deliver_parcels(&mut self) -> bool {
        let mut any = false;
        for radio in &self.radios {
            let parcels = std::mem::take(&mut radio.air.lock().unwrap().parcels);
            for ((from, to), parcels) in parcels {
                let node = (0..self.nodes.len()).find(|&node| name(node) == to).unwrap();
                let Node { worker, bridge, .. } = &mut self.nodes[node];
                let mut pass = worker.pass(self.now, bridge);
                for Parcel { source, destination, frame } in parcels {
                    any = true;
                    let arrival = Arrival { neighbour: from, source, destination, relays: 0 };
                    pass.received(arrival, Frame::plain(&frame));
                }
            }
        }
        any
    }

    /// A container on the bridge of `node` sends a frame.
    fn capture(&mut self, node: usize, frame: &[u8]) {
        let Node { worker, bridge, .. } = &mut self.nodes[node];
        worker.pass(self.now, bridge).captured(Frame::plain(frame));
        self.settle();
    }

    /// What was injected since the last time.
    fn injected(&mut self, node: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.nodes[node].bridge.0)
    }

    /// The link of `node` to `other` says something.
    fn say(&mut self, radio: usize, node: usize, other: usize, event: LinkEvent) {
        let ends = (name(node), name(other));
        let mut air = self.radios[radio].air.lock().unwrap();
        air.events.entry(ends).or_default().push_back(event);
        let waker = air.wakers[&ends].clone();
        drop(air);
        waker.wake();
        self.nodes[node].router.handle_wakes(self.now);
        self.settle();
    }

    fn sent_by(&self, radio: usize, node: usize, other: usize, frame: &[u8]) -> bool {
        let air = self.radios[radio].air.lock().unwrap();
        let queue = air.parcels.get(&(name(node), name(other)));
        queue.is_some_and(|parcels| parcels.iter().any(|parcel| parcel.frame == frame))
    }

    fn dropped(&self, node: usize, cause: DropCause) -> u64 {
        self.nodes[node].router.report().switch.dropped.get(cause)
    }
}

/// The station with this number.
fn station(number: u8) -> MacAddress {
    MacAddress([2, 0xcc, 0, 0, 0, number])
}

fn frame(source: u8, destination: MacAddress) -> Vec<u8> {
    let mut frame = [destination.0, station(source).0].concat();
    frame.extend([0x12, 0x34]);
    frame.resize(60, source);
    frame
}

#[test]
fn frames_cross_between_two_routers() {
    let mut net = Net::chain(2, &["radio"]);
    let question = frame(1, MacAddress::BROADCAST);
    net.capture(0, &question);
    assert_eq!(net.injected(1), [question]);
    let answer = frame(2, station(1));
    net.capture(1, &answer);
    assert_eq!(net.injected(0), [answer]);
    let report = net.nodes[1].router.report();
    let stations: Vec<_> = report.stations.iter().map(|s| (s.mac, s.peer)).collect();
    assert_eq!(stations, [(station(1), name(0)), (station(2), name(1))]);
    let [link] = &report.links.values().collect::<Vec<_>>()[..] else { panic!("one link") };
    assert_eq!((link.peer, link.in_use), (name(0), Some("radio")));
    assert_eq!(link.overlays[0].state, MemberState::Established);
    assert!(report.mesh.connections[0].established);
}

#[test]
fn frames_are_relayed_and_flooded_along_a_chain() {
    let mut net = Net::chain(4, &["radio"]);
    let question = frame(1, MacAddress::BROADCAST);
    net.capture(0, &question);
    for node in 1..4 {
        assert_eq!(net.injected(node), [&question[..]], "once at node {node}");
    }
    assert_eq!(net.injected(0).len(), 0);
    let answer = frame(4, station(1));
    net.capture(3, &answer);
    assert_eq!(net.injected(0), [answer]);
    for node in 1..3 {
        assert_eq!(net.injected(node).len(), 0, "relays inject nothing");
        let stations = net.nodes[node].router.switch().macs();
        assert_eq!(stations.lookup(station(4)), None, "and learn nothing");
    }
}

#[test]
fn the_better_transport_is_used_while_it_works() {
    let mut net = Net::chain(2, &["fast", "slow"]);
    net.capture(1, &frame(2, MacAddress::BROADCAST));
    let to_two = frame(1, station(2));
    let carrier = |net: &mut Net| {
        let Node { worker, bridge, .. } = &mut net.nodes[0];
        worker.pass(net.now, bridge).captured(Frame::plain(&to_two));
        let sent = (net.sent_by(0, 0, 1, &to_two), net.sent_by(1, 0, 1, &to_two));
        net.settle();
        sent
    };
    assert_eq!(carrier(&mut net), (true, false));
    net.say(0, 0, 1, LinkEvent::Healthy(false));
    assert_eq!(carrier(&mut net), (false, true));
    net.say(0, 0, 1, LinkEvent::Healthy(true));
    assert_eq!(carrier(&mut net), (true, false));
    let changes: Vec<_> = net.nodes[0]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::OverlayInUse { from, to, .. } => Some((*from, *to)),
            _ => None,
        })
        .collect();
    let expected = [(None, "fast"), (Some("fast"), "slow"), (Some("slow"), "fast")];
    assert_eq!(changes, expected);
}

#[test]
fn a_connection_without_a_working_transport_ends_and_is_made_anew() {
    let mut net = Net::chain(2, &["radio"]);
    net.say(0, 0, 1, LinkEvent::Failed("broken".to_owned()));
    let ended = net.nodes[0].events.iter().any(|event| {
        matches!(event, Event::Mesh(mesh::Event::ConnectionEnded { error, .. })
            if error.to_string().contains("radio: broken"))
    });
    assert!(ended, "{:?}", net.nodes[0].events);
    net.capture(0, &frame(1, MacAddress::BROADCAST));
    assert_eq!(net.injected(1).len(), 0);
    net.run(Duration::from_secs(30));
    net.capture(0, &frame(1, MacAddress::BROADCAST));
    assert_eq!(net.injected(1).len(), 1);
}

#[test]
fn stations_of_a_peer_that_is_gone_are_forgotten() {
    let mut net = Net::chain(3, &["radio"]);
    net.capture(2, &frame(3, MacAddress::BROADCAST));
    assert_eq!(net.nodes[0].router.switch().macs().lookup(station(3)), Some(name(2)));
    let target = address(1).to_string();
    net.nodes[2].router.forget(net.now, &[target]);
    let id = net.nodes[2].router.report().mesh.connections[0].id;
    net.carry_out(2, Output::Close { id });
    net.nodes[2].router.handle_closed(net.now, id, "cut".to_owned());
    net.run(Duration::from_secs(5));
    assert_eq!(net.nodes[0].router.switch().macs().lookup(station(3)), None);
    let gone =
        Event::Mesh(mesh::Event::PeerRemoved { peer: name(2), nickname: name(2).to_string() });
    assert!(net.nodes[0].events.contains(&gone));
}

#[test]
fn a_station_that_moves_invalidates_what_overlays_derived() {
    let mut net = Net::chain(3, &["radio"]);
    net.capture(1, &frame(9, MacAddress::BROADCAST));
    let before = net.radios[0].air.lock().unwrap().invalidated;
    net.run(Duration::from_secs(5));
    let invalidated = |net: &mut Net| {
        net.nodes[0].router.handle_wakes(net.now);
        net.settle();
        net.radios[0].air.lock().unwrap().invalidated
    };
    let home = |net: &Net| net.nodes[0].router.switch().macs().lookup(station(9));
    // It was silent, so it is asked first.
    net.capture(2, &frame(9, MacAddress::BROADCAST));
    assert_eq!(home(&net), None);
    let disputed = invalidated(&mut net);
    assert!(disputed > before);
    net.capture(0, &frame(1, station(9)));
    net.run(Duration::from_secs(1));
    net.capture(2, &frame(9, MacAddress::BROADCAST));
    assert_eq!(home(&net), Some(name(2)));
    assert!(invalidated(&mut net) > disputed);
    net.run(Duration::from_secs(130));
    let (mac, from, to) = (station(9), name(1), name(2));
    for event in [
        Event::StationsDisputed { count: 1, mac, from, to },
        Event::StationsMoved { count: 1, mac, from, to },
    ] {
        assert!(net.nodes[0].events.contains(&event), "{:?}", net.nodes[0].events);
    }
}

#[test]
fn conflicts_of_stations_are_told_once_a_minute() {
    let mut net = Net::chain(2, &["radio"]);
    net.capture(1, &frame(9, MacAddress::BROADCAST));
    for _ in 0..100 {
        net.capture(0, &frame(9, MacAddress::BROADCAST));
    }
    assert_eq!(net.dropped(0, DropCause::Conflict), 100);
    net.run(Duration::from_secs(130));
    let told: Vec<_> = net.nodes[0]
        .events
        .iter()
        .filter(|event| matches!(event, Event::StationConflicts { .. }))
        .collect();
    let expected = Event::StationConflicts { count: 100, mac: station(9), known: name(1) };
    assert_eq!(told, [&expected]);
}

#[test]
fn contests_of_stations_are_told_once_a_minute() {
    let mut net = Net::chain(3, &["radio"]);
    net.capture(0, &frame(9, MacAddress::BROADCAST));
    for _ in 0..100 {
        net.capture(2, &frame(9, MacAddress::BROADCAST));
    }
    // The one that was in between had heard the first before.
    assert_eq!(net.nodes[0].router.switch().macs().lookup(station(9)), Some(name(0)));
    let told = |net: &Net| -> Vec<_> {
        let events = net.nodes.iter().flat_map(|node| &node.events);
        let contested = |event: &&Event| matches!(event, Event::StationsContested { .. });
        events.filter(contested).cloned().collect()
    };
    net.run(Duration::from_secs(130));
    let told = told(&net);
    let contests: u64 = net.nodes.iter().map(|node| node.router.switch().contests()).sum();
    let conflicts = net.dropped(2, DropCause::Conflict);
    assert_eq!((contests, conflicts, told.len()), (0, 100, 0), "{told:?}");

    // Two peers that did not hear each other before.
    let mut net = Net::chain(2, &["radio"]);
    net.nodes[1].router.switch().refresh_station(net.now, station(9), name(1));
    for _ in 0..100 {
        assert!(!net.nodes[1].router.switch().refresh_station(net.now, station(9), name(0)));
    }
    net.run(Duration::from_secs(130));
    let expected =
        Event::StationsContested { count: 100, mac: station(9), known: name(1), from: name(0) };
    let told: Vec<_> = net.nodes[1]
        .events
        .iter()
        .filter(|event| matches!(event, Event::StationsContested { .. }))
        .collect();
    assert_eq!(told, [&expected]);
}

#[test]
fn wakes_for_connections_that_are_gone_are_harmless() {
    let net = Net::new(1, &["radio"]);
    let wakes = net.nodes[0].router.wakes.clone();
    let notified = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = notified.clone();
    net.nodes[0].router.on_wake(Waker::new(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }));
    for _ in 0..5 {
        wakes.link(ConnectionId(99));
        wakes.stations_moved();
    }
    // One for setting it, one for each kind of wish.
    assert_eq!(notified.load(std::sync::atomic::Ordering::Relaxed), 3);
    let mut router = net.nodes.into_iter().next().unwrap().router;
    router.handle_wakes(Instant::ORIGIN);
    assert_eq!(wakes.take(), (std::collections::BTreeSet::new(), false));
    assert!(router.poll_output().is_none());
}
