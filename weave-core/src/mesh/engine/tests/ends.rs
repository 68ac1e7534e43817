//! Why a connection ends, and who pays: the table of docs/security.md, each line with a member that
//! brings it about. Nobody pays but itself.

use super::*;

/// The reasons there are, one name each. One that is new does not compile until it has a name here,
/// and then not until [`Case::provoke`] has a way to it.
macro_rules! reasons {
    ($($reason:ident),* $(,)?) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        enum Reason {
            $($reason),*
        }

        impl Reason {
            const ALL: &[Self] = &[$(Self::$reason),*];

            const fn of(error: &ConnectionError) -> Self {
                match error {
                    $(ConnectionError::$reason { .. } => Self::$reason),*
                }
            }
        }
    };
}

reasons! {
    Dial, Lost, Handshake, HandshakeTimeout, Malformed, Gossip, ReadTimeout, WriteStall, Backlog,
    Reassembly, BacklogBudget, Link, NameCollision, NameTaken, Refused, ConnectedToSelf, Duplicate,
    Replaced, Superseded, Limit, LimitOfSource, Register, CrowdedOut,
}

/// A router with two neighbours that do nothing wrong, on hosts of their own.
struct Case {
    bench: Bench,
    honest: [Remote; 2],
}

impl Case {
    fn new(reason: Reason) -> Self {
        let mut bench = Bench::with(|config| match reason {
            Reason::Limit => config.connection_limit = Some(2),
            Reason::LimitOfSource => config.connection_limit = Some(34),
            Reason::BacklogBudget | Reason::Reassembly => config.connection_limit = None,
            Reason::Register => config.discovery = true,
            _ => {}
        });
        let honest = [features(7), legacy_features(8)].map(|features| {
            let host = u8::try_from(features.name.to_u64()).unwrap();
            let id = bench.accept_from([10, 0, 1, host]);
            bench.shake(id, features, None, true).unwrap()
        });
        bench.pass(SECOND);
        Self { bench, honest }
    }

    /// Time passes, in which the honest ones say that they are alive.
    fn pass(&mut self, time: Duration) {
        let end = self.bench.now + time;
        while self.bench.now < end {
            self.bench.pass(SECOND.min(end.saturating_since(self.bench.now)));
            for remote in &mut self.honest {
                self.bench.say(remote, &Message::Heartbeat);
            }
        }
    }

    fn dial(&mut self, address: &str) -> ConnectionId {
        self.bench.mesh.connect(self.bench.now, &[address.to_owned()], false).unwrap();
        self.bench.drain();
        self.bench.dials.last().unwrap().0
    }

    /// Somebody who claims to be the peer 2, and was heard a while ago.
    fn holder(&mut self) -> Remote {
        let mut holder = self.bench.meet(Features { connection_id: 5 << 60, ..features(2) });
        self.pass(5 * SECOND);
        self.bench.say(&mut holder, &Message::Heartbeat);
        holder
    }

    /// Another connection of that peer, whose number is lower or higher.
    fn copy(&mut self, lower: bool) -> Remote {
        let first = self.bench.requests.last().unwrap().connection_uid;
        for number in 0..64_u64 {
            let id = self.bench.accept();
            let features = Features { connection_id: number << 58, ..features(2) };
            self.bench.prepared = false;
            let copy = self.bench.shake(id, features, None, true).unwrap();
            self.bench.prepared = true;
            let uid = self.bench.requests.last().unwrap().connection_uid;
            if (uid < first) == lower {
                self.bench.mesh.link_prepared(self.bench.now, id);
                self.bench.drain();
                return copy;
            }
            self.bench.mesh.handle_closed(self.bench.now, id, "not this one".to_owned());
            self.bench.drain();
            self.bench.events.clear();
        }
        panic!("all numbers are on one side");
    }

