//! A [`Mesh`] that is told anything in any order.
//!
//! The script is bytes, so that a fuzzer can write it: one for the operation, then its
//! arguments. Some bytes are what a peer might well have said, since nobody finds a whole
//! handshake by chance.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::mesh::{
    Config, ConnectionId, Control, Features, Handshake, HandshakeParams, Mesh, Output, PeerName,
    Progress, Session, ShortId, Uid,
};
use crate::time::Instant;

/// Runs a script.
///
/// # Panics
/// If the router contradicts itself: sends on connections that have ended, ends them twice, or
/// keeps more than it may.
pub fn run(script: &[u8]) {
    let mut play = Play::new();
    let mut script = script.iter().copied();
    while let Some(op) = script.next() {
        play.operation(op, &mut script);
        play.drain();
    }
    // Whatever happened, time brings it to rest.
    for _ in 0..50 {
        play.now += Duration::from_secs(10);
        play.mesh.handle_timeout(play.now);
        play.drain();
    }
    let report = play.mesh.report();
    assert!(report.connections.is_empty(), "nobody has said anything for minutes");
    assert_eq!(report.peers.len(), 1);
}

struct Play {
    mesh: Mesh,
    now: Instant,
    open: Vec<ConnectionId>,
    ended: BTreeSet<ConnectionId>,
    sessions: Vec<(ConnectionId, Session)>,
    dialling: Vec<(ConnectionId, SocketAddr)>,
    sent: Vec<(ConnectionId, Bytes)>,
    /// Whether the driver makes links and writes at once.
    prompt: bool,
}

impl Play {
    fn new() -> Self {
        let now = Instant::since_origin(Duration::from_secs(100));
        let mut config = Config::new(name(1), Uid(1));
        config.overlays = vec!["sim".to_owned()];
        config.connection_limit = Some(8);
        Self {
            mesh: Mesh::new(config, [1; 32], now),
            now,
            open: Vec::new(),
            ended: BTreeSet::new(),
            sessions: Vec::new(),
            dialling: Vec::new(),
            sent: Vec::new(),
            prompt: true,
        }
    }

    fn operation(&mut self, op: u8, script: &mut impl Iterator<Item = u8>) {
        let mut byte = || script.next().unwrap_or(0);
        let argument = byte();
        let id = self.open.get(usize::from(argument) % self.open.len().max(1)).copied();
        let id = id.unwrap_or(ConnectionId(u64::from(argument)));
        let now = self.now;
        match op % 16 {
            0 => {
                let id = self.mesh.handle_accepted(now, address(1), address(argument));
                self.open.push(id);
            }
            1 => self.introduce(argument, byte() % 8),
            2 => {
                let len = byte();
                let bytes: Vec<u8> = (0..len).map(|_| byte()).collect();
                self.mesh.handle_bytes(now, id, &bytes);
            }
            3 => {
                let len = byte();
                let payload: Vec<u8> = (0..len).map(|_| byte()).collect();
                self.say(argument, &payload);
            }
            4 => self.say_known(argument, byte(), byte()),
            5 => self.now += Duration::from_millis(u64::from(argument) * u64::from(argument)),
            6 => self.mesh.handle_timeout(now),
            7 if argument == u8::MAX => self.mesh.handle_address_gone(now, address(1).ip()),
            7 => self.mesh.handle_closed(now, id, "lost".to_owned()),
            8 => self.mesh.link_established(now, id),
            9 => self.mesh.link_failed(now, id, "failed".to_owned()),
            10 => self.mesh.link_prepared(now, id),
            11 => self.prompt = argument.is_multiple_of(2),
            12 => {
                let target = format!("10.0.0.{}", byte());
                let result = self.mesh.connect(now, &[target], argument.is_multiple_of(4));
                assert!(result.is_ok());
            }
            13 => {
                let Some((id, address)) = self.dialling.pop() else { return };
                if argument.is_multiple_of(4) {
                    self.mesh.handle_dial_failed(now, id, "refused".to_owned());
                } else {
                    self.open.push(id);
                    self.mesh.handle_dialled(now, id, self::address(1), address);
                }
            }
            14 => self.mesh.handle_written(now, id, usize::from(byte()) * 1000),
            _ => {
                let control = Control::Switched(Bytes::from(vec![argument; 3]));
                self.mesh.send_control(now, id, control);
            }
        }
    }

