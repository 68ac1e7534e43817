//! Two routers' ends of the transport over loopback, with a relay between them that can cut the
//! TCP connection.
//!
//! ```text
//!   Node a ──(dials)──▶ Relay ──▶ Node b          control messages are carried by the test
//! ```
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant as StdInstant};

use weave_core::mesh::{ConnectionId, ConnectionUid, LinkRequest, PeerName, SessionKey};
use weave_core::switch::{
    Envelope, Forwarded, ForwardingTable, Frame, Inject, Link, LinkEvent, NeighbourLinks, Overlay,
    Switch, Topology, Waker, Worker, WorkerId,
};
use weave_core::time::{Clock, Instant};
use weave_tcp::{Tcp, TcpThread};

const KEY: SessionKey = SessionKey([7; 32]);
const WORKER: WorkerId = WorkerId::new(0).unwrap();
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);

fn now() -> Instant {
    static START: std::sync::OnceLock<StdInstant> = std::sync::OnceLock::new();
    Instant::since_origin(START.get_or_init(StdInstant::now).elapsed())
}

/// The local bridge of a node.
struct Bridge(Sender<Vec<u8>>);

impl Inject for Bridge {
    fn inject(&mut self, frame: Frame<'_>) {
        let _ = self.0.send(frame.bytes.to_vec());
    }
}

/// A mesh of two.
struct Two {
    own: PeerName,
    other: PeerName,
}

impl Topology for Two {
    fn next_hops(&self) -> Vec<(PeerName, PeerName)> {
        vec![(self.other, self.other)]
    }

    fn broadcast(&self, source: PeerName) -> Vec<PeerName> {
        if source == self.own { vec![self.other] } else { Vec::new() }
    }

    fn knows(&self, peer: PeerName) -> bool {
        peer == self.own || peer == self.other
    }
}

struct Node {
    name: PeerName,
    overlay: Tcp,
    frames: Receiver<Vec<u8>>,
    wakes: (Sender<()>, Receiver<()>),
    _thread: TcpThread,
}

impl Node {
    fn new(number: u64) -> Self {
        let name = PeerName::from_u64(number).unwrap();
        let (overlay, streams) = Tcp::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (sender, frames) = channel();
        let switch = Arc::new(Switch::new(name, number));
        let both = [1, 2].map(|number| PeerName::from_u64(number).unwrap());
        let [own, other] = if both[0] == name { both } else { [both[1], both[0]] };
        let links = vec![NeighbourLinks { name: other, forwarders: Vec::new() }];
        switch.publish(ForwardingTable::new(own, Arc::new(Two { own, other }), links));
        let worker = Worker::new(switch).unwrap();
        let thread = TcpThread::spawn(streams, worker, Bridge(sender), Clock::new(now)).unwrap();
        Self { name, overlay, frames, wakes: channel(), _thread: thread }
    }

    fn link(&mut self, remote: PeerName, outbound: bool, key: Option<SessionKey>) -> Box<dyn Link> {
        let wake = self.wakes.0.clone();
        let request = LinkRequest {
            id: ConnectionId(remote.to_u64()),
            own: self.name,
            remote,
            connection_uid: ConnectionUid(1),
            outbound,
            local_address: ([127, 0, 0, 1], 6783).into(),
            remote_address: ([127, 0, 0, 1], 6783).into(),
            session_key: key,
            overlays: Some(vec!["tcp".to_owned()]),
            remote_features: std::collections::BTreeMap::new(),
        };
        let waker = Waker::new(move || wake.send(()).unwrap_or(()));
        self.overlay.prepare(now(), &request, waker).unwrap()
    }

