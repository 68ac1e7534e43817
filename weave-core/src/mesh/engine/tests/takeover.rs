//! Connections that claim to be of a peer that has one: honest duplicates, and copies.

use proptest::prelude::*;

use super::*;

/// A peer, registered, and another connection with its name and incarnation whose number is lower
/// or higher.
fn duplicate(lower: bool, of: &dyn Fn(u64) -> Features) -> (Bench, Remote, Remote) {
    for number in 0..64 {
        let mut bench = Bench::new();
        let mut first = bench.meet(Features { connection_id: number << 58, ..of(2) });
        bench.heard(&mut first);
        bench.pass(5 * SECOND);
        bench.say(&mut first, &Message::Heartbeat);
        bench.heard(&mut first);
        let second = bench.meet(Features { connection_id: 5 << 58, ..of(2) });
        let uids: Vec<_> = bench.requests.iter().map(|request| request.connection_uid).collect();
        if (uids[1] < uids[0]) == lower {
            return (bench, first, second);
        }
    }
    panic!("all numbers are on one side");
}

#[track_caller]
fn only(bench: &Bench, stays: &Remote, goes: &Remote) {
    assert!(bench.is_closed(goes) && !bench.is_closed(stays));
    assert_eq!(bench.mesh.report().connections[0].id, stays.id);
    assert!(bench.mesh.duplicates.is_empty());
    assert_eq!(bench.mesh.peers().references(name(2)), 1);
}

#[test]
fn a_copy_does_not_replace_a_peer_that_uses_its_connection() {
    let (mut bench, mut first, second) = duplicate(true, &features);
    assert!(!bench.is_closed(&first) && !bench.is_closed(&second));
    assert_eq!(bench.heard(&mut first)[0].as_ref(), [65, 0], "it is asked");
    // What it had said before the question is no answer to it.
    bench.say(&mut first, &Message::Heartbeat);
    assert!(!bench.is_closed(&second));
    bench.say(&mut first, &Message::Unknown { tag: 65, payload: &[1, 1] });
    assert_eq!(bench.end_of(second.id), Some(&ConnectionError::Duplicate(name(2))));
    only(&bench, &first, &second);
}

#[test]
fn a_copy_that_loses_by_its_number_is_refused_at_once() {
    let (bench, first, second) = duplicate(false, &features);
    only(&bench, &first, &second);
}

#[test]
fn a_duplicate_replaces_a_connection_that_its_peer_does_not_use() {
    let (mut bench, mut first, second) = duplicate(true, &features);
    bench.say(&mut first, &Message::Unknown { tag: 65, payload: &[1, 0] });
    assert_eq!(bench.end_of(first.id), Some(&ConnectionError::Replaced(name(2))));
    only(&bench, &second, &first);
}

#[test]
fn a_copy_does_not_replace_a_router_of_the_original() {
    let (mut bench, mut first, second) = duplicate(true, &legacy_features);
    let heard = bench.heard(&mut first);
    let message = Message::decode(&heard[0]).unwrap();
    let Message::Unicast(payload) = message else { panic!("{message:?}") };
    let destination = Unicast::decode(payload).unwrap().destination;
    assert_eq!(destination, name(1), "it passes this on, back to us");
    bench.say(&mut first, &message);
    bench.pass(3 * SECOND);
    only(&bench, &first, &second);
}

#[test]
fn a_router_of_the_original_replaces_a_connection_by_closing_it() {
    for answers in [true, false] {
        let (mut bench, mut first, second) = duplicate(true, &legacy_features);
        if answers {
            bench.say(&mut first, &Message::Heartbeat);
        }
        bench.pass(SECOND);
        bench.mesh.handle_closed(bench.now, first.id, "connection reset by peer".to_owned());
        bench.drain();
        bench.closed.insert(first.id);
        only(&bench, &second, &first);
    }
}

#[test]
fn copies_wait_for_no_more_than_a_few_seconds_and_are_few() {
    let (mut bench, mut first, _second) = duplicate(true, &features);
    for number in 0..50 {
        bench.meet(Features { connection_id: number << 50, ..features(2) });
        bench.say(&mut first, &Message::Heartbeat);
    }
    let waiting = bench.mesh.connections.len() - 1;
    assert!(waiting <= 4, "{waiting}");
    bench.pass(3 * SECOND);
    assert_eq!(bench.mesh.connections.len(), 1);
    assert!(!bench.is_closed(&first));
}

#[test]
fn who_waits_is_told_that_its_connection_is_not_used() {
    let (mut bench, _first, mut second) = duplicate(true, &features);
    let early = gossip("topology", 2, &record(2, &[1, 5]));
    bench.say(&mut second, &Message::Gossip(&early));
    bench.say(&mut second, &Message::Unknown { tag: 65, payload: &[0] });
    assert_eq!(bench.heard(&mut second)[0].as_ref(), [65, 1, 0]);
    assert!(bench.mesh.peers().get(name(5)).is_none(), "all else waits");
    bench.pass(3 * SECOND);
    assert!(bench.mesh.peers().get(name(5)).is_some(), "until the other one is given up");
}

