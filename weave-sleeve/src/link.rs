//! The control side of one link (spec sleeve.md, sections 6 and 7): a state machine without
//! sockets.
//!
//! ```text
//!  passive ──confirm──▶ beating, 20 to 500 ms ──message 1──▶ established, every 10 s
//!                               │                                    │
//!                               └────── 60 s without a heartbeat ────┴──▶ failed
//! ```
//!
//! Special frames have both addresses and the type zero, travel from the own peer to the
//! neighbour as the only frame of a datagram, and are told apart by their length:
//!
//! ```text
//!   heartbeat           22     | 14 zeros | 8 connection UID |     don't fragment
//!   fragmentation test  60001  zeros                               fragmentable
//!   discovery           60000  zeros                               don't fragment
//!   MTU test            MTU + 14  zeros                            don't fragment
//!   question            30     | 14 zeros | 8 connection UID | 8 number |     don't fragment
//! ```
//!
//! Messages go over the mesh connection: 1, a heartbeat came in; 2, the fragmentation test came
//! in; 3, an MTU test came in, with its MTU in two bytes. Between two of our own routers also 4,
//! the answer to a question of this number: how many datagrams opened before it, and how many did
//! not (8 bytes each).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use weave_core::mesh::ConnectionUid;
use weave_core::mtu::{PathMtu, Probe};
use weave_core::switch::LinkEvent;
use weave_core::time::Instant;
use weave_core::wire::ethernet::HEADER_LEN as ETHERNET_HEADER;

use crate::cipher::Channel;
use crate::trains::{Answer, TrainHealth};
pub use crate::trains::{Counts, TrainChange};

/// Between the first heartbeat and the second. The first one is lost if the neighbour has not
/// confirmed the link yet; Weave Net then waits for [`FAST_HEARTBEAT`] at once.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(20);
/// What the time between heartbeats grows to, doubling, until the neighbour says that it
/// receives them.
const FAST_HEARTBEAT: Duration = Duration::from_millis(500);
/// Between heartbeats from then on.
const SLOW_HEARTBEAT: Duration = Duration::from_secs(10);
/// The link fails after as long without a heartbeat of the neighbour.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is worth a line in the log that the neighbour has another address.
const MOVE_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is tested whether the path carries IP fragments.
const FRAGMENTATION_TEST_INTERVAL: Duration = Duration::from_secs(300);

const HEARTBEAT_LEN: usize = ETHERNET_HEADER + 8;
const QUESTION_LEN: usize = HEARTBEAT_LEN + 8;
const FRAGMENTATION_TEST_LEN: usize = 60_001;

/// Answers waiting for the router. A neighbour has one test under way at a time; more than this
/// is a flood, and what is dropped would be asked for again.
const MAX_EVENTS: usize = 64;

/// Control messages (spec sleeve.md, section 6).
mod message {
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const FRAGMENTATION_RECEIVED: u8 = 2;
    pub(super) const MTU_RECEIVED: u8 = 3;
    pub(super) const COUNTED: u8 = 4;
}

/// A special frame to be sent at once to [`LinkMachine::remote`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    /// Keeps the link alive and tells the neighbour the UDP address to answer to.
    Heartbeat(ConnectionUid),
    /// Larger than any path, to be cut by the kernel.
    FragmentationTest,
    /// Of path MTU discovery.
    Mtu(Probe),
    /// Asks a router of our own how many datagrams it has opened by now; with a number that it
    /// answers with.
    Question(ConnectionUid, u64),
}

impl Special {
    /// The way it travels.
    pub const fn channel(self) -> Channel {
        match self {
            Self::Heartbeat(_) | Self::Mtu(_) | Self::Question(..) => Channel::DontFragment,
            Self::FragmentationTest => Channel::Fragmentable,
        }
    }

    /// Length of the frame.
    pub const fn frame_len(self) -> usize {
        match self {
            Self::Heartbeat(_) => HEARTBEAT_LEN,
            Self::FragmentationTest => FRAGMENTATION_TEST_LEN,
            Self::Mtu(probe) => probe.frame_len(),
            Self::Question(..) => QUESTION_LEN,
        }
    }

    /// Appends the frame.
    pub fn emit(self, buffer: &mut Vec<u8>) {
        let start = buffer.len();
        buffer.resize(start + self.frame_len(), 0);
        let content = &mut buffer[start + ETHERNET_HEADER..];
        match self {
            Self::Heartbeat(uid) => content.copy_from_slice(&uid.0.to_be_bytes()),
            Self::Question(uid, number) => {
                content[..8].copy_from_slice(&uid.0.to_be_bytes());
                content[8..].copy_from_slice(&number.to_be_bytes());
            }
            Self::FragmentationTest | Self::Mtu(_) => {}
        }
    }
}