    /// Waits for the next event of its link.
    fn event(&self, link: &mut Box<dyn Link>) -> LinkEvent {
        let limit = StdInstant::now() + LIMIT;
        loop {
            if let Some(event) = link.poll_event() {
                return event;
            }
            assert!(StdInstant::now() < limit, "no event: {:?}", link.status());
            let due = link.poll_timeout().map(|at| at.saturating_since(now()));
            let _ = self.wakes.1.recv_timeout(due.unwrap_or(LIMIT).min(LIMIT));
            if link.poll_timeout().is_some_and(|at| at <= now()) {
                link.handle_timeout(now());
            }
        }
    }
}

/// Carries TCP connections to an address, until they are cut.
struct Relay {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = Self { port, open: Arc::default(), seen: Arc::default() };
        let (open, seen) = (relay.open.clone(), relay.seen.clone());
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let far = TcpStream::connect(to).unwrap();
                open.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (seen1, seen2) = (seen.clone(), seen.clone());
                thread::spawn(move || carry(near, far, &seen1));
                thread::spawn(move || carry(far2, near2, &seen2));
            }
        });
        relay
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, seen: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        seen.lock().unwrap().extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A link of two nodes that is up.
struct Pair {
    a: Node,
    b: Node,
    near: Box<dyn Link>,
    far: Box<dyn Link>,
    relay: Relay,
}

impl Pair {
    fn new(keys: [Option<SessionKey>; 2]) -> Self {
        let mut pair = Self::offered(keys);
        assert_eq!(pair.a.event(&mut pair.near), LinkEvent::Established);
        assert_eq!(pair.b.event(&mut pair.far), LinkEvent::Established);
        pair
    }

    /// The acceptor's offer has reached the dialler.
    fn offered([near_key, far_key]: [Option<SessionKey>; 2]) -> Self {
        let (mut a, mut b) = (Node::new(1), Node::new(2));
        let relay = Relay::new(b.overlay.local_address());
        let mut near = a.link(b.name, true, near_key);
        let mut far = b.link(a.name, false, far_key);
        near.confirm(now());
        far.confirm(now());
        let Some(LinkEvent::Control { message, mut data }) = far.poll_event() else {
            panic!("no offer");
        };
        data[..2].copy_from_slice(&relay.port.to_be_bytes());
        near.handle_control(now(), message, &data);
        Self { a, b, near, far, relay }
    }

    /// Sends a frame from a to b.
    fn forward(&self, bytes: &[u8]) -> Forwarded {
        let forwarder = self.near.forwarder();
        let envelope = Envelope {
            source: self.a.name,
            destination: self.b.name,
            frame: Frame::plain(bytes),
            broadcast: false,
            relays: 0,
        };
        let result = forwarder.forward(WORKER, envelope);
        forwarder.flush(WORKER);
        result
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.near.status().counters;
        counters.iter().find(|counter| counter.name == name).unwrap().value
    }
}

fn frame(length: usize, fill: u8) -> Vec<u8> {
    let mut frame = vec![fill; length];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame
}

#[test]
fn frames_of_all_sizes_arrive_in_order() {
    for key in [None, Some(KEY)] {
        let pair = Pair::new([key.clone(), key.clone()]);
        let mut sent = 0;
        for length in [14, 60, 1514, 9000, 65_549] {
            let bytes = frame(length, 0x5a);
            assert_eq!(pair.forward(&bytes), Forwarded::Accepted);
            assert_eq!(pair.b.frames.recv_timeout(LIMIT).unwrap(), bytes);
            sent += 1;
        }
        assert_eq!(pair.counter("tx_frames"), sent);
        let in_clear = pair.relay.seen.lock().unwrap().windows(40).any(|w| w == [0x5a; 40]);
        assert_eq!(in_clear, key.is_none());
        assert_eq!(pair.near.status().encrypted, key.is_some());
    }
}

#[test]
fn a_frame_that_no_record_holds_is_dropped_and_counted() {
    let pair = Pair::new([None, None]);
    assert_eq!(pair.forward(&frame(70_000, 1)), Forwarded::Dropped);
    assert_eq!(pair.counter("tx_dropped_too_long"), 1);
}