/// Two routers that have dialled each other at the same time.
struct Pair {
    meshes: [Mesh; 2],
    now: Instant,
    /// The id at each router, and the bytes on the way to it, by connection.
    lines: Vec<Line>,
    /// Links that are being made.
    preparing: [VecDeque<ConnectionId>; 2],
}

struct Line {
    ids: [Option<ConnectionId>; 2],
    to: [VecDeque<Step>; 2],
}

enum Step {
    Bytes(Bytes),
    End,
}

impl Pair {
    fn new(seed: u8) -> Self {
        let now = Instant::since_origin(1000 * SECOND);
        let meshes = [1_u8, 2].map(|number| {
            let mut config = Config::new(name(number.into()), Uid(number.into()));
            config.discovery = false;
            config.overlays = vec!["sim".to_owned()];
            config.password = seed.is_multiple_of(2).then(|| Password::new(PASSWORD)).flatten();
            // Numbers of connections are random at both ends, and never equal.
            let mut block = [seed; 32];
            block[0] = number;
            Mesh::new(config, block, now)
        });
        let mut pair =
            Self { meshes, now, lines: Vec::new(), preparing: [VecDeque::new(), VecDeque::new()] };
        for side in [0, 1] {
            let target = format!("10.0.0.{}", 2 - side);
            pair.meshes[side].connect(now, &[target], false).unwrap();
            pair.drain(side);
        }
        pair
    }

    fn drain(&mut self, side: usize) {
        while let Some(output) = self.meshes[side].poll_output() {
            match output {
                Output::Dial { id, address } => self.open(side, id, address),
                Output::Send { id, bytes } => {
                    let line = self.lines.iter_mut().find(|line| line.ids[side] == Some(id));
                    line.unwrap().to[1 - side].push_back(Step::Bytes(bytes.clone()));
                    self.meshes[side].handle_written(self.now, id, bytes.len());
                }
                Output::Close { id } => {
                    if let Some(line) = self.lines.iter_mut().find(|l| l.ids[side] == Some(id)) {
                        line.ids[side] = None;
                        line.to[side].clear();
                        line.to[1 - side].push_back(Step::End);
                    }
                }
                Output::Prepare(request) => self.preparing[side].push_back(request.id),
                _ => {}
            }
        }
    }

    fn open(&mut self, side: usize, id: ConnectionId, to: SocketAddr) {
        let from = SocketAddr::from(([10, 0, 0, if side == 0 { 1 } else { 2 }], 40000));
        let accepted = self.meshes[1 - side].handle_accepted(self.now, to, from);
        let mut ids = [None; 2];
        (ids[side], ids[1 - side]) = (Some(id), Some(accepted));
        self.lines.push(Line { ids, to: [VecDeque::new(), VecDeque::new()] });
        self.meshes[side].handle_dialled(self.now, id, from, to);
        self.drain(side);
        self.drain(1 - side);
    }

    fn deliver(&mut self, line: usize, side: usize) -> bool {
        let Some(line) = self.lines.get_mut(line) else { return false };
        let Some(step) = line.to[side].pop_front() else { return false };
        if let Some(id) = line.ids[side] {
            match step {
                Step::Bytes(bytes) => self.meshes[side].handle_bytes(self.now, id, &bytes),
                Step::End => {
                    self.meshes[side].handle_closed(self.now, id, "reset".to_owned());
                    line.ids[side] = None;
                }
            }
            self.drain(side);
        }
        true
    }

    fn prepare(&mut self, side: usize) -> bool {
        let Some(id) = self.preparing[side].pop_front() else { return false };
        self.meshes[side].link_prepared(self.now, id);
        self.drain(side);
        true
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for side in [0, 1] {
            self.meshes[side].handle_timeout(self.now);
            self.drain(side);
        }
    }

    fn turn(&mut self, turn: u8) -> bool {
        let side = usize::from(turn % 2);
        match turn / 2 % 4 {
            0 => self.deliver(0, side),
            1 => self.deliver(1, side),
            2 => self.prepare(side),
            _ => {
                self.wait(Duration::from_millis(u64::from(turn / 24)));
                false
            }
        }
    }
}

proptest! {
    /// In whatever order things happen at both ends within a second, they come to use the same
    /// connection, and need no third one for that.
    #[test]
    fn routers_that_dial_each_other_agree_on_a_connection(
        seed: u8,
        turns in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut pair = Pair::new(seed);
        for turn in turns {
            pair.turn(turn);
        }
        for _ in 0..4000 {
            let busy = (0..6).filter(|turn| pair.turn(*turn)).count();
            if busy == 0 {
                pair.wait(Duration::from_millis(1));
            }
        }
        let used = |side: usize| -> Vec<ConnectionId> {
            pair.meshes[side].report().connections.iter().map(|used| used.id).collect()
        };
        let both: Vec<_> = pair.lines.iter().filter(|line| {
            [0, 1].iter().all(|side| line.ids[*side].is_some_and(|id| used(*side).contains(&id)))
        }).collect();
        prop_assert_eq!(pair.lines.len(), 2);
        prop_assert_eq!(both.len(), 1);
        prop_assert_eq!((used(0).len(), used(1).len()), (1, 1));
    }
}