    /// A peer connects and goes through the handshake.
    fn introduce(&mut self, argument: u8, peer: u8) {
        let id = self.mesh.handle_accepted(self.now, address(1), address(argument));
        self.open.push(id);
        let mut handshake = Handshake::new(HandshakeParams {
            outbound: true,
            password: None,
            secret: Zeroizing::new([argument; 32]),
            features: Features {
                name: name(u64::from(peer) + 1),
                nickname: String::new(),
                uid: Uid(u64::from(argument % 2) + 2),
                connection_id: u64::from(argument) << 56,
                short_id: ShortId::new(u16::from(argument)),
                trusted: false,
                overlays: (!argument.is_multiple_of(8)).then(|| vec!["sim".to_owned()]),
                further: [("Gossip", "contents", 3), ("Notice", "1", 5), ("Unicast", "hops", 7)]
                    .into_iter()
                    .filter(|(_, _, without)| !argument.is_multiple_of(*without))
                    .map(|(key, value, _)| (key.to_owned(), value.to_owned()))
                    .collect(),
            },
        });
        for _ in 0..4 {
            while let Some(bytes) = handshake.poll_transmit() {
                self.mesh.handle_bytes(self.now, id, &bytes);
            }
            self.drain();
            let (ours, others) =
                std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == id);
            self.sent = others;
            let ours: Vec<(ConnectionId, Bytes)> = ours;
            let bytes = ours.iter().map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>().concat();
            match handshake.handle_bytes(&bytes) {
                Ok(Progress::Done(established)) => {
                    self.sessions.push((id, established.session));
                    return;
                }
                Ok(Progress::Pending) => {}
                Err(_) => return,
            }
        }
    }

    /// A peer sends a message, well framed.
    fn say(&mut self, argument: u8, message: &[u8]) {
        let count = self.sessions.len().max(1);
        let Some((id, session)) = self.sessions.get_mut(usize::from(argument) % count) else {
            return;
        };
        let Some((&tag, payload)) = message.split_first() else { return };
        let message = crate::mesh::Message::Unknown { tag, payload };
        if let Ok(frame) = session.seal(&message) {
            let id = *id;
            self.mesh.handle_bytes(self.now, id, &frame);
        }
    }

    /// A peer passes on what somebody else was sent, as if it were its own.
    fn say_known(&mut self, argument: u8, which: u8, at: u8) {
        let count = self.sent.len().max(1);
        let Some((_, frame)) = self.sent.get(usize::from(which) % count) else { return };
        let mut message = frame.get(4..).unwrap_or_default().to_vec();
        let len = message.len().max(1);
        if let Some(byte) = message.get_mut(usize::from(at) % len)
            && at >= 128
        {
            *byte = byte.wrapping_add(at);
        }
        self.say(argument, &message);
    }

    fn drain(&mut self) {
        while let Some(output) = self.mesh.poll_output() {
            match output {
                Output::Send { id, bytes } => {
                    assert!(!self.ended.contains(&id), "sends on a connection that has ended");
                    if self.prompt {
                        self.mesh.handle_written(self.now, id, bytes.len());
                    }
                    if self.sent.len() < 64 {
                        self.sent.push((id, bytes));
                    }
                }
                Output::Close { id } => {
                    assert!(self.ended.insert(id), "ends a connection twice");
                    self.open.retain(|open| *open != id);
                }
                Output::Dial { id, address } => self.dialling.push((id, address)),
                Output::Prepare(request) if self.prompt => {
                    self.mesh.link_prepared(self.now, request.id);
                }
                _ => {}
            }
        }
        self.mesh.assert_consistent();
        let report = self.mesh.report();
        assert!(report.connections.len() <= 8, "more connections than allowed");
        let peers: BTreeSet<PeerName> = report.connections.iter().map(|c| c.peer).collect();
        assert_eq!(peers.len(), report.connections.len(), "two connections to one peer");
    }
}

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap_or_default()
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, number), 6783))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_script_can_be_played(script in proptest::collection::vec(any::<u8>(), 0..400)) {
            run(&script);
        }

        #[test]
        fn scripts_of_peers_that_get_through_can_be_played(
            introductions in proptest::collection::vec(any::<(u8, u8)>(), 1..6),
            script in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 0..200),
        ) {
            let mut bytes = Vec::new();
            for (argument, peer) in introductions {
                bytes.extend([1, argument, peer]);
            }
            for (op, argument, more) in script {
                bytes.extend([op, argument, more]);
            }
            run(&bytes);
        }
    }
}
