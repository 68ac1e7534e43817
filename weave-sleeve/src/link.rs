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

#[cfg(test)]
mod tests;

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
    /// The MTU of the path for which fragments are known to arrive.
    fragments_at: Option<usize>,
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
            fragments_at: None,
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
        self.fragments_at.is_some()
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
            (message::FRAGMENTATION_RECEIVED, _) => self.fragments_at = Some(self.path_mtu.mtu()),
            (message::MTU_RECEIVED, [high, low, ..]) => {
                let mtu = u16::from_be_bytes([*high, *low]);
                self.path_mtu.handle_ack(now, usize::from(mtu));
                self.settle_path_mtu(now);
            }
            (message::COUNTED, data) if self.trains.is_some() => self.handle_counted(now, data),
            _ => tracing::debug!(number, length = data.len(), "unknown control message"),
        }
    }

    /// A datagram was refused because the path carries IP packets of `path_mtu` bytes only.
    pub fn handle_too_big(&mut self, now: Instant, path_mtu: usize) {
        if self.life != Life::Failed {
            self.path_mtu.handle_too_big(now, path_mtu);
            self.settle_path_mtu(now);
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
            self.settle_path_mtu(now);
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
        self.settle_path_mtu(now);
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
        self.fragments_at = None;
        self.transmits.push_back(Special::FragmentationTest);
        self.fragmentation_test_at = Some(now + FRAGMENTATION_TEST_INTERVAL);
    }

    fn mtu_timeout(&self) -> Option<Instant> {
        if self.life == Life::Failed { None } else { self.path_mtu.poll_timeout() }
    }

    fn trains_timeout(&self) -> Option<Instant> {
        if self.life == Life::Failed { None } else { self.trains.as_ref()?.poll_timeout() }
    }

    /// After anything that may have changed it.
    fn settle_path_mtu(&mut self, now: Instant) {
        self.transmits.extend(self.path_mtu.poll_transmit().map(Special::Mtu));
        // The kernel cuts to what it knows of the route: where packets vanish in the middle, its
        // fragments do as well.
        if self.fragments_at.is_some_and(|mtu| self.path_mtu.mtu() < mtu) {
            self.test_fragmentation(now);
        }
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
