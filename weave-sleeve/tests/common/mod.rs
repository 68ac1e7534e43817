//! Routers in one process: memory ports in place of bridges, real UDP over loopback, and the test
//! in place of the mesh connection.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod fixtures;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use fixtures::link_request;
#[allow(unused_imports, reason = "each test binary uses its part")]
pub use fixtures::{frame, ipv4, super_frame};
use weave_core::mesh::{ConnectionUid, LinkRequest, PeerName, SessionKey};
use weave_core::switch::{
    ForwardingTable, Link, LinkEvent, NeighbourLinks, Overlay, Switch, Topology, Waker, Worker,
};
use weave_sleeve::native::Capabilities;
use weave_sleeve::port::{MemoryHost, MemoryPort, Port};
use weave_sleeve::{Clock, DataThread, Sleeve};

pub const UID: ConnectionUid = ConnectionUid(0x9d3f_7fd4_70d6_6909);

/// Time to wait for something that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn peer(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

pub fn key() -> SessionKey {
    SessionKey([0x5a; 32])
}

/// Waits until something that data threads do comes true, and returns whether it did.
pub fn eventually(done: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// A router without its control plane.
pub struct Router {
    pub name: PeerName,
    pub switch: Arc<Switch>,
    pub host: MemoryHost,
    pub sleeve: Sleeve,
    pub gone: Receiver<String>,
    clock: Clock,
    port: Option<MemoryPort>,
    threads: Vec<DataThread>,
}

/// A mesh without cycles: the next hop to each of the other routers.
struct Mesh {
    own: PeerName,
    next_hops: Vec<(PeerName, PeerName)>,
}

impl Topology for Mesh {
    fn next_hops(&self) -> Vec<(PeerName, PeerName)> {
        self.next_hops.clone()
    }

    fn broadcast(&self, source: PeerName) -> Vec<PeerName> {
        let back = self.next_hops.iter().find(|(to, _)| *to == source).map(|(_, hop)| *hop);
        let neighbours = self.next_hops.iter().filter(|(to, hop)| to == hop).map(|(to, _)| *to);
        neighbours.filter(|neighbour| Some(*neighbour) != back).collect()
    }

    fn knows(&self, name: PeerName) -> bool {
        name == self.own || self.next_hops.iter().any(|(to, _)| *to == name)
    }
}

impl Router {
    pub fn new(number: u64, capabilities: Capabilities, origin: Instant) -> Self {
        let clock = Clock::new(move || weave_core::time::Instant::since_origin(origin.elapsed()));
        let name = peer(number);
        let switch = Arc::new(Switch::new(name, number));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let sleeve = Sleeve::bind(address, 2, capabilities, clock.clone()).unwrap();
        let (port, host) = MemoryPort::new().unwrap();
        let (_, gone) = channel();
        let port = Some(port);
        Self { name, switch, host, sleeve, gone, clock, port, threads: Vec::new() }
    }

    /// Starts the data threads, with a wrapper around the port.
    pub fn start<P: Port>(&mut self, around: impl FnOnce(MemoryPort) -> P) {
        let mut port = around(self.port.take().unwrap());
        let (sender, gone) = channel();
        self.gone = gone;
        let mut capture = Some(port.capture().unwrap());
        self.threads = self
            .sleeve
            .receivers()
            .into_iter()
            .map(|receiver| {
                let sender = sender.clone();
                DataThread::spawn(
                    Worker::new(self.switch.clone()).unwrap(),
                    capture.take(),
                    receiver,
                    port.injector().unwrap(),
                    self.clock.clone(),
                    move |lost| sender.send(lost.to_string()).unwrap(),
                )
                .unwrap()
            })
            .collect();
    }

    /// Forwards frames to the links of these neighbours.
    pub fn publish(&self, links: &[(PeerName, &dyn Link)]) {
        self.publish_with(links, &[]);
    }

    /// Does the same in a mesh where other peers are reached through neighbours.
    fn publish_with(&self, links: &[(PeerName, &dyn Link)], beyond: &[(PeerName, PeerName)]) {
        let neighbours = links.iter().map(|(name, _)| (*name, *name));
        let next_hops = neighbours.chain(beyond.iter().copied()).collect();
        let mesh = Arc::new(Mesh { own: self.name, next_hops });
        let links = links
            .iter()
            .map(|(name, link)| NeighbourLinks { name: *name, forwarders: vec![link.forwarder()] })
            .collect();
        self.switch.publish(ForwardingTable::new(self.name, mesh, links));
    }

    pub fn now(&self) -> weave_core::time::Instant {
        self.clock.now()
    }

    /// Returns the next injected frame.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = Vec::new();
        self.host.receive(PATIENCE, &mut buffer).then_some(buffer)
    }

    /// Returns whether nothing is injected for a moment.
    pub fn is_quiet(&self) -> bool {
        !self.host.receive(Duration::from_millis(50), &mut Vec::new())
    }

    pub fn counter(&self, link: &dyn Link, name: &str) -> u64 {
        let counters = link.status().counters;
        counters.iter().find(|counter| counter.key() == name).unwrap().value
    }
}

