//! Lies that nothing called for.

use bytes::Bytes;
use weave_core::mesh::{ConnectionId, Gossip, PeerName, Unicast};
use weave_core::sim::TappedFrame;
use weave_ipam::message::CHANNEL;

use super::mutate::describe;
use super::topology::GOES_ROUND;
use super::{Habit, Lie, Tongue};
use crate::framing::frame;
use crate::records::{self, Record};

const GOSSIP: u8 = 4;
const UNICAST: u8 = 5;
const BROADCAST: u8 = 6;
const CONTROL: u8 = 7;
const SYNC: u8 = 64;
const COUNTED_UNICAST: u8 = 66;
const NOTICE: u8 = 65;

/// Messages of a flood that go together.
const FLOOD: usize = 8_000;

/// How often two truths are told, if it is to last.
const ROUNDS: u32 = 20;
/// What goes round then.
const IN_A_CIRCLE: u32 = 30;

/// Neighbours that can be lied to.
type Up<'a> = &'a [(ConnectionId, PeerName)];

impl Tongue {
    /// Some lies, by the habits it has.
    pub(super) fn invent(&mut self, up: Up<'_>) -> Vec<Lie> {
        if self.going_round.0 > 0 {
            return self.tell_two_truths(up);
        }
        let habits: Vec<Habit> = self.habits.iter().copied().collect();
        let Some(habit) = self.pick(&habits).copied() else { return Vec::new() };
        let Some((id, peer)) = self.pick(up).copied() else { return Vec::new() };
        let messages: Vec<Vec<u8>> = match habit {
            Habit::Replay => {
                let heard: Vec<_> = self.heard.iter().cloned().collect();
                let mut message = self.pick(&heard).cloned();
                if self.habits.contains(&Habit::Mutate) && self.one_in(2) {
                    message = message.map(|message| self.mutate(&message));
                }
                message.into_iter().collect()
            }
            Habit::InventPeers => vec![self.topology(|tongue| tongue.invent_peers())],
            Habit::ForgeHonest => match self.forge_honest() {
                Some(records) => vec![self.topology(|_| records)],
                None => Vec::new(),
            },
            Habit::TwoTruths => return self.tell_two_truths(up),
            Habit::Unicasts => (0..=self.below(4)).map(|_| self.unicast()).collect(),
            Habit::Broadcasts => vec![self.broadcast()],
            Habit::Sync => self.sync(),
            Habit::Notices => self.notices(),
            Habit::Controls => {
                let len = self.below(12);
                let tag = if self.one_in(2) { CONTROL } else { u8::try_from(len % 4).unwrap_or(0) };
                vec![[&[tag], &self.random.block()[..len]].concat()]
            }
            Habit::Frames => return self.frames(peer),
            Habit::Nonsense => return self.nonsense(id),
            Habit::Rings => vec![self.ring()],
            Habit::Usurp => self.usurp(),
            Habit::Flood => return self.flood(up),
            Habit::Votes => {
                let data = self.any_votes();
                vec![self.tell_state(&data)]
            }
            Habit::Requests => {
                let (data, destination) = (self.any_allocation(), self.anybody());
                let source = self.source_on(CHANNEL, Some(destination));
                vec![message(
                    UNICAST,
                    &Unicast { channel: CHANNEL, source, destination, data: &data }.encode(),
                )]
            }
            Habit::Mutate
            | Habit::Garble
            | Habit::Withhold
            | Habit::Reorder
            | Habit::Deaf
            | Habit::Impersonate => Vec::new(),
        };
        messages.into_iter().map(|message| self.lie(id, peer, &message)).collect()
    }

    fn lie(&mut self, id: ConnectionId, peer: PeerName, message: &[u8]) -> Lie {
        self.note(format!("to {peer}: {}", describe(message)));
        let is_unicast = matches!(message.first(), Some(&(UNICAST | COUNTED_UNICAST)));
        let unicasts = u64::from(is_unicast);
        Lie::Bytes { id, bytes: frame(message), messages: 1, unicasts }
    }

    fn topology(&mut self, records: impl FnOnce(&mut Self) -> Vec<Record>) -> Vec<u8> {
        let data = records::encode(&records(self));
        let source = self.anybody();
        let tag = if self.one_in(2) { GOSSIP } else { BROADCAST };
        message(tag, &Gossip { channel: "topology", source, data: &data }.encode())
    }

