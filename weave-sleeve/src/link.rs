//! The control side of one link (spec sleeve.md, sections 6 and 7), as a state machine without
//! sockets.
//!
//! ```text
//!  passive ──confirm──▶ heartbeats, 20 to 500 ms ──message 1──▶ established, every 10 s
//!                               │                                      │
//!                               └──────── 60 s without a heartbeat ────┴──▶ failed
//! ```
//!
//! Special frames have both addresses and the type zero, travel from this peer to the neighbour as
//! the only frame of a datagram, and differ by their length:
//!
//! ```text
//!   heartbeat           22     | 14 zeros | 8 connection UID |     don't fragment
//!   fragmentation test  60001  zeros                               fragmentable
//!   discovery           60000  zeros                               don't fragment
//!   MTU test            MTU + 14  zeros                            don't fragment
//!   counts request      30     | 14 zeros | 8 connection UID | 8 number |     don't fragment
//! ```
//!
//! Control messages travel over the mesh connection: 1, a heartbeat arrived; 2, the fragmentation
//! test arrived; 3, an MTU test arrived, with its MTU in two bytes. Two routers of this kind also
//! exchange 4, the reply to the counts request of this number: how many datagrams opened before it,
//! and how many did not (8 bytes each).

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use weave_core::mesh::ConnectionUid;
use weave_core::mtu::{PathMtu, Probe};
use weave_core::switch::{Addresses, LinkEvent};
use weave_core::time::Instant;
use weave_core::wire::ethernet::HEADER_LEN as ETHERNET_HEADER;

use crate::cipher::Channel;
pub use crate::gso_health::{Counts, GsoChange};
use crate::gso_health::{CountsReply, GsoHealth};

/// Time between the first heartbeat and the second. The first one is lost if the neighbour has not
/// confirmed the link yet; Weave Net then waits for [`FAST_HEARTBEAT`] at once.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(20);
/// Limit of the doubling interval, until the neighbour acknowledges a heartbeat.
const FAST_HEARTBEAT: Duration = Duration::from_millis(500);
/// Interval from then on.
const SLOW_HEARTBEAT: Duration = Duration::from_secs(10);
/// Time without a heartbeat from the neighbour after which the link fails.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(60);
/// Minimum time between log lines about a new address of the neighbour.
const MOVE_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Interval of the tests whether the path carries IP fragments.
const FRAGMENTATION_TEST_INTERVAL: Duration = Duration::from_secs(300);

const HEARTBEAT_LEN: usize = ETHERNET_HEADER + 8;
const COUNTS_REQUEST_LEN: usize = HEARTBEAT_LEN + 8;
const FRAGMENTATION_TEST_LEN: usize = 60_001;

/// Most answers that wait for the router. A neighbour has one test under way at a time; more than
/// this is a flood, and a dropped test would be repeated.
const MAX_EVENTS: usize = 64;

/// Control messages (spec sleeve.md, section 6).
mod message {
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const FRAGMENTATION_RECEIVED: u8 = 2;
    pub(super) const MTU_RECEIVED: u8 = 3;
    pub(super) const COUNTS_REPLY: u8 = 4;
}

/// A special frame to be sent at once to [`LinkMachine::remote`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpecialFrame {
    /// Keeps the link alive and tells the neighbour the UDP address to reply to.
    Heartbeat(ConnectionUid),
    /// Is larger than any path, for the kernel to fragment.
    FragmentationTest,
    /// Tests the path MTU.
    MtuTest(Probe),
    /// Asks a router of this kind how many datagrams it has opened so far. The reply carries the
    /// same number.
    CountsRequest(ConnectionUid, u64),
}

impl SpecialFrame {
    /// Returns the channel that it is sent on.
    pub const fn channel(self) -> Channel {
        match self {
            Self::Heartbeat(_) | Self::MtuTest(_) | Self::CountsRequest(..) => {
                Channel::DontFragment
            }
            Self::FragmentationTest => Channel::Fragmentable,
        }
    }

