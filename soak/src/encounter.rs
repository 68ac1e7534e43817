//! One control plane and members with connections to it that are up, any of which may say
//! anything: sequences of messages, with time between them.
//!
//! The script comes from a fuzzer. One of the members is honest, and says no more than that it is
//! alive, when it is asked and from time to time: whatever the others say, its connection stays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use weave_core::mesh::{
    Config, ConnectionId, Features, Handshake, HandshakeParams, Mesh, Message, Output, PeerName,
    Progress, Session, ShortId, Uid, Unicast,
};
use weave_core::time::Instant;
use weave_ipam::allocator::Origin;
use weave_ipam::message::CHANNEL;

use crate::ipam::Tenants;

/// Members at the start; the first one is honest.
pub const MEMBERS: u8 = 4;

/// From one word of the honest member to the next.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(20);
const UNICAST: u8 = 5;
const NOTICE: u8 = 65;

/// Messages that one message can evoke at once, at most: some to each of a few neighbours.
const MAX_EVOKED: usize = 64;

/// A mesh, and members that talk to it.
pub struct Encounter {
    mesh: Mesh,
    now: Instant,
    tenants: Tenants,
    members: BTreeMap<u8, Member>,
    handshaking: BTreeMap<ConnectionId, Vec<u8>>,
    ended: BTreeSet<ConnectionId>,
    given: BTreeMap<u32, String>,
    evoked: usize,
}

struct Member {
    id: ConnectionId,
    session: Session,
    /// What was said to it, to be said back.
    heard: Vec<Bytes>,
}

/// What a member is called.
pub fn name(member: u8) -> PeerName {
    PeerName::from_u64(0x0200_0000_0000 + u64::from(member)).unwrap_or_default()
}

impl Encounter {
    /// All members are connected. Those whose bit in `legacy` is set are like those of Weave Net
    /// 2.x.
    pub fn new(legacy: u8) -> Self {
        let now = Instant::since_origin(Duration::from_secs(100));
        let mut config = Config::new(name(MEMBERS), Uid(1));
        config.overlays = vec!["sim".to_owned()];
        config.connection_limit = Some(usize::from(MEMBERS) * 2);
        let mut mesh = Mesh::new(config, [1; 32], now);
        let tenants = Tenants::default();
        let peers = Origin::Seed((0..=MEMBERS).map(name).collect());
        mesh.add_channel(CHANNEL, tenants.begin(now, name(MEMBERS), peers, [2; 32]));
        let mut encounter = Self {
            mesh,
            now,
            tenants,
            members: BTreeMap::new(),
            handshaking: BTreeMap::new(),
            ended: BTreeSet::new(),
            given: BTreeMap::new(),
            evoked: 0,
        };
        (0..MEMBERS).for_each(|member| encounter.connect(member, member, legacy, 0));
        encounter
    }

    /// A member connects (again), and says that it is this one.
    pub fn connect(&mut self, member: u8, as_member: u8, legacy: u8, connection_id: u8) {
        let remote = SocketAddr::from(([10, 0, 0, member + 1], 6783));
        let local = SocketAddr::from(([10, 0, 0, 100], 6783));
        let id = self.mesh.handle_accepted(self.now, local, remote);
        self.handshaking.insert(id, Vec::new());
        let further = [("Gossip", "contents"), ("Notice", "1"), ("Unicast", "hops")].into_iter();
        let further = further.filter(|_| legacy >> member & 1 == 0);
        let mut handshake = Handshake::new(HandshakeParams {
            outbound: true,
            password: None,
            secret: [member; 32].into(),
            features: Features {
                name: name(as_member),
                nickname: format!("member{member}"),
                uid: Uid(100 + u64::from(as_member)),
                connection_id: u64::from(connection_id) << 56,
                short_id: ShortId::new(u16::from(member)),
                trusted: false,
                overlays: Some(vec!["sim".to_owned()]),
                further: further.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            },
        });
        for _ in 0..4 {
            while let Some(bytes) = handshake.poll_transmit() {
                self.mesh.handle_bytes(self.now, id, &bytes);
            }
            self.drain();
            let bytes = self.handshaking.get_mut(&id).map(std::mem::take).unwrap_or_default();
            match handshake.handle_bytes(&bytes) {
                Ok(Progress::Done(established)) => {
                    let session = established.session;
                    self.members.insert(member, Member { id, session, heard: Vec::new() });
                    self.mesh.link_established(self.now, id);
                    break;
                }
                Ok(Progress::Pending) => {}
                Err(_) => break,
            }
        }
        self.handshaking.remove(&id);
        self.drain();
    }

    /// A member says something. The honest one does not.
    pub fn say(&mut self, member: u8, tag: u8, payload: &[u8]) {
        let member = 1 + member % (MEMBERS - 1);
        self.transmit(member, tag, payload);
        assert!(self.evoked <= MAX_EVOKED, "{} messages for one", self.evoked);
    }