    /// Something else to each neighbour, again and again, and then something that goes round if
    /// they believe it. Routers calculate their routes a tenth of a second after they hear of a
    /// change, and what they tell each other then is outdated by the next lie.
    fn tell_two_truths(&mut self, up: Up<'_>) -> Vec<Lie> {
        let (left, round) = self.going_round;
        if left == 0 {
            self.going_round.0 = if self.one_in(3) { ROUNDS } else { 1 };
            self.tells_roots = self.one_in(3);
        }
        self.going_round = (self.going_round.0.saturating_sub(1), round + 1);
        let mut lies = Vec::new();
        for (turn, (id, peer)) in up.iter().enumerate() {
            let (_, next) = up[(turn + 1) % up.len()];
            let told = if self.tells_roots { self.roots(*peer) } else { self.two_truths(next) };
            let (own, data) = (self.own, records::encode(&told));
            let told =
                message(GOSSIP, &Gossip { channel: "topology", source: own, data: &data }.encode());
            lies.push(self.lie(*id, *peer, &told));
        }
        let Some(target) = PeerName::from_u64(GOES_ROUND) else { return lies };
        let Some((id, peer)) = self.pick(up).copied() else { return lies };
        // Each of them is another one: the same one would be noticed for that.
        let count = if self.going_round.0 == ROUNDS / 2 { IN_A_CIRCLE } else { 1 };
        for number in 0..count {
            let source = if self.one_in(2) { self.own } else { self.invented() };
            let data = if self.one_in(8) { 0 } else { number }.to_be_bytes();
            let unicast = Unicast { channel: CHANNEL, source, destination: target, data: &data };
            lies.push(self.lie(id, peer, &message(UNICAST, &unicast.encode())));
            let station = if self.tells_roots { [0xff; 6] } else { [0x02; 6] };
            let bytes = [&station[..], &[0x02; 6], &[0x08, 0x00], b"round"].concat();
            let (source, destination) =
                if self.tells_roots { (target, peer) } else { (self.own, target) };
            let frame = TappedFrame { source, destination, relays: 0, bytes };
            lies.push(Lie::Frame { to: peer, frame });
        }
        lies
    }

    fn unicast(&mut self) -> Vec<u8> {
        let channel = self.any_channel();
        let data = match self.below(3) {
            0 => Vec::new(),
            1 => self.any_allocation(),
            _ => self.random.block()[..8].to_vec(),
        };
        let destination = self.anybody();
        let source = self.source_on(&channel, Some(destination));
        let unicast = Unicast { channel: &channel, source, destination, data: &data }.encode();
        if self.one_in(2) {
            return message(UNICAST, &unicast);
        }
        let relays = u8::try_from(self.below(256)).unwrap_or(0);
        message(COUNTED_UNICAST, &[&[relays], &unicast[..]].concat())
    }

    fn broadcast(&mut self) -> Vec<u8> {
        let channel = self.any_channel();
        let data = match self.below(3) {
            0 => self.any_state(),
            1 => self.random.block().to_vec(),
            _ => records::encode(&self.invent_peers()),
        };
        let source = self.source_on(&channel, None);
        let tag = if self.one_in(2) { GOSSIP } else { BROADCAST };
        message(tag, &Gossip { channel: &channel, source, data: &data }.encode())
    }

    fn sync(&mut self) -> Vec<Vec<u8>> {
        let mut inventory = Vec::new();
        for name in self.honest.clone() {
            if self.one_in(2) {
                let edition =
                    [self.random.number().to_be_bytes(), self.random.number().to_be_bytes()];
                inventory.push((name, [&name.to_bytes()[..], &edition.concat(), &[1]].concat()));
            }
        }
        inventory.sort();
        let entries: Vec<u8> = inventory.into_iter().flat_map(|(_, entry)| entry).collect();
        let one = match self.below(6) {
            0 => [&[SYNC, 0], &self.random.block()[..]].concat(),
            1 => vec![SYNC, 1],
            2 => [&[SYNC, 2], &entries[..]].concat(),
            3 => [&[SYNC, 3], &entries[..]].concat(),
            4 => {
                let mut names = self.honest.clone();
                names.sort();
                let names: Vec<u8> = names.iter().flat_map(|name| name.to_bytes()).collect();
                [&[SYNC, 4], &names[..]].concat()
            }
            _ => [&[SYNC, 1], &entries[..]].concat(),
        };
        let times = if self.one_in(4) { 30 } else { 1 };
        vec![one; times]
    }

