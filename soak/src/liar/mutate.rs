//! Lies in messages that are due.

use bytes::Bytes;
use weave_core::mesh::{ConnectionId, Features, Gossip, PeerName, ShortId, Uid, Unicast};
use weave_core::sim::TappedFrame;
use weave_ipam::message::CHANNEL;

use super::{Habit, Mood, Tongue, WATCHED};
use crate::framing::{Piece, frame};
use crate::records;

impl Tongue {
    /// What is said in place of what the router says.
    pub(super) fn say(&mut self, id: ConnectionId, piece: Piece) -> Vec<Bytes> {
        let mut said = Vec::new();
        let message = match piece {
            Piece::Prefix(_) => return vec![piece.encode()],
            Piece::Features(message) => return vec![self.introduce(message)],
            Piece::Message(message) => message,
        };
        if self.has(Habit::Withhold) && self.one_in(4) {
            self.note(format!("withholds {}", describe(&message)));
            return said;
        }
        let message = self.change(message);
        said.push(frame(&message));
        if self.has(Habit::Reorder) {
            if self.one_in(3) {
                self.note(format!("holds back {}", describe(&message)));
                let earlier = self.held_back.insert(id, said.remove(0));
                said.extend(earlier);
            } else {
                said.extend(self.held_back.remove(&id));
            }
        }
        said
    }

    fn introduce(&mut self, message: Vec<u8>) -> Bytes {
        let Ok(mut features) = Features::decode(&message) else { return frame(&message) };
        if self.has(Habit::Mutate) && self.one_in(4) {
            match self.below(7) {
                0 => features.nickname = "x".repeat(self.below(3000)),
                1 => features.short_id = ShortId::new(u16::try_from(self.below(4096)).unwrap_or(0)),
                2 => features.connection_id = self.random.below(2),
                3 => features.overlays = self.one_in(2).then(|| vec!["none".to_owned()]),
                4 => features.trusted = !features.trusted,
                5 => features.further.values_mut().for_each(|value| value.push('x')),
                _ => features.further.clear(),
            }
            self.note("changes its features".to_owned());
        }
        if self.has(Habit::Impersonate) && self.mood == Mood::Lying && self.one_in(2) {
            let known: Vec<(PeerName, Uid)> =
                self.honest_uids.iter().map(|(name, uid)| (*name, *uid)).collect();
            if let Some((name, uid)) = self.pick(&known).copied() {
                self.note(format!("says that it is {name}"));
                features.name = name;
                features.uid = if self.one_in(4) { Uid(self.random.number() | 1) } else { uid };
                features.connection_id = self.random.below(4);
            }
        }
        frame(&features.encode())
    }

    fn change(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        if self.has(Habit::Garble) && self.one_in(12) {
            let at = self.below(message.len());
            let (value, text) = (self.random.number().to_be_bytes()[0], describe(&message));
            if let Some(byte) = message.get_mut(at) {
                *byte = value;
                self.note(format!("garbles byte {at} of {text}"));
            }
            return message;
        }
        if self.has(Habit::Mutate) && self.one_in(3) {
            let changed = self.mutate(&message);
            if changed != message {
                let text = format!("{} becomes {}", describe(&message), describe(&changed));
                self.note(text);
            }
            return changed;
        }
        message
    }

    /// The message with a change in one of its fields.
    pub(super) fn mutate(&mut self, message: &[u8]) -> Vec<u8> {
        let Some((&tag, payload)) = message.split_first() else { return Vec::new() };
        let body = match tag {
            4 | 6 => match Gossip::decode(payload) {
                Ok(gossip) => self.mutate_gossip(gossip),
                Err(_) => payload.to_vec(),
            },
            5 => match Unicast::decode(payload) {
                Ok(unicast) => self.mutate_unicast(unicast),
                Err(_) => payload.to_vec(),
            },
            66 => match payload.split_first() {
                Some((relays, payload)) => {
                    let relays = if self.one_in(2) { 255 } else { *relays };
                    let unicast = Unicast::decode(payload);
                    let payload = unicast.map_or(payload.to_vec(), |u| self.mutate_unicast(u));
                    [&[relays][..], &payload].concat()
                }
                None => Vec::new(),
            },
            _ => {
                let mut payload = payload.to_vec();
                match self.below(3) {
                    0 => payload.truncate(payload.len() / 2),
                    1 => payload.extend_from_within(..),
                    _ => {
                        let at = self.below(payload.len());
                        let value = self.random.number().to_be_bytes()[0];
                        payload.get_mut(at).into_iter().for_each(|byte| *byte = value);
                    }
                }
                payload
            }
        };
        // Gossip may as well be a broadcast.
        let tag = if matches!(tag, 4 | 6) && self.one_in(6) { 10 - tag } else { tag };
        [&[tag], &body[..]].concat()
    }