    /// Returns the length of the frame.
    pub const fn frame_len(self) -> usize {
        match self {
            Self::Heartbeat(_) => HEARTBEAT_LEN,
            Self::FragmentationTest => FRAGMENTATION_TEST_LEN,
            Self::MtuTest(probe) => probe.frame_len(),
            Self::CountsRequest(..) => COUNTS_REQUEST_LEN,
        }
    }

    /// Appends the frame to `buffer`.
    pub fn emit(self, buffer: &mut Vec<u8>) {
        let start = buffer.len();
        buffer.resize(start + self.frame_len(), 0);
        let content = &mut buffer[start + ETHERNET_HEADER..];
        match self {
            Self::Heartbeat(uid) => content.copy_from_slice(&uid.0.to_be_bytes()),
            Self::CountsRequest(uid, number) => {
                content[..8].copy_from_slice(&uid.0.to_be_bytes());
                content[8..].copy_from_slice(&number.to_be_bytes());
            }
            Self::FragmentationTest | Self::MtuTest(_) => {}
        }
    }
}

/// Returns whether a frame belongs to the links themselves: both addresses and the type are zero.
pub fn is_special(frame: &[u8]) -> bool {
    let addresses = Addresses::of(frame).is_some_and(Addresses::is_special);
    addresses && frame.get(12..ETHERNET_HEADER) == Some(&[0; 2])
}

/// Returns whether this is a special frame of the length of a heartbeat.
pub(crate) fn is_heartbeat(frame: &[u8]) -> bool {
    frame.len() == HEARTBEAT_LEN && is_special(frame)
}

/// The state machine of one link.
///
/// Call the `handle_*` methods as their events happen. After each, drain [`Self::poll_transmit`]
/// and [`Self::poll_event`], then ask [`Self::poll_timeout`].
#[derive(Debug)]
pub struct LinkMachine {
    uid: ConnectionUid,
    /// Where the neighbour receives, unknown on the accepting side before its first heartbeat.
    remote: Option<SocketAddr>,
    phase: Phase,
    interval: Duration,
    heartbeat_at: Option<Instant>,
    timeout_at: Option<Instant>,
    fragmentation_test_at: Option<Instant>,
    /// When a change of [`Self::remote`] was last logged.
    moved_at: Option<Instant>,
    acked: bool,
    established: bool,
    /// The path MTU for which fragments are known to arrive.
    fragments_at: Option<usize>,
    path_mtu: PathMtu,
    /// `None` if the neighbour does not count.
    gso: Option<GsoHealth>,
    counts: Counts,
    gso_change: Option<GsoChange>,
    transmits: VecDeque<SpecialFrame>,
    events: VecDeque<LinkEvent>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Passive,
    Confirmed,
    Failed,
}