    /// Has somebody end a connection for this reason. Says which.
    fn provoke(&mut self, reason: Reason) -> ConnectionId {
        let now = self.bench.now;
        match reason {
            Reason::Dial => {
                let id = self.dial("10.0.0.9");
                self.bench.mesh.handle_dial_failed(now, id, "refused".to_owned());
                id
            }
            Reason::Lost => {
                let id = self.bench.meet(features(2)).id;
                self.bench.mesh.handle_closed(now, id, "reset".to_owned());
                id
            }
            Reason::Handshake => {
                let id = self.bench.accept();
                self.bench.input(id, b"GET / HTTP/1.1\r\n");
                id
            }
            Reason::HandshakeTimeout => {
                let id = self.bench.accept();
                self.pass(10 * SECOND);
                id
            }
            Reason::Malformed => self.says(&Message::Gossip(b"\xff\xff\xff")),
            Reason::Gossip => self.says(&Message::Gossip(&gossip("topology", 2, b"\x05hello"))),
            Reason::Refused => self.says(&Message::Unknown { tag: 65, payload: b"\x02\x01no" }),
            Reason::ReadTimeout => {
                let id = self.bench.meet(features(2)).id;
                self.pass(61 * SECOND);
                id
            }
            Reason::WriteStall => {
                let mut remote = self.bench.meet(features(2));
                self.bench.deaf.insert(remote.id);
                for _ in 0..8 {
                    self.pass(10 * SECOND);
                    self.bench.mesh.handle_bytes(self.bench.now, remote.id, &[0, 0, 0, 1, 0]);
                    self.bench.drain();
                }
                self.bench.sent.remove(&remote.id);
                let _unread = remote.session.poll_message();
                remote.id
            }
            Reason::Backlog => {
                let id = self.bench.meet(features(2)).id;
                self.bench.deaf.insert(id);
                for _ in 0..2 {
                    let control = Control::Switched(vec![0; 9 << 20].into());
                    self.bench.mesh.send_control(now, id, control);
                }
                self.bench.mesh.handle_timeout(now);
                id
            }
            Reason::Reassembly => self.fill(|case, id| {
                let mut beginning = vec![0; 9 << 20];
                beginning[..4].copy_from_slice(&(10_u32 << 20).to_be_bytes());
                case.bench.input(id, &beginning);
            }),
            Reason::BacklogBudget => self.fill(|case, id| {
                case.bench.deaf.insert(id);
                let control = Control::Switched(vec![0; 9 << 20].into());
                case.bench.mesh.send_control(case.bench.now, id, control);
                case.bench.mesh.handle_timeout(case.bench.now);
            }),
            Reason::Link => {
                let id = self.bench.meet(features(2)).id;
                self.bench.mesh.link_failed(now, id, "no way".to_owned());
                id
            }
            Reason::NameCollision => self.is_refused(features(1)),
            Reason::ConnectedToSelf => self.is_refused(Features { uid: Uid(1), ..features(1) }),
            Reason::NameTaken => {
                let mut holder = self.holder();
                let id = self.bench.meet(Features { uid: Uid(9), ..features(2) }).id;
                self.bench.say(&mut holder, &Message::Unknown { tag: 65, payload: &[1, 1] });
                self.pass(2 * SECOND);
                id
            }
            Reason::Superseded => {
                let holder = self.holder();
                self.bench.meet(Features { uid: Uid(9), ..features(2) });
                self.pass(3 * SECOND);
                holder.id
            }
            Reason::Duplicate => {
                self.holder();
                self.copy(false).id
            }
            Reason::Replaced => {
                let mut holder = self.holder();
                self.copy(true);
                self.bench.say(&mut holder, &Message::Unknown { tag: 65, payload: &[1, 0] });
                holder.id
            }
            Reason::Limit => self.is_refused(features(2)),
            Reason::LimitOfSource => {
                for number in 10..27 {
                    self.bench.meet(features(number));
                }
                self.is_refused(features(30))
            }
            Reason::Register => {
                let [teller, _] = &mut self.honest;
                let told = gossip("topology", 7, &record(7, &[1, 5]));
                self.bench.say(teller, &Message::Gossip(&told));
                self.pass(4 * SECOND);
                let (id, address) = self.bench.dials[0];
                let local = SocketAddr::from(([10, 0, 0, 1], 999));
                self.bench.mesh.handle_dialled(self.bench.now, id, local, address);
                self.bench.drain();
                self.bench.shake(id, features(6), None, false).unwrap();
                id
            }
            Reason::CrowdedOut => {
                let first = self.bench.accept();
                (0..64).for_each(|_| _ = self.bench.accept());
                first
            }
        }
    }

    fn says(&mut self, message: &Message<'_>) -> ConnectionId {
        let mut remote = self.bench.meet(features(2));
        self.bench.say(&mut remote, message);
        remote.id
    }

    /// A peer with these features connects, and is not wanted.
    fn is_refused(&mut self, features: Features) -> ConnectionId {
        let id = self.bench.meet(features).id;
        self.pass(2 * SECOND);
        id
    }

    /// Peers on one host each do something, until one of them has to go.
    fn fill(&mut self, act: impl Fn(&mut Self, ConnectionId)) -> ConnectionId {
        for number in 20..40 {
            let id = self.bench.meet(features(number)).id;
            act(self, id);
            self.bench.drain();
            if let Some((ended, _)) = self.ended().next() {
                return ended;
            }
        }
        panic!("there is room for all");
    }

    fn ended(&self) -> impl Iterator<Item = (ConnectionId, &ConnectionError)> {
        self.bench.events.iter().filter_map(|event| match event {
            Event::ConnectionEnded { id, error, .. } => Some((*id, error)),
            _ => None,
        })
    }
}

#[test]
fn whoever_ends_a_connection_ends_its_own_alone() {
    for reason in Reason::ALL {
        let mut case = Case::new(*reason);
        let pays = case.provoke(*reason);
        case.bench.drain();
        let ended: Vec<_> = case.ended().map(|(id, error)| (id, Reason::of(error))).collect();
        assert_eq!(ended, [(pays, *reason)], "{reason:?}");
        case.pass(5 * SECOND);
        let neighbours = case.bench.neighbours();
        for (remote, number) in case.honest.iter().zip([7, 8]) {
            assert!(!case.bench.is_closed(remote), "{reason:?}");
            assert!(neighbours.contains(&number), "{reason:?}");
        }
    }
}
