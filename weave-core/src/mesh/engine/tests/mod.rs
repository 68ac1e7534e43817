//! One router, and peers that behave well or badly.

mod blame;
mod ends;
mod flood;
mod hostile;
mod rules;
mod takeover;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::*;
use crate::mesh::{
    Features, Gossip, Handshake, HandshakeParams, LinkRequest, Message, Password, PeerConnection,
    Progress, Session, Uid, Unicast,
};

const SECOND: Duration = Duration::from_secs(1);
const PASSWORD: &str = "correct horse battery staple";

/// A router under test, whose links are made at once and whose bytes are all written, unless
/// the test says otherwise.
struct Bench {
    mesh: Mesh,
    now: Instant,
    written: bool,
    /// Those that do not read, whatever the others do.
    deaf: BTreeSet<ConnectionId>,
    prepared: bool,
    sent: BTreeMap<ConnectionId, Vec<u8>>,
    closed: BTreeSet<ConnectionId>,
    dials: Vec<(ConnectionId, SocketAddr)>,
    events: Vec<Event>,
    controls: Vec<Control>,
    requests: Vec<LinkRequest>,
    next_port: u16,
}

/// The other end of a connection, which says what a test wants it to say.
struct Remote {
    id: ConnectionId,
    session: Session,
}

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

fn features(number: u64) -> Features {
    Features {
        name: name(number),
        nickname: format!("peer{number}"),
        uid: Uid(number * 1000),
        connection_id: number << 32,
        short_id: ShortId::new(100 + u16::try_from(number % 1000).unwrap()),
        trusted: false,
        overlays: Some(vec!["sim".to_owned()]),
        further: [("Gossip", "contents"), ("Notice", "1"), ("Unicast", "hops")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    }
}

/// One of the original's routers.
fn legacy_features(number: u64) -> Features {
    Features { further: BTreeMap::new(), ..features(number) }
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let now = Instant::since_origin(1000 * SECOND);
        let mut config = Config::new(name(1), Uid(1));
        config.discovery = false;
        config.short_id = ShortId::new(1);
        config.overlays = vec!["sim".to_owned()];
        configure(&mut config);
        Self {
            mesh: Mesh::new(config, [42; 32], now),
            now,
            written: true,
            deaf: BTreeSet::new(),
            prepared: true,
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
            dials: Vec::new(),
            events: Vec::new(),
            controls: Vec::new(),
            requests: Vec::new(),
            next_port: 1024,
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.mesh.poll_output() {
            match output {
                Output::Dial { id, address } => self.dials.push((id, address)),
                Output::Send { id, bytes } => {
                    assert!(!self.closed.contains(&id), "nothing is sent after the end");
                    self.sent.entry(id).or_default().extend_from_slice(&bytes);
                    if self.written && !self.deaf.contains(&id) {
                        self.mesh.handle_written(self.now, id, bytes.len());
                    }
                }
                Output::Close { id } => assert!(self.closed.insert(id), "closed once"),
                Output::Prepare(request) => {
                    let id = request.id;
                    self.requests.push(*request);
                    if self.prepared {
                        self.mesh.link_prepared(self.now, id);
                    }
                }
                Output::Event(event) => self.events.push(event),
                Output::Control { control, .. } => self.controls.push(control),
                _ => {}
            }
        }
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            match self.mesh.poll_timeout().filter(|at| *at <= end) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.mesh.handle_timeout(self.now);
                }
                None => break,
            }
        }
        self.now = end;
    }

    fn accept(&mut self) -> ConnectionId {
        self.accept_from([10, 0, 0, 2])
    }

    fn accept_from(&mut self, host: [u8; 4]) -> ConnectionId {
        self.next_port += 1;
        let local = SocketAddr::from(([10, 0, 0, 1], 6783));
        let remote = SocketAddr::from((host, self.next_port));
        let id = self.mesh.handle_accepted(self.now, local, remote);
        self.drain();
        id
    }

    fn input(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.mesh.handle_bytes(self.now, id, bytes);
        self.drain();
    }

    /// A peer with these features connects and gets through the handshake.
    fn meet(&mut self, features: Features) -> Remote {
        let id = self.accept();
        self.shake(id, features, None, true).unwrap()
    }

    /// Shakes hands over an open connection; none if the router ends it.
    fn shake(
        &mut self,
        id: ConnectionId,
        features: Features,
        password: Option<&str>,
        outbound: bool,
    ) -> Option<Remote> {
        let mut handshake = Handshake::new(HandshakeParams {
            outbound,
            password: password.and_then(Password::new),
            secret: Zeroizing::new([7; 32]),
            features,
        });
        loop {
            while let Some(bytes) = handshake.poll_transmit() {
                self.input(id, &bytes);
            }
            let bytes = self.sent.remove(&id)?;
            match handshake.handle_bytes(&bytes) {
                Ok(Progress::Pending) => {}
                Ok(Progress::Done(established)) => {
                    while let Some(bytes) = handshake.poll_transmit() {
                        self.input(id, &bytes);
                    }
                    let session = established.session;
                    return Some(Remote { id, session });
                }
                Err(_) => return None,
            }
        }
    }

    fn say(&mut self, remote: &mut Remote, message: &Message<'_>) {
        let frame = remote.session.seal(message).unwrap();
        self.input(remote.id, &frame);
    }

    /// What was said to a peer since the last time.
    fn heard(&mut self, remote: &mut Remote) -> Vec<Bytes> {
        if let Some(bytes) = self.sent.remove(&remote.id) {
            remote.session.handle_bytes(&bytes);
        }
        let mut messages = Vec::new();
        while let Some(message) = remote.session.poll_message().unwrap() {
            messages.push(message);
        }
        messages
    }

    fn tags(&mut self, remote: &mut Remote) -> Vec<u8> {
        self.heard(remote).iter().map(|message| message[0]).collect()
    }

    fn is_closed(&self, remote: &Remote) -> bool {
        self.closed.contains(&remote.id)
    }

    /// Why a connection ended.
    fn end_of(&self, id: ConnectionId) -> Option<&ConnectionError> {
        self.events.iter().find_map(|event| match event {
            Event::ConnectionEnded { id: ended, error, .. } if *ended == id => Some(error),
            _ => None,
        })
    }

    fn neighbours(&self) -> Vec<u64> {
        self.mesh.report().connections.iter().map(|c| c.peer.to_u64()).collect()
    }
}

/// The record of a peer that has connections to these, as it would gossip it.
fn record(number: u64, neighbours: &[u64]) -> Bytes {
    let features = features(number);
    let mut peers =
        Peers::new(features.name, features.nickname, features.uid, features.short_id.unwrap());
    for neighbour in neighbours {
        let address = SocketAddr::from(([10, 0, 0, 9], 6783));
        peers.add_connection(PeerConnection::new(name(*neighbour), address, true));
    }
    peers.encode_all().remove(0)
}

fn gossip(channel: &str, source: u64, data: &[u8]) -> Vec<u8> {
    Gossip { channel, source: name(source), data }.encode()
}