/// Both halves of the link between two routers, and the mesh connection between them. The first
/// router dialled.
pub struct Wire {
    pub links: [Box<dyn Link>; 2],
    pub established: [bool; 2],
    pub failed: [Option<String>; 2],
    /// Control messages of these numbers are lost.
    pub lost_messages: Vec<u8>,
}

impl Wire {
    /// Creates an unconfirmed link. `via` replaces the address of the second router for the first
    /// one, and `wake` is notified of news.
    pub fn new(
        mut routers: [&mut Router; 2],
        key: Option<&SessionKey>,
        via: Option<SocketAddr>,
        wake: &Sender<()>,
    ) -> Self {
        let features = routers.each_ref().map(|router| router.sleeve.features());
        let addresses = routers.each_ref().map(|router| router.sleeve.local_address());
        let names = routers.each_ref().map(|router| router.name);
        let links = [0, 1].map(|index: usize| {
            let wake = wake.clone();
            let other = 1 - index;
            let remote = via.filter(|_| index == 0).unwrap_or(addresses[other]);
            let request = LinkRequest {
                own: names[index],
                remote: names[other],
                connection_uid: UID,
                session_key: key.cloned(),
                remote_features: features[other].clone(),
                ..link_request(index == 0, addresses[index], remote)
            };
            let now = routers[index].now();
            let waker = Waker::new(move || wake.send(()).unwrap_or(()));
            routers[index].sleeve.prepare(now, &request, waker).unwrap()
        });
        Self { links, established: [false; 2], failed: [None, None], lost_messages: Vec::new() }
    }

    pub fn confirm(&mut self, now: weave_core::time::Instant) {
        // The accepting side comes first: it would drop an earlier heartbeat.
        self.links.iter_mut().rev().for_each(|link| link.confirm(now));
    }

    /// Returns whether the link is up, and its tests are over.
    pub fn is_settled(&self) -> bool {
        self.established == [true; 2]
            && (self.lost_messages.contains(&2)
                || self.links.iter().all(|link| {
                    link.status().attributes.contains(&("fragmentation", "outer".to_owned()))
                }))
    }

    pub fn poll_timeout(&self) -> Option<weave_core::time::Instant> {
        self.links.iter().filter_map(|link| link.poll_timeout()).min()
    }

    pub fn handle_timeout(&mut self, now: weave_core::time::Instant) {
        for link in &mut self.links {
            if link.poll_timeout().is_some_and(|at| at <= now) {
                link.handle_timeout(now);
            }
        }
    }

    /// Carries messages until there are none.
    pub fn exchange(&mut self, now: weave_core::time::Instant) {
        let mut busy = true;
        while std::mem::take(&mut busy) {
            for index in [0, 1] {
                while let Some(event) = self.links[index].poll_event() {
                    busy = true;
                    match event {
                        LinkEvent::Control { message, data } => {
                            if !self.lost_messages.contains(&message) {
                                self.links[1 - index].handle_control(now, message, &data);
                            }
                        }
                        LinkEvent::Established => self.established[index] = true,
                        LinkEvent::Failed(reason) => self.failed[index] = Some(reason),
                        LinkEvent::Healthy(_) => panic!("the sleeve never says that"),
                    }
                }
            }
        }
    }
}