    /// Questions of a few bytes about all that is known, to one neighbour.
    fn flood(&mut self, up: Up<'_>) -> Vec<Lie> {
        let Some((id, peer)) = up.first().copied() else { return Vec::new() };
        let asks = vec![frame(&[SYNC, 1]); FLOOD].concat();
        self.note(format!("to {peer}: asks {FLOOD} times for all"));
        vec![Lie::Bytes { id, bytes: asks.into(), messages: FLOOD as u64, unicasts: 0 }]
    }

    fn notices(&mut self) -> Vec<Vec<u8>> {
        let one = match self.below(8) {
            0 => vec![NOTICE, 2, 1, b'n', b'o'],
            1 => vec![NOTICE, 9, 9],
            2 => vec![NOTICE],
            3 => vec![NOTICE, 1],
            _ => vec![NOTICE, 0],
        };
        let times = if self.one_in(4) { 50 } else { 1 };
        vec![one; times]
    }

    fn frames(&mut self, peer: PeerName) -> Vec<Lie> {
        let station = |at: u8| [0x02, 0, 0, 0, 0, at];
        let (from, to) = (self.below(12), self.below(12));
        let from = station(u8::try_from(from).unwrap_or(0));
        let to = if self.one_in(3) { [0xff; 6] } else { station(u8::try_from(to).unwrap_or(0)) };
        let len = self.below(32);
        let payload = self.random.block();
        let bytes = [&to[..], &from, &[0x08, 0x00], &payload[..len]].concat();
        let (source, destination) = (self.anybody(), self.anybody());
        self.note(format!("to {peer}: a frame from {source} to {destination}"));
        let lies = 1 + self.below(3);
        let relays = if self.one_in(2) { 0 } else { u8::try_from(self.below(256)).unwrap_or(0) };
        let frame = TappedFrame { source, destination, relays, bytes };
        (0..lies).map(|_| Lie::Frame { to: peer, frame: frame.clone() }).collect()
    }

    fn ring(&mut self) -> Vec<u8> {
        let data = self.any_state();
        self.tell_state(&data)
    }

    /// A state, in any kind of message.
    pub(super) fn tell_state(&mut self, data: &[u8]) -> Vec<u8> {
        let kind = self.below(3);
        if kind < 2 {
            // Whose gossip it is said to be nobody looks at.
            let source = if kind == 0 { self.anybody() } else { self.source_on(CHANNEL, None) };
            let tag = if kind == 0 { GOSSIP } else { BROADCAST };
            return message(tag, &Gossip { channel: CHANNEL, source, data }.encode());
        }
        let honest = self.honest.clone();
        let destination = self.pick(&honest).copied().unwrap_or(self.own);
        self.tell_state_to(destination, data)
    }

    /// A state, for one peer.
    pub(super) fn tell_state_to(&mut self, destination: PeerName, data: &[u8]) -> Vec<u8> {
        let source = self.source_on(CHANNEL, Some(destination));
        let data = [&[1], data].concat();
        message(UNICAST, &Unicast { channel: CHANNEL, source, destination, data: &data }.encode())
    }

    fn nonsense(&mut self, id: ConnectionId) -> Vec<Lie> {
        let bytes: Bytes = match self.below(4) {
            0 => {
                self.note("begins a message of a megabyte and does not end it".to_owned());
                [&(1_u32 << 20).to_be_bytes()[..], &[4; 100]].concat().into()
            }
            1 => {
                self.note("announces a message of 4 gigabytes".to_owned());
                vec![0xff; 4].into()
            }
            2 => {
                self.note("sends an empty message".to_owned());
                vec![0; 4].into()
            }
            _ => {
                self.note("sends random bytes".to_owned());
                let tag = u8::try_from(self.below(70)).unwrap_or(0);
                frame(&[&[tag], &self.random.block()[..]].concat())
            }
        };
        vec![Lie::Bytes { id, bytes, messages: 1, unicasts: 0 }]
    }
}

fn message(tag: u8, payload: &[u8]) -> Vec<u8> {
    [&[tag], payload].concat()
}