/// Whether a frame belongs to the links themselves: both addresses and the type are zero.
pub fn is_special(frame: &[u8]) -> bool {
    frame.first_chunk::<ETHERNET_HEADER>() == Some(&[0; ETHERNET_HEADER])
}

/// The state of one link.
///
/// Call the `handle_*` methods as their events happen. After each, drain
/// [`Self::poll_transmit`] and [`Self::poll_event`], then ask [`Self::poll_timeout`].
#[derive(Debug)]
pub struct LinkMachine {
    uid: ConnectionUid,
    /// Where the neighbour receives; not known on the accepting side before its first heartbeat.
    remote: Option<SocketAddr>,
    life: Life,
    interval: Duration,
    heartbeat_at: Option<Instant>,
    timeout_at: Option<Instant>,
    fragmentation_test_at: Option<Instant>,
    /// When a change of [`Self::remote`] was logged.
    moved_at: Option<Instant>,
    acked: bool,
    established: bool,
    stack_fragments: bool,
    path_mtu: PathMtu,
    /// None with a neighbour that does not count.
    trains: Option<TrainHealth>,
    counts: Counts,
    train_change: Option<TrainChange>,
    transmits: VecDeque<Special>,
    events: VecDeque<LinkEvent>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Passive,
    Confirmed,
    Failed,
}