/// Routers, and the wires between them.
pub struct Net<const ROUTERS: usize, const WIRES: usize> {
    pub routers: [Router; ROUTERS],
    pub wires: [Wire; WIRES],
    woken: Receiver<()>,
}

/// Two neighbours.
pub type Pair = Net<2, 1>;

/// Three routers, of which the middle one relays.
pub type Line = Net<3, 2>;

fn routers<const N: usize>(capabilities: [Capabilities; N]) -> [Router; N] {
    let origin = Instant::now();
    let mut numbers = 0xa1..;
    capabilities.map(|it| Router::new(numbers.next().unwrap_or_default(), it, origin))
}

impl Pair {
    /// Creates two routers with a link in the legacy format. `via` replaces the address of the
    /// second router for the first one.
    pub fn new(key: Option<&SessionKey>, via: Option<SocketAddr>) -> Self {
        Self::with([Capabilities::Legacy, Capabilities::Legacy], key, via)
    }

    /// Does the same for routers with these capabilities.
    pub fn with(
        capabilities: [Capabilities; 2],
        key: Option<&SessionKey>,
        via: Option<SocketAddr>,
    ) -> Self {
        let mut routers = routers(capabilities);
        let (wake, woken) = channel();
        let wire = Wire::new(routers.each_mut(), key, via, &wake);
        for index in [0, 1] {
            routers[index].publish(&[(routers[1 - index].name, &*wire.links[index])]);
        }
        Self { routers, wires: [wire], woken }
    }

    /// Creates two routers whose link is up, in the legacy format.
    pub fn established(key: Option<&SessionKey>) -> Self {
        let mut pair = Self::new(key, None);
        pair.start();
        pair
    }

    /// Creates two routers whose link is up, in the native format.
    pub fn native(key: Option<&SessionKey>) -> Self {
        let mut pair = Self::with([Capabilities::default(), Capabilities::default()], key, None);
        pair.start();
        pair
    }
}

impl Line {
    /// Creates three routers whose links are up.
    pub fn established(capabilities: [Capabilities; 3], key: Option<&SessionKey>) -> Self {
        let mut routers = routers(capabilities);
        let (wake, woken) = channel();
        let [a, b, c] = &mut routers;
        let wires = [Wire::new([a, b], key, None, &wake), Wire::new([b, c], key, None, &wake)];
        let [left, right] = wires.each_ref().map(|wire| wire.links.each_ref().map(|link| &**link));
        let (first, middle, last) = (a.name, b.name, c.name);
        a.publish_with(&[(middle, left[0])], &[(last, middle)]);
        b.publish(&[(first, left[1]), (last, right[0])]);
        c.publish_with(&[(middle, right[1])], &[(first, middle)]);
        let mut line = Self { routers, wires, woken };
        line.start();
        line
    }
}

impl<const ROUTERS: usize, const WIRES: usize> Net<ROUTERS, WIRES> {
    /// Starts all data threads, and waits for the links.
    pub fn start(&mut self) {
        self.routers.iter_mut().for_each(|router| router.start(|port| port));
        self.confirm();
    }

    /// Confirms all links, and waits until they are established and the tests are over.
    pub fn confirm(&mut self) {
        let now = self.routers[0].now();
        self.wires.iter_mut().for_each(|wire| wire.confirm(now));
        assert!(self.run_until(|net| net.wires.iter().all(Wire::is_settled)), "a link is not up");
    }

    /// Carries messages and runs timers until a condition holds, and returns `false` if it never
    /// does.
    pub fn run_until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.routers[0].now();
            self.wires.iter_mut().for_each(|wire| wire.exchange(now));
            if done(self) {
                return true;
            }
            let next = self.wires.iter().filter_map(Wire::poll_timeout).min();
            let wait = next.map_or(PATIENCE, |at| at.saturating_since(now));
            // Either something happened, or a timer is due.
            let _ = self.woken.recv_timeout(wait.min(Duration::from_millis(20)));
            let now = self.routers[0].now();
            self.wires.iter_mut().for_each(|wire| wire.handle_timeout(now));
            if Instant::now() > deadline {
                return false;
            }
        }
    }
}
