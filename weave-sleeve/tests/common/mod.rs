//! Two routers in one process: memory ports in place of bridges, real UDP over loopback, and the
//! test in place of the mesh connection.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use weave_core::mesh::{ConnectionId, ConnectionUid, PeerName, SessionKey, ShortId};
use weave_core::switch::{
    ChecksumRequest, ForwardingTable, Frame, Link, LinkEvent, LinkParams, NeighbourLinks, Overlay,
    Segmentation, SegmentationKind, Switch, Topology, Waker, Worker,
};
use weave_core::wire::Checksum;
use weave_sleeve::native::Abilities;
use weave_sleeve::port::{MemoryHost, MemoryPort, Port};
use weave_sleeve::{Clock, DataThread, Sleeve};

pub const UID: ConnectionUid = ConnectionUid(0x9d3f_7fd4_70d6_6909);

/// How long to wait for something that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn peer(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

pub fn key() -> SessionKey {
    SessionKey([0x5a; 32])
}

/// Whether something that data threads do comes true.
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

/// An Ethernet frame of a type that nobody looks into.
pub fn frame(source: u8, destination: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, destination, 2, 0, 0, 0, 0, source, 0x88, 0xb5];
    frame.extend(payload);
    frame
}

/// An IPv4 packet in an Ethernet frame.
pub fn ipv4(source: u8, destination: u8, dont_fragment: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(source, destination, &[]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let flags = if dont_fragment { 0x40 } else { 0 };
    frame.extend([0x45, 0, length[0], length[1], 0, 7, flags, 0, 64, 253, 0, 0]);
    frame.extend([10, 32, 0, source, 10, 32, 0, destination]);
    frame.extend(payload);
    frame
}

/// A TCP super-frame.
pub struct Super {
    pub bytes: Vec<u8>,
    pub checksum: ChecksumRequest,
    pub segmentation: Segmentation,
}

impl Super {
    pub fn frame(&self) -> Frame<'_> {
        let Self { bytes, checksum, segmentation } = self;
        Frame { bytes, checksum: Some(*checksum), segmentation: Some(*segmentation) }
    }
}

/// A TCP super-frame from one station to another, to be cut at 1324 bytes.
pub fn super_frame(source: u8, destination: u8, payload: &[u8]) -> Super {
    let length = u16::try_from(20 + payload.len()).unwrap();
    let mut tcp = vec![0, 80, 0x14, 0x51, 0, 0, 3, 232, 1, 2, 3, 4, 0x50, 0x10, 0x20, 0];
    // The sum of the pseudo-header, as `ipv4` has the addresses.
    let addresses = [10, 32, 0, source, 10, 32, 0, destination];
    let pseudo_header = [&addresses[..], &[0, 6], &length.to_be_bytes()].concat();
    tcp.extend((!Checksum::of(&pseudo_header)).to_be_bytes());
    tcp.extend([0, 0]);
    tcp.extend(payload);
    let mut bytes = ipv4(source, destination, true, &tcp);
    bytes[23] = 6;
    bytes[24..26].fill(0);
    let checksum = Checksum::of(&bytes[14..34]).to_be_bytes();
    bytes[24..26].copy_from_slice(&checksum);
    let segmentation = Segmentation { kind: SegmentationKind::Tcp4, size: 1324 };
    Super { bytes, checksum: ChecksumRequest { start: 34, offset: 16 }, segmentation }
}

/// One router without its control plane.
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

/// Everybody is a neighbour.
struct Mesh(Vec<PeerName>);

impl Topology for Mesh {
    fn next_hops(&self) -> Vec<(PeerName, PeerName)> {
        self.0.iter().map(|name| (*name, *name)).collect()
    }

    fn broadcast(&self, _source: PeerName) -> Vec<PeerName> {
        self.0.clone()
    }

    fn knows(&self, name: PeerName) -> bool {
        [peer(0xa1), peer(0xa2)].contains(&name)
    }
}

impl Router {
    pub fn new(number: u64, abilities: Abilities, origin: Instant) -> Self {
        let clock = Clock::new(move || weave_core::time::Instant::since_origin(origin.elapsed()));
        let name = peer(number);
        let switch = Arc::new(Switch::new(name, number));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let sleeve = Sleeve::bind(address, abilities, clock.clone()).unwrap();
        let (port, host) = MemoryPort::new().unwrap();
        let (_, gone) = channel();
        let port = Some(port);
        Self { name, switch, host, sleeve, gone, clock, port, threads: Vec::new() }
    }

    /// Starts the data threads, with something around the port.
    pub fn start<P: Port>(&mut self, around: impl FnOnce(MemoryPort) -> P) {
        let mut port = around(self.port.take().unwrap());
        let (sender, gone) = channel();
        self.gone = gone;
        let worker = || Worker::new(self.switch.clone()).unwrap();
        let capturing = DataThread::capturing(
            worker(),
            port.capture().unwrap(),
            port.injector().unwrap(),
            self.clock.clone(),
            move |error| sender.send(error.to_string()).unwrap(),
        );
        let receiving = DataThread::receiving(
            worker(),
            self.sleeve.receiver(),
            port.injector().unwrap(),
            self.clock.clone(),
            |error| panic!("{error}"),
        );
        self.threads = vec![capturing.unwrap(), receiving.unwrap()];
    }