impl LinkMachine {
    /// A passive link. `remote` is known to the side that dialled.
    pub fn new(uid: ConnectionUid, remote: Option<SocketAddr>, path_mtu: PathMtu) -> Self {
        Self {
            uid,
            remote,
            life: Life::Passive,
            interval: FIRST_HEARTBEAT,
            heartbeat_at: None,
            timeout_at: None,
            fragmentation_test_at: None,
            moved_at: None,
            acked: false,
            established: false,
            stack_fragments: false,
            path_mtu,
            trains: None,
            counts: Counts::default(),
            train_change: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The same to a router of our own, in the native format: both sides count.
    #[must_use]
    pub fn with_counts(self) -> Self {
        Self { trains: Some(TrainHealth::new()), ..self }
    }

    /// What was counted so far; to be told before anything else is.
    pub const fn note_counts(&mut self, counts: Counts) {
        self.counts = counts;
    }

    /// Whether datagrams may go in trains.
    pub fn uses_trains(&self) -> bool {
        self.trains.as_ref().is_none_or(TrainHealth::uses_trains)
    }

    /// How many of a hundred datagrams of trains were lost, while none are used.
    pub fn train_loss(&self) -> Option<u64> {
        self.trains.as_ref()?.loss()
    }

    /// What happened to [`Self::uses_trains`].
    pub const fn poll_train_change(&mut self) -> Option<TrainChange> {
        self.train_change.take()
    }

    /// Where the neighbour receives, if that is known.
    pub const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Whether datagrams may be larger than the path MTU, to be cut by the kernel.
    pub const fn stack_fragments(&self) -> bool {
        self.stack_fragments
    }

    /// What is known of the path MTU.
    pub const fn path_mtu(&self) -> &PathMtu {
        &self.path_mtu
    }

    /// The connection is registered: heartbeats may go out.
    pub fn confirm(&mut self, now: Instant) {
        if self.life != Life::Passive {
            return;
        }
        self.life = Life::Confirmed;
        self.timeout_at = Some(now + HEARTBEAT_TIMEOUT);
        self.send_heartbeat(now);
    }

    /// A special frame came in from the neighbour, sent from this address.
    pub fn handle_special(&mut self, now: Instant, from: SocketAddr, frame: &[u8]) {
        if self.life != Life::Confirmed {
            return;
        }
        match frame.len() {
            ..ETHERNET_HEADER => {}
            HEARTBEAT_LEN => self.handle_heartbeat(now, from, frame),
            QUESTION_LEN if self.trains.is_some() => self.handle_question(frame),
            FRAGMENTATION_TEST_LEN => {
                if frame.iter().all(|byte| *byte == 0) {
                    self.say(message::FRAGMENTATION_RECEIVED, Vec::new());
                }
            }
            length => {
                // Test frames are far below 64 KiB; a record cannot be longer anyway.
                let mtu = u16::try_from(length - ETHERNET_HEADER).unwrap_or(u16::MAX);
                self.say(message::MTU_RECEIVED, mtu.to_be_bytes().to_vec());
            }
        }
    }

    /// The neighbour says something over the mesh connection.
    pub fn handle_control(&mut self, now: Instant, number: u8, data: &[u8]) {
        if self.life == Life::Failed {
            return;
        }
        match (number, data) {
            (message::ESTABLISHED, _) => self.handle_established(now),
            (message::FRAGMENTATION_RECEIVED, _) => self.stack_fragments = true,
            (message::MTU_RECEIVED, [high, low, ..]) => {
                let mtu = u16::from_be_bytes([*high, *low]);
                self.path_mtu.handle_ack(now, usize::from(mtu));
                self.collect_probe();
            }
            (message::COUNTED, data) if self.trains.is_some() => self.handle_counted(now, data),
            _ => tracing::debug!(number, length = data.len(), "unknown control message"),
        }
    }

    /// A datagram was refused because the path carries IP packets of `path_mtu` bytes only.
    pub fn handle_too_big(&mut self, now: Instant, path_mtu: usize) {
        if self.life != Life::Failed {
            self.path_mtu.handle_too_big(now, path_mtu);
            self.collect_probe();
        }
    }

    /// Nothing that the neighbour seals is opened any more: the connection needs new keys.
    pub fn handle_too_many_forged(&mut self) {
        if self.life != Life::Failed {
            self.fail("too many forged datagrams for the keys of one connection");
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.timeout_at) {
            self.fail("timed out waiting for UDP heartbeat");
            return;
        }
        if due(self.heartbeat_at) {
            self.send_heartbeat(now);
        }
        if due(self.fragmentation_test_at) {
            self.test_fragmentation(now);
        }
        if due(self.mtu_timeout()) {
            self.path_mtu.handle_timeout(now);
            self.collect_probe();
        }
        if due(self.trains_timeout())
            && let Some(trains) = &mut self.trains
        {
            let (number, change) = trains.handle_timeout(now, &self.counts);
            self.transmits.extend(number.map(|number| Special::Question(self.uid, number)));
            self.train_change = change.or(self.train_change);
        }
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.heartbeat_at,
            self.timeout_at,
            self.fragmentation_test_at,
            self.mtu_timeout(),
            self.trains_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What to send to [`Self::remote`], which is then known.
    pub fn poll_transmit(&mut self) -> Option<Special> {
        if self.remote.is_none() {
            self.transmits.clear();
        }
        self.transmits.pop_front()
    }

    /// What the router should know.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// Whether [`Self::poll_event`] has something.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    fn handle_heartbeat(&mut self, now: Instant, from: SocketAddr, frame: &[u8]) {
        if frame.get(ETHERNET_HEADER..) != Some(&self.uid.0.to_be_bytes()[..]) {
            return;
        }
        match self.remote.replace(from) {
            None => self.send_heartbeat(now),
            Some(before) if before != from => {
                // Without encryption anybody who sees the UID can make this happen all the time.
                if self.moved_at.is_none_or(|at| now >= at + MOVE_LOG_INTERVAL) {
                    self.moved_at = Some(now);
                    tracing::info!("the UDP address of the neighbour changed");
                }
                tracing::debug!(%before, %from, "new UDP address");
            }
            Some(_) => {}
        }
        if !self.acked {
            self.acked = true;
            self.say(message::ESTABLISHED, Vec::new());
        }
        self.timeout_at = Some(now + HEARTBEAT_TIMEOUT);
    }

    fn handle_question(&mut self, frame: &[u8]) {
        let Some((uid, number)) =
            frame.get(ETHERNET_HEADER..).and_then(|it| it.split_at_checked(8))
        else {
            return;
        };
        if uid == self.uid.0.to_be_bytes() {
            let Counts { opened, unopened, .. } = self.counts;
            let data = [number, &opened.to_be_bytes(), &unopened.to_be_bytes()].concat();
            self.say(message::COUNTED, data);
        }
    }

    fn handle_counted(&mut self, now: Instant, data: &[u8]) {
        let (numbers, _) = data.as_chunks::<8>();
        if let [number, opened, unopened, ..] = numbers
            && let Some(trains) = &mut self.trains
        {
            let [number, opened, unopened] =
                [number, opened, unopened].map(|bytes| u64::from_be_bytes(*bytes));
            let change = trains.handle_answer(now, Answer { number, opened, unopened });
            self.train_change = change.or(self.train_change);
        }
    }

    fn handle_established(&mut self, now: Instant) {
        if !self.established {
            self.established = true;
            self.interval = SLOW_HEARTBEAT;
            if self.heartbeat_at.is_some() {
                self.heartbeat_at = Some(now + self.interval);
            }
            self.events.push_back(LinkEvent::Established);
            if let Some(trains) = &mut self.trains {
                trains.start(now);
            }
        }
        self.test_fragmentation(now);
        self.path_mtu.start(now);
        self.collect_probe();
    }

    fn send_heartbeat(&mut self, now: Instant) {
        self.heartbeat_at = self.remote.map(|_| {
            self.transmits.push_back(Special::Heartbeat(self.uid));
            let next = now + self.interval;
            if !self.established {
                self.interval = (self.interval * 2).min(FAST_HEARTBEAT);
            }
            next
        });
    }

    fn test_fragmentation(&mut self, now: Instant) {
        self.stack_fragments = false;
        self.transmits.push_back(Special::FragmentationTest);
        self.fragmentation_test_at = Some(now + FRAGMENTATION_TEST_INTERVAL);
    }

    fn mtu_timeout(&self) -> Option<Instant> {
        if self.life == Life::Failed { None } else { self.path_mtu.poll_timeout() }
    }

    fn trains_timeout(&self) -> Option<Instant> {
        if self.life == Life::Failed { None } else { self.trains.as_ref()?.poll_timeout() }
    }

    fn collect_probe(&mut self) {
        self.transmits.extend(self.path_mtu.poll_transmit().map(Special::Mtu));
    }

    fn say(&mut self, message: u8, data: Vec<u8>) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(LinkEvent::Control { message, data });
        }
    }