    fn mutate_gossip(&mut self, gossip: Gossip<'_>) -> Vec<u8> {
        let Gossip { channel, mut source, data } = gossip;
        let mut data = data.to_vec();
        match self.below(8) {
            0 => source = self.source_on(channel, None),
            1 => {
                let any = self.any_channel();
                let source = self.source_on(&any, None);
                return Gossip { channel: &any, source, data: &data }.encode();
            }
            _ if channel == "topology" => {
                let mut records = records::decode(&data);
                self.mutate_records(&mut records);
                data = records::encode(&records);
            }
            _ if channel == CHANNEL => {
                data = self.mutate_state(&data);
                source = self.source_on(channel, None);
            }
            _ => data.reverse(),
        }
        Gossip { channel, source, data: &data }.encode()
    }

    fn mutate_unicast(&mut self, unicast: Unicast<'_>) -> Vec<u8> {
        let Unicast { channel, mut source, mut destination, data } = unicast;
        let mut data = data.to_vec();
        match self.below(4) {
            0 => source = self.source_on(channel, Some(destination)),
            1 => destination = self.anybody(),
            2 => {
                let any = self.any_channel();
                let source = self.source_on(&any, Some(destination));
                return Unicast { channel: &any, source, destination, data: &data }.encode();
            }
            _ => {
                data = self.mutate_allocation(&data);
                source = self.source_on(CHANNEL, Some(destination));
            }
        }
        Unicast { channel, source, destination, data: &data }.encode()
    }

    pub(super) fn any_channel(&mut self) -> String {
        match self.below(5) {
            0 => "topology".to_owned(),
            1 => CHANNEL.to_owned(),
            2 => "watched".to_owned(),
            3 => "x".repeat(self.below(300)),
            _ => format!("channel{}", self.below(200)),
        }
    }

    /// What becomes of a frame that it passes on, or sends.
    pub(super) fn relay(&mut self, mut frame: TappedFrame) -> Vec<TappedFrame> {
        if !self.has(Habit::Frames) {
            return vec![frame];
        }
        let watched = frame.bytes.windows(WATCHED.len()).any(|window| window == WATCHED);
        match self.below(8) {
            0 => return Vec::new(),
            1 if !watched => return vec![frame.clone(), frame],
            2 if !watched => frame.source = self.anybody(),
            3 if !watched => frame.destination = self.anybody(),
            4 if !watched => frame.relays = u8::try_from(self.below(64)).unwrap_or(0),
            _ => {}
        }
        vec![frame]
    }
}

/// A message in a few words.
pub(super) fn describe(message: &[u8]) -> String {
    let Some((&tag, payload)) = message.split_first() else { return "an empty message".to_owned() };
    match tag {
        0 => "a heartbeat".to_owned(),
        4 | 6 => {
            let kind = if tag == 4 { "gossip" } else { "a broadcast" };
            let Ok(Gossip { channel, source, data }) = Gossip::decode(payload) else {
                return format!("{kind} that makes no sense");
            };
            let mut text = format!("{kind} on {channel:.20} of {source}, {} bytes", data.len());
            if channel == "topology" {
                for record in records::decode(data).iter().take(4) {
                    let name = <[u8; 6]>::try_from(&record.name[..]).map(PeerName::from_bytes);
                    text += &format!(
                        "; {} version {} uid {:x} with {} links",
                        name.map_or("a name of another length".to_owned(), |n| n.to_string()),
                        record.version,
                        record.uid,
                        record.links.len()
                    );
                }
            }
            text
        }
        5 => match Unicast::decode(payload) {
            Ok(Unicast { channel, source, destination, data }) => format!(
                "a unicast on {channel:.20} from {source} to {destination}, {} bytes",
                data.len()
            ),
            Err(_) => "a unicast that makes no sense".to_owned(),
        },
        64 => format!("sync {:?}, {} bytes", payload.first(), payload.len()),
        65 => format!("notice {:?}, {} bytes", payload.first(), payload.len()),
        _ => format!("tag {tag}, {} bytes", payload.len()),
    }
}