impl LinkMachine {
    /// Creates a passive link. Only the dialling side knows `remote`.
    pub fn new(uid: ConnectionUid, remote: Option<SocketAddr>, path_mtu: PathMtu) -> Self {
        Self {
            uid,
            remote,
            phase: Phase::Passive,
            interval: FIRST_HEARTBEAT,
            heartbeat_at: None,
            timeout_at: None,
            fragmentation_test_at: None,
            moved_at: None,
            acked: false,
            established: false,
            fragments_at: None,
            path_mtu,
            gso: None,
            counts: Counts::default(),
            gso_change: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Adds the exchange of counts with a router of this kind, in the native format.
    #[must_use]
    pub fn with_counts(self) -> Self {
        Self { gso: Some(GsoHealth::new()), ..self }
    }

    /// Sets the current counts, which must precede every other input.
    pub const fn set_counts(&mut self, counts: Counts) {
        self.counts = counts;
    }

    /// Returns whether datagrams may be sent in GSO batches.
    pub fn uses_gso(&self) -> bool {
        self.gso.as_ref().is_none_or(GsoHealth::uses_gso)
    }

    /// Returns the percentage of datagrams that were lost in GSO batches, while none are used.
    pub fn gso_loss(&self) -> Option<u64> {
        self.gso.as_ref()?.loss()
    }

    /// Returns the last change of [`Self::uses_gso`], once.
    pub const fn poll_gso_change(&mut self) -> Option<GsoChange> {
        self.gso_change.take()
    }

    /// Returns where the neighbour receives, if that is known.
    pub const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Returns whether the kernel may fragment datagrams that are larger than the path MTU.
    pub const fn stack_fragments(&self) -> bool {
        self.fragments_at.is_some()
    }

    /// Returns what is known of the path MTU.
    pub const fn path_mtu(&self) -> &PathMtu {
        &self.path_mtu
    }

    /// Handles the registration of the connection: heartbeats may be sent.
    pub fn confirm(&mut self, now: Instant) {
        if self.phase != Phase::Passive {
            return;
        }
        self.phase = Phase::Confirmed;
        self.timeout_at = Some(now + HEARTBEAT_TIMEOUT);
        self.send_heartbeat(now);
    }

    /// Handles a special frame that the neighbour sent from this address.
    pub fn handle_special(&mut self, now: Instant, from: SocketAddr, frame: &[u8]) {
        if self.phase != Phase::Confirmed {
            return;
        }
        match frame.len() {
            ..ETHERNET_HEADER => {}
            HEARTBEAT_LEN => self.handle_heartbeat(now, from, frame),
            COUNTS_REQUEST_LEN if self.gso.is_some() => self.handle_counts_request(frame),
            FRAGMENTATION_TEST_LEN => {
                if frame.iter().all(|byte| *byte == 0) {
                    self.send_control(message::FRAGMENTATION_RECEIVED, Vec::new());
                }
            }
            length => {
                // Test frames are far below 64 KiB, and a record cannot be longer anyway.
                let mtu = u16::try_from(length - ETHERNET_HEADER).unwrap_or(u16::MAX);
                self.send_control(message::MTU_RECEIVED, mtu.to_be_bytes().to_vec());
            }
        }
    }

    /// Handles a control message of the neighbour.
    pub fn handle_control(&mut self, now: Instant, number: u8, data: &[u8]) {
        if self.phase == Phase::Failed {
            return;
        }
        match (number, data) {
            (message::ESTABLISHED, _) => self.handle_established(now),
            (message::FRAGMENTATION_RECEIVED, _) => self.fragments_at = Some(self.path_mtu.mtu()),
            (message::MTU_RECEIVED, [high, low, ..]) => {
                let mtu = u16::from_be_bytes([*high, *low]);
                self.path_mtu.handle_ack(now, usize::from(mtu));
                self.flush_path_mtu(now);
            }
            (message::COUNTS_REPLY, data) if self.gso.is_some() => {
                self.handle_counts_reply(now, data)
            }
            _ => tracing::debug!(number, length = data.len(), "unknown control message"),
        }
    }

    /// Handles a datagram that was refused because the path carries only IP packets of `path_mtu`
    /// bytes.
    pub fn handle_too_big(&mut self, now: Instant, path_mtu: usize) {
        if self.phase != Phase::Failed {
            self.path_mtu.handle_too_big(now, path_mtu);
            self.flush_path_mtu(now);
        }
    }

    /// Handles the end of decryption: the connection needs new keys.
    pub fn handle_too_many_forged(&mut self) {
        if self.phase != Phase::Failed {
            self.fail("too many forged datagrams for the keys of one connection");
        }
    }

    /// Handles the time of [`Self::poll_timeout`].
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
            self.flush_path_mtu(now);
        }
        if due(self.gso_timeout())
            && let Some(gso) = &mut self.gso
        {
            let (number, change) = gso.handle_timeout(now, &self.counts);
            self.transmits
                .extend(number.map(|number| SpecialFrame::CountsRequest(self.uid, number)));
            self.gso_change = change.or(self.gso_change);
        }
    }