    /// Passes frames to the links of these neighbours.
    pub fn publish(&self, links: &[(PeerName, &dyn Link)]) {
        let names = links.iter().map(|(name, _)| *name).collect();
        let links = links
            .iter()
            .map(|(name, link)| NeighbourLinks { name: *name, forwarders: vec![link.forwarder()] })
            .collect();
        self.switch.publish(ForwardingTable::new(self.name, Arc::new(Mesh(names)), links));
    }

    pub fn now(&self) -> weave_core::time::Instant {
        self.clock.now()
    }

    /// The next frame that was injected.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = Vec::new();
        self.host.receive(PATIENCE, &mut buffer).then_some(buffer)
    }

    /// Whether nothing is injected for a moment.
    pub fn is_quiet(&self) -> bool {
        !self.host.receive(Duration::from_millis(50), &mut Vec::new())
    }

    pub fn counter(&self, link: &dyn Link, name: &str) -> u64 {
        let counters = link.status().counters;
        counters.iter().find(|(other, _)| *other == name).unwrap().1
    }
}

/// Two neighbours. The first one dialled.
pub struct Pair {
    pub routers: [Router; 2],
    pub links: [Box<dyn Link>; 2],
    pub established: [bool; 2],
    pub failed: [Option<String>; 2],
    woken: Receiver<()>,
    /// Messages of these numbers are lost.
    pub lost_messages: Vec<u8>,
}

impl Pair {
    /// Two routers with a link each, in the legacy format; `via` is what the first takes for the
    /// address of the second, if not its own.
    pub fn new(key: Option<&SessionKey>, via: Option<SocketAddr>) -> Self {
        Self::with([Abilities::Legacy, Abilities::Legacy], key, via)
    }

    /// The same of routers that can do more.
    pub fn with(
        abilities: [Abilities; 2],
        key: Option<&SessionKey>,
        via: Option<SocketAddr>,
    ) -> Self {
        let origin = Instant::now();
        let mut numbers = 0xa1..;
        let mut routers =
            abilities.map(|it| Router::new(numbers.next().unwrap_or_default(), it, origin));
        let features = [0, 1].map(|index: usize| routers[index].sleeve.features());
        let (wake, woken) = channel();
        let addresses = [0, 1].map(|index: usize| routers[index].sleeve.local_address());
        let names = [0, 1].map(|index: usize| routers[index].name);
        let mut index = 0;
        let links = routers.each_mut().map(|router| {
            let wake = wake.clone();
            let other = 1 - index;
            let params = LinkParams {
                connection: ConnectionId(1),
                own: names[index],
                remote: names[other],
                connection_uid: UID,
                outbound: index == 0,
                local_address: addresses[index],
                remote_address: via.filter(|_| index == 0).unwrap_or(addresses[other]),
                own_short_id: ShortId::new(1).unwrap(),
                remote_short_id: None,
                session_key: key.cloned(),
                remote_features: features[other].clone(),
                waker: Waker::new(move || wake.send(()).unwrap_or(())),
            };
            let now = router.now();
            index += 1;
            router.sleeve.prepare(now, params).unwrap()
        });
        for index in [0, 1] {
            routers[index].publish(&[(names[1 - index], &*links[index])]);
        }
        Self {
            routers,
            links,
            established: [false; 2],
            failed: [None, None],
            woken,
            lost_messages: Vec::new(),
        }
    }

    /// Two routers whose link is up, in the legacy format.
    pub fn established(key: Option<&SessionKey>) -> Self {
        let mut pair = Self::new(key, None);
        pair.start();
        pair
    }

    /// The same in the native format.
    pub fn native(key: Option<&SessionKey>) -> Self {
        let mut pair = Self::with([Abilities::default(), Abilities::default()], key, None);
        pair.start();
        pair
    }

    /// Starts everything, and waits for the link.
    pub fn start(&mut self) {
        self.routers.iter_mut().for_each(|router| router.start(|port| port));
        self.confirm();
    }

    /// Confirms both links, and waits until they are established and the tests are over.
    pub fn confirm(&mut self) {
        // The accepting side first: a heartbeat that comes before is dropped.
        for (router, link) in self.routers.iter().zip(&mut self.links).rev() {
            link.confirm(router.now());
        }
        let settled = |pair: &Self| {
            pair.established == [true; 2]
                && (pair.lost_messages.contains(&2)
                    || pair.links.iter().all(|link| {
                        link.status().attributes.contains(&("fragmentation", "outer".to_owned()))
                    }))
        };
        assert!(self.run_until(settled), "the link did not come up");
    }

    /// Carries messages and runs timers until something is so; `false` if it never is.
    pub fn run_until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.exchange();
            if done(self) {
                return true;
            }
            let now = self.routers[0].now();
            let next = self.links.iter().filter_map(|link| link.poll_timeout()).min();
            let wait = next.map_or(PATIENCE, |at| at.saturating_since(now));
            // Either something happened, or the time has come.
            let _ = self.woken.recv_timeout(wait.min(Duration::from_millis(20)));
            for (router, link) in self.routers.iter().zip(&mut self.links) {
                let now = router.now();
                if link.poll_timeout().is_some_and(|at| at <= now) {
                    link.handle_timeout(now);
                }
            }
            if Instant::now() > deadline {
                return false;
            }
        }
    }

    fn exchange(&mut self) {
        let mut busy = true;
        while std::mem::take(&mut busy) {
            for index in [0, 1] {
                while let Some(event) = self.links[index].poll_event() {
                    busy = true;
                    match event {
                        LinkEvent::Control { message, data } => {
                            if !self.lost_messages.contains(&message) {
                                let now = self.routers[1 - index].now();
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