    fn fail(&mut self, reason: &str) {
        self.life = Life::Failed;
        self.heartbeat_at = None;
        self.timeout_at = None;
        self.fragmentation_test_at = None;
        self.transmits.clear();
        self.events.push_back(LinkEvent::Failed(reason.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use weave_core::mtu::DEFAULT_FLOOR;

    use super::*;

    const UID: ConnectionUid = ConnectionUid(0x9d3f_7fd4_70d6_6909);

    fn at(milliseconds: u64) -> Instant {
        Instant::since_origin(Duration::from_millis(milliseconds))
    }

    fn address(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 6783))
    }

    fn machine(remote: Option<SocketAddr>) -> LinkMachine {
        LinkMachine::new(UID, remote, PathMtu::new(62, DEFAULT_FLOOR))
    }

    fn sent(machine: &mut LinkMachine) -> Vec<Special> {
        std::iter::from_fn(|| machine.poll_transmit()).collect()
    }

    fn events(machine: &mut LinkMachine) -> Vec<LinkEvent> {
        std::iter::from_fn(|| machine.poll_event()).collect()
    }

    fn heartbeat(uid: ConnectionUid) -> Vec<u8> {
        let mut frame = Vec::new();
        Special::Heartbeat(uid).emit(&mut frame);
        frame
    }

    fn control(message: u8, data: &[u8]) -> LinkEvent {
        LinkEvent::Control { message, data: data.to_vec() }
    }

    /// Two links in virtual time over a path that loses nothing but what is too big for it.
    struct Pair {
        sides: [LinkMachine; 2],
        now: Instant,
        path_mtu: usize,
        established: [bool; 2],
    }

    impl Pair {
        fn new(path_mtu: usize) -> Self {
            let mut sides = [machine(Some(address(2))), machine(None)];
            sides.iter_mut().for_each(|side| side.confirm(at(0)));
            Self { sides, now: at(0), path_mtu, established: [false; 2] }
        }

        fn settle(&mut self) {
            let mut busy = true;
            while std::mem::take(&mut busy) {
                for index in 0..2 {
                    let from = address(u8::try_from(index).unwrap() + 1);
                    while let Some(special) = self.sides[index].poll_transmit() {
                        busy = true;
                        let mut frame = Vec::new();
                        special.emit(&mut frame);
                        assert!(is_special(&frame));
                        if special.channel() == Channel::DontFragment
                            && frame.len() + 62 - 14 > self.path_mtu
                        {
                            self.sides[index].handle_too_big(self.now, self.path_mtu);
                        } else {
                            self.sides[1 - index].handle_special(self.now, from, &frame);
                        }
                    }
                    while let Some(event) = self.sides[index].poll_event() {
                        busy = true;
                        match event {
                            LinkEvent::Control { message, data } => {
                                self.sides[1 - index].handle_control(self.now, message, &data);
                            }
                            LinkEvent::Established => self.established[index] = true,
                            LinkEvent::Failed(reason) => panic!("{reason}"),
                            LinkEvent::Healthy(_) => panic!("never said"),
                        }
                    }
                }
            }
        }

        fn run(&mut self, until: Instant) {
            self.settle();
            while let Some(due) = self.sides.iter().filter_map(LinkMachine::poll_timeout).min()
                && due <= until
            {
                self.now = due;
                self.sides.iter_mut().for_each(|side| side.handle_timeout(due));
                self.settle();
            }
        }
    }

    #[test]
    fn two_sides_establish_and_stay() {
        let mut pair = Pair::new(1500);
        pair.settle();
        assert_eq!(pair.established, [true, true]);
        pair.run(at(3_600_000));
        for side in &pair.sides {
            assert!(side.stack_fragments());
            assert_eq!(side.path_mtu().mtu(), 1438);
        }
        assert_eq!(pair.sides[1].remote(), Some(address(1)));
    }

    #[test]
    fn heartbeats_slow_down_once_heard() {
        let mut link = machine(Some(address(2)));
        assert_eq!(link.poll_timeout(), None);
        link.confirm(at(0));
        assert_eq!(sent(&mut link), [Special::Heartbeat(UID)]);
        let mut now = 0;
        for pause in [20, 40, 80, 160, 320, 500, 500] {
            now += pause;
            assert_eq!(link.poll_timeout(), Some(at(now)));
            link.handle_timeout(at(now));
            assert_eq!(sent(&mut link), [Special::Heartbeat(UID)]);
        }
        link.handle_control(at(2000), 1, &[]);
        assert_eq!(events(&mut link), [LinkEvent::Established]);
        assert_eq!(sent(&mut link), [Special::FragmentationTest, Special::Mtu(Probe::Discovery)]);
        assert_eq!(link.poll_timeout(), Some(at(12_000)));

        link.handle_control(at(2100), 1, &[]);
        assert_eq!(events(&mut link), [], "established once");
        assert_eq!(link.poll_timeout(), Some(at(12_000)), "and the timer stays");
    }

    #[test]
    fn silence_for_a_minute_fails_the_link() {
        let mut link = machine(Some(address(2)));
        link.confirm(at(0));
        link.handle_special(at(30_000), address(2), &heartbeat(UID));
        link.handle_special(at(40_000), address(2), &heartbeat(ConnectionUid(1)));
        link.handle_timeout(at(89_999));
        assert_eq!(events(&mut link), [control(1, &[])]);
        link.handle_timeout(at(90_000));
        let reason = "timed out waiting for UDP heartbeat".to_owned();
        assert_eq!(events(&mut link), [LinkEvent::Failed(reason)]);
        assert_eq!(sent(&mut link), []);
        assert_eq!(link.poll_timeout(), None);
        link.handle_special(at(90_001), address(2), &heartbeat(UID));
        link.handle_control(at(90_001), 1, &[]);
        assert_eq!((events(&mut link), sent(&mut link)), (vec![], vec![]));
    }

    #[test]
    fn only_a_heartbeat_of_this_connection_moves_the_address() {
        let mut link = machine(None);
        link.handle_special(at(0), address(7), &heartbeat(UID));
        assert_eq!(link.remote(), None, "not before it is confirmed");
        link.confirm(at(0));
        assert_eq!(sent(&mut link), []);
        for frame in [heartbeat(ConnectionUid(1)), vec![0; 1000], vec![0; 60_001], vec![0; 14]] {
            link.handle_special(at(1), address(7), &frame);
            assert_eq!(link.remote(), None);
        }
        link.handle_special(at(2), address(7), &heartbeat(UID));
        assert_eq!(link.remote(), Some(address(7)));
        assert_eq!(sent(&mut link), [Special::Heartbeat(UID)]);
        link.handle_special(at(3), address(8), &heartbeat(UID));
        assert_eq!(link.remote(), Some(address(8)));
        link.handle_special(at(4), address(9), &[0; 1000]);
        assert_eq!(link.remote(), Some(address(8)));
    }

    #[test]
    fn tests_are_answered_by_their_length() {
        let mut link = machine(Some(address(2)));
        link.confirm(at(0));
        for (length, expected) in [
            (60_001, Some(control(2, &[]))),
            (60_000, Some(control(3, &59_986_u16.to_be_bytes()))),
            (1452, Some(control(3, &1438_u16.to_be_bytes()))),
            (14, Some(control(3, &[0, 0]))),
            (13, None),
            (0, None),
        ] {
            link.handle_special(at(1), address(2), &vec![0; length]);
            assert_eq!(events(&mut link).first(), expected.as_ref(), "{length}");
        }
        let mut damaged = vec![0; 60_001];
        damaged[40_000] = 1;
        link.handle_special(at(1), address(2), &damaged);
        assert_eq!(events(&mut link), []);
    }

    #[test]
    fn fragmentation_is_tested_again_and_again() {
        let mut pair = Pair::new(1500);
        pair.run(at(299_999));
        assert!(pair.sides[0].stack_fragments());
        pair.sides[0].handle_special(at(299_999), address(2), &heartbeat(UID));
        pair.sides[0].handle_timeout(at(300_000));
        assert!(!pair.sides[0].stack_fragments(), "until the neighbour answers");
        assert!(sent(&mut pair.sides[0]).contains(&Special::FragmentationTest));
        pair.sides[0].handle_control(at(300_001), 2, &[]);
        assert!(pair.sides[0].stack_fragments());
    }

    #[test]
    fn a_flood_of_tests_does_not_pile_up() {
        let mut link = machine(Some(address(2)));
        link.confirm(at(0));
        for _ in 0..10_000 {
            link.handle_special(at(1), address(2), &[0; 100]);
        }
        assert_eq!(events(&mut link).len(), MAX_EVENTS);
    }

    #[test]
    fn established_before_any_heartbeat_came() {
        let mut link = machine(None);
        link.confirm(at(0));
        link.handle_control(at(1), 1, &[]);
        assert_eq!(sent(&mut link), []);
        while let Some(due) = link.poll_timeout() {
            link.handle_timeout(due);
            assert!(link.poll_timeout().is_none_or(|next| next > due), "no endless loop");
        }
    }

    #[test]
    fn malformed_messages_are_ignored() {
        let mut link = machine(Some(address(2)));
        link.confirm(at(0));
        sent(&mut link);
        for (message, data) in [(0, &[][..]), (3, &[]), (3, &[5]), (4, &[1]), (255, &[0; 9])] {
            link.handle_control(at(1), message, data);
        }
        assert_eq!((events(&mut link), sent(&mut link)), (vec![], vec![]));
    }

    #[test]
    fn a_neighbour_of_our_own_answers_what_it_has_counted() {
        let question = |uid, number| {
            let mut frame = Vec::new();
            Special::Question(uid, number).emit(&mut frame);
            assert!(is_special(&frame) && frame.len() == 30);
            frame
        };
        let mut link = machine(Some(address(2))).with_counts();
        link.confirm(at(0));
        let (opened, unopened) = (0x0102, 0x0304);
        link.note_counts(Counts { opened, unopened, ..Counts::default() });
        link.handle_special(at(1), address(2), &question(ConnectionUid(1), 5));
        assert!(events(&mut link).is_empty(), "of another connection");
        link.handle_special(at(1), address(2), &question(UID, 5));
        let answer = [5_u64, opened, unopened].map(u64::to_be_bytes);
        assert_eq!(events(&mut link), [control(4, answer.as_flattened())]);

        // Weave Net takes it for an MTU test, as it always did, and never asks.
        let mut link = machine(Some(address(2)));
        link.confirm(at(0));
        link.handle_special(at(1), address(2), &question(UID, 5));
        assert_eq!(events(&mut link), [control(3, &[0, 16])]);
        link.handle_control(at(2), 4, answer.as_flattened());
        assert_eq!(link.poll_train_change(), None);
    }

    #[test]
    fn questions_begin_when_the_neighbour_receives() {
        let mut link = machine(Some(address(2))).with_counts();
        link.confirm(at(0));
        let asks = |link: &mut LinkMachine| {
            let questions = sent(link).into_iter().filter(|it| matches!(it, Special::Question(..)));
            questions.collect::<Vec<_>>()
        };
        link.handle_timeout(at(0));
        assert_eq!(asks(&mut link), []);
        link.handle_control(at(5), message::ESTABLISHED, &[]);
        assert_eq!(link.poll_timeout(), Some(at(5)));
        link.handle_timeout(at(5));
        assert_eq!(asks(&mut link), [Special::Question(UID, 1)]);
        for short in 0..24 {
            link.handle_control(at(6), message::COUNTED, &[0; 24][..short]);
        }
        link.handle_too_many_forged();
        assert_eq!(link.poll_timeout(), None);
    }
}