    /// Returns when [`Self::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.heartbeat_at,
            self.timeout_at,
            self.fragmentation_test_at,
            self.mtu_timeout(),
            self.gso_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Returns the next frame to send to [`Self::remote`], which is then known.
    pub fn poll_transmit(&mut self) -> Option<SpecialFrame> {
        if self.remote.is_none() {
            self.transmits.clear();
        }
        self.transmits.pop_front()
    }

    /// Returns the next event for the router.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// Returns whether [`Self::poll_event`] has an event.
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
                // Without encryption, anybody who sees the UID can cause this continuously.
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
            self.send_control(message::ESTABLISHED, Vec::new());
        }
        self.timeout_at = Some(now + HEARTBEAT_TIMEOUT);
    }

    fn handle_counts_request(&mut self, frame: &[u8]) {
        let Some((uid, number)) =
            frame.get(ETHERNET_HEADER..).and_then(|it| it.split_at_checked(8))
        else {
            return;
        };
        if uid == self.uid.0.to_be_bytes() {
            let Counts { opened, unopened, .. } = self.counts;
            let data = [number, &opened.to_be_bytes(), &unopened.to_be_bytes()].concat();
            self.send_control(message::COUNTS_REPLY, data);
        }
    }

    fn handle_counts_reply(&mut self, now: Instant, data: &[u8]) {
        let (numbers, _) = data.as_chunks::<8>();
        if let [number, opened, unopened, ..] = numbers
            && let Some(gso) = &mut self.gso
        {
            let [number, opened, unopened] =
                [number, opened, unopened].map(|bytes| u64::from_be_bytes(*bytes));
            let change = gso.handle_answer(now, CountsReply { number, opened, unopened });
            self.gso_change = change.or(self.gso_change);
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
            if let Some(gso) = &mut self.gso {
                gso.start(now);
            }
        }
        self.test_fragmentation(now);
        self.path_mtu.start(now);
        self.flush_path_mtu(now);
    }

    fn send_heartbeat(&mut self, now: Instant) {
        self.heartbeat_at = self.remote.map(|_| {
            self.transmits.push_back(SpecialFrame::Heartbeat(self.uid));
            let next = now + self.interval;
            if !self.established {
                self.interval = (self.interval * 2).min(FAST_HEARTBEAT);
            }
            next
        });
    }

    fn test_fragmentation(&mut self, now: Instant) {
        self.fragments_at = None;
        self.transmits.push_back(SpecialFrame::FragmentationTest);
        self.fragmentation_test_at = Some(now + FRAGMENTATION_TEST_INTERVAL);
    }

    fn mtu_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Failed { None } else { self.path_mtu.poll_timeout() }
    }

    fn gso_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Failed { None } else { self.gso.as_ref()?.poll_timeout() }
    }

    /// Sends what path MTU discovery wants to send, after any input to it.
    fn flush_path_mtu(&mut self, now: Instant) {
        self.transmits.extend(self.path_mtu.poll_transmit().map(SpecialFrame::MtuTest));
        // The kernel fragments to the MTU of its route: where larger packets vanish, its fragments
        // vanish as well.
        if self.fragments_at.is_some_and(|mtu| self.path_mtu.mtu() < mtu) {
            self.test_fragmentation(now);
        }
    }

    fn send_control(&mut self, message: u8, data: Vec<u8>) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(LinkEvent::Control { message, data });
        }
    }

    fn fail(&mut self, reason: &str) {
        self.phase = Phase::Failed;
        self.heartbeat_at = None;
        self.timeout_at = None;
        self.fragmentation_test_at = None;
        self.transmits.clear();
        self.events.push_back(LinkEvent::Failed(reason.to_owned()));
    }
}