    /// A member says what was said to it, with one byte changed if there is such a byte.
    pub fn echo(&mut self, member: u8, which: u8, at: u16, value: u8) {
        let member = 1 + member % (MEMBERS - 1);
        let Some(heard) = self.members.get(&member).map(|member| &member.heard) else { return };
        let Some(frame) = heard.get(usize::from(which) % heard.len().max(1)) else { return };
        let mut message = frame.get(4..).unwrap_or_default().to_vec();
        if let Some(byte) = message.get_mut(usize::from(at)) {
            *byte = value;
        }
        if let Some((tag, payload)) = message.split_first() {
            self.transmit(member, *tag, payload);
        }
    }

    /// Bytes that need not be a message.
    pub fn say_raw(&mut self, member: u8, bytes: &[u8]) {
        let member = 1 + member % (MEMBERS - 1);
        if let Some(id) = self.members.get(&member).map(|member| member.id) {
            self.mesh.handle_bytes(self.now, id, bytes);
            self.drain();
        }
    }

    /// Time passes. The honest member goes on saying that it is alive.
    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + HEARTBEAT_INTERVAL);
            self.transmit(0, 0, &[]);
            self.mesh.handle_timeout(self.now);
            self.drain();
        }
    }

    /// A container wants an address.
    pub fn allocate(&mut self) {
        let tenants = self.tenants.clone();
        tenants.allocate_in(self.now, &mut self.mesh, "here");
        self.drain();
    }

    /// The members but the honest one say no more: the mesh comes to rest.
    ///
    /// # Panics
    /// If it does not.
    pub fn end(mut self) {
        (0..20).for_each(|_| self.wait(Duration::from_secs(30)));
        let report = self.mesh.report();
        let left: Vec<PeerName> = report.connections.iter().map(|c| c.peer).collect();
        assert_eq!(left, [name(0)], "the honest member is left");
    }

    fn transmit(&mut self, member: u8, tag: u8, payload: &[u8]) {
        let Some(Member { id, session, .. }) = self.members.get_mut(&member) else { return };
        let Ok(frame) = session.seal(&Message::Unknown { tag, payload }) else { return };
        let id = *id;
        self.evoked = 0;
        self.mesh.handle_bytes(self.now, id, &frame);
        self.drain();
    }

    /// What the honest member says when this is said to it: whoever asks whether it is alive hears
    /// of it.
    fn answer(frame: &[u8]) -> Option<Vec<u8>> {
        match frame.get(4..)?.split_first()? {
            (&NOTICE, [0, ..]) => Some(vec![NOTICE, 1]),
            (&UNICAST, payload) => {
                let back = Unicast::decode(payload).ok()?.destination == name(MEMBERS);
                back.then(|| frame[4..].to_vec())
            }
            _ => None,
        }
    }

    fn drain(&mut self) {
        let honest = self.members.get(&0).map_or(ConnectionId(0), |member| member.id);
        let mut answers = Vec::new();
        while let Some(output) = self.mesh.poll_output() {
            match output {
                Output::Send { id, bytes } => {
                    assert!(!self.ended.contains(&id), "sends on a connection that has ended");
                    self.evoked += 1;
                    self.mesh.handle_written(self.now, id, bytes.len());
                    if let Some(buffer) = self.handshaking.get_mut(&id) {
                        buffer.extend_from_slice(&bytes);
                    } else if let Some(member) = self.members.values_mut().find(|m| m.id == id) {
                        if member.id == honest
                            && let Some(answer) = Self::answer(&bytes)
                        {
                            answers.push(answer);
                        }
                        member.heard.push(bytes);
                        if member.heard.len() > 32 {
                            member.heard.remove(0);
                        }
                    }
                }
                Output::Close { id } => {
                    assert!(self.ended.insert(id), "ends a connection twice");
                    assert_ne!(id, honest, "ends the connection of the honest member");
                }
                Output::Dial { id, .. } => {
                    self.mesh.handle_dial_failed(self.now, id, "refused".to_owned());
                }
                Output::Prepare(request) => self.mesh.link_prepared(self.now, request.id),
                _ => {}
            }
        }
        for answer in answers {
            if let Some((tag, payload)) = answer.split_first() {
                self.transmit(0, *tag, payload);
            }
        }
        for (holder, address) in self.tenants.take_given() {
            let other = self.given.insert(address, holder.clone());
            assert!(other.is_none_or(|other| other == holder), "an address is given twice");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_say_nothing_are_forgotten_and_the_honest_one_stays() {
        let mut encounter = Encounter::new(0b0100);
        encounter.wait(Duration::from_secs(5));
        encounter.allocate();
        assert_eq!(encounter.mesh.report().connections.len(), usize::from(MEMBERS));
        encounter.end();
    }
}