#[test]
fn a_cut_connection_is_replaced() {
    let mut pair = Pair::new([Some(KEY), Some(KEY)]);
    for round in 2..4 {
        pair.relay.cut();
        assert_eq!(pair.a.event(&mut pair.near), LinkEvent::Healthy(false));
        assert_eq!(pair.b.event(&mut pair.far), LinkEvent::Healthy(false));
        assert_eq!(pair.forward(&frame(60, 1)), Forwarded::Refused, "another transport may do");
        assert!(pair.near.status().problem.is_some());
        assert_eq!(pair.a.event(&mut pair.near), LinkEvent::Healthy(true));
        assert_eq!(pair.b.event(&mut pair.far), LinkEvent::Healthy(true));
        assert_eq!(pair.forward(&frame(60, 2)), Forwarded::Accepted);
        assert_eq!(pair.b.frames.recv_timeout(LIMIT).unwrap(), frame(60, 2));
        assert_eq!(pair.counter("connections"), round);
    }
}

#[test]
fn other_keys_establish_nothing() {
    let mut pair = Pair::offered([Some(KEY), Some(SessionKey([8; 32]))]);
    let problem = loop {
        assert_eq!(pair.near.poll_event(), None);
        assert_eq!(pair.far.poll_event(), None);
        if let Some(problem) = pair.far.status().problem {
            break problem;
        }
        pair.b.wakes.1.recv_timeout(LIMIT).unwrap();
    };
    assert_eq!(problem, "a record does not open");
}

#[test]
fn without_the_token_nobody_gets_in() {
    let pair = Pair::new([None, None]);
    let address = pair.b.overlay.local_address();
    let mut stranger = TcpStream::connect(address).unwrap();
    stranger.write_all(&[b"weavetcp\x01".as_slice(), &[0; 32]].concat()).unwrap();
    assert!(matches!(stranger.read(&mut [0; 64]), Ok(0) | Err(_)), "closed without an answer");
    assert_eq!(pair.forward(&frame(60, 1)), Forwarded::Accepted);
    assert_eq!(pair.b.frames.recv_timeout(LIMIT).unwrap(), frame(60, 1));
}

#[test]
fn a_silent_flood_keeps_the_neighbour_out_no_longer_than_it_takes_to_accept_it() {
    let mut pair = Pair::new([None, None]);
    let address = pair.b.overlay.local_address();
    let flood: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    pair.relay.cut();
    assert_eq!(pair.a.event(&mut pair.near), LinkEvent::Healthy(false));
    assert_eq!(pair.a.event(&mut pair.near), LinkEvent::Healthy(true));
    drop(flood);
}

#[test]
fn addresses_of_nobody_are_not_let_in() {
    let node = Node::new(1);
    let mut stranger = TcpStream::connect(node.overlay.local_address()).unwrap();
    assert!(matches!(stranger.read(&mut [0; 64]), Ok(0) | Err(_)));
}

#[test]
fn a_full_queue_drops_and_counts() {
    let pair = Pair::new([None, None]);
    // Nothing is flushed, so nothing leaves.
    let forwarder = pair.near.forwarder();
    let bytes = frame(60_000, 1);
    let envelope = Envelope {
        source: pair.a.name,
        destination: pair.b.name,
        frame: Frame::plain(&bytes),
        broadcast: false,
        relays: 0,
    };
    let results: Vec<Forwarded> = (0..20).map(|_| forwarder.forward(WORKER, envelope)).collect();
    assert_eq!(results[0], Forwarded::Accepted);
    assert_eq!(results[19], Forwarded::Dropped);
    assert!(pair.counter("tx_dropped_queue_full") > 0);
}

#[test]
fn a_dropped_link_closes_its_connection() {
    let mut pair = Pair::new([None, None]);
    drop(pair.far);
    assert_eq!(pair.a.event(&mut pair.near), LinkEvent::Healthy(false));
    let problem = pair.near.status().problem.unwrap();
    assert!(problem.contains("closed") || problem.contains("reset"), "{problem}");
}
