//! One TCP connection as the engine keeps it (spec mesh.md, section 7).
//!
//! ```text
//!   Dialling --> Handshaking --> Peered { Preparing --> Registered }
//!      outbound       ^ inbound            link made      may gossip and carry frames
//! ```
//!
//! Each phase has a deadline; what is sent is counted until the driver has written it, so that
//! a peer that does not read is noticed and nothing piles up for it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::credit::Credit;
use super::error::ConnectionError;
use super::gossip::sender::Buckets;
use super::session::SessionError;
use super::{ConnectionUid, Handshake, PeerName, Session, Uid};
use crate::time::Instant;

/// A TCP connection that does not come about in this time is given up. The original leaves that
/// to the operating system, which may take minutes for each address of a host.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// For the protocol header (spec mesh.md, section 19).
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For the rest of the handshake, and then for each message.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A long message gets this time again for each such part of it. The longest takes over a minute at
/// 1 Mbit/s, so a peer that sends some through slow links could otherwise part their routers.
const READ_PROGRESS: usize = 64 << 10;
/// A peer that takes nothing of what waits for it for this long hangs.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Closing resets the connection, and a reset can overtake what was sent: so much time is left
/// to the peer to read it.
const PARTING_TIME: Duration = Duration::from_secs(1);
/// How often the peer hears from us at least.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(30);

/// Gossip is encoded only when less than this waits to be written: what is merged before costs
/// nothing.
const LOW_WATER: usize = 16 << 10;
/// Unicasts of others are dropped while more than this waits.
const UNICAST_LIMIT: usize = 1 << 20;
/// With so much waiting the connection has no use any more. More than the longest message, with
/// room for unicasts and for what transports say.
const BACKLOG_LIMIT: usize = 16 << 20;
/// What may come in while the link is being made.
const EARLY_LIMIT: usize = 4 << 20;

pub(super) struct Connection {
    /// This end; not known before TCP is up.
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) outbound: bool,
    pub(super) phase: Phase,
    /// When the peer last said anything.
    pub(super) heard_at: Instant,
    /// When the peer must have done what the phase waits for.
    pub(super) read_deadline: Instant,
    /// Bytes of incomplete messages, as last counted.
    pub(super) partial: usize,
    /// Bytes that came since the deadline was last put off.
    progress: usize,
    /// Bytes sent and not yet written.
    unsent: usize,
    /// When `unsent` last shrank, or grew from nothing.
    progress_at: Instant,
    /// When the timer of this connection is set to fire.
    pub(super) armed: Option<Instant>,
    /// How much work its messages may make.
    pub(super) credit: Credit,
    /// When the messages that wait are dealt with, since there is no credit left.
    pub(super) resumes_at: Option<Instant>,
    /// Bytes that wait for the peer to read, as last counted.
    pub(super) held: usize,
}

pub(super) enum Phase {
    Dialling,
    Handshaking {
        handshake: Box<Handshake>,
        past_header: bool,
    },
    Peered(Box<Peered>),
    /// It will end for this reason, but not before the peer has had time to read why.
    Parting(Box<Parting>),
}

/// A connection that is not wanted.
pub(super) struct Parting {
    pub(super) error: ConnectionError,
    /// Name and nickname of the peer, if it was met.
    pub(super) peer: Option<(PeerName, String)>,
}

/// Messages that came while another connection to the peer may have to stay.
#[derive(Default)]
pub(super) struct Early {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

/// A connection whose other end is known.
pub(super) struct Peered {
    pub(super) session: Session,
    pub(super) early: Early,
    pub(super) version: u8,
    pub(super) peer: PeerName,
    pub(super) nickname: String,
    /// The peer's incarnation.
    pub(super) uid: Uid,
    pub(super) connection_uid: ConnectionUid,
    pub(super) trusted: bool,
    /// Can choose among transports.
    pub(super) switched: bool,
    /// Understands topology digests.
    pub(super) digests: bool,
    /// Understands notices.
    pub(super) notices: bool,
    /// Understands unicasts that say how often they may be relayed.
    pub(super) hops: bool,
    /// The known record was of another incarnation, so the peer knows nothing of before.
    pub(super) restarted: bool,
    pub(super) since: Instant,
    pub(super) stage: Stage,
    pub(super) buckets: Buckets,
    pub(super) heartbeat_at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The link is being made.
    Preparing,
    /// The link is made, but another connection to the peer may have to stay.
    Contending,
    /// In the own record.
    Registered { established: bool },
}

impl Connection {
    pub(super) fn dialling(now: Instant, remote: SocketAddr) -> Self {
        Self {
            local: SocketAddr::from(([0, 0, 0, 0], 0)),
            remote,
            outbound: true,
            phase: Phase::Dialling,
            heard_at: now,
            read_deadline: now + DIAL_TIMEOUT,
            partial: 0,
            progress: 0,
            unsent: 0,
            progress_at: now,
            armed: None,
            credit: Credit::new(now),
            resumes_at: None,
            held: 0,
        }
    }

    /// TCP is up: the handshake begins.
    pub(super) fn handshaking(
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        outbound: bool,
        handshake: Handshake,
    ) -> Self {
        Self {
            local,
            remote,
            outbound,
            phase: Phase::Handshaking { handshake: Box::new(handshake), past_header: false },
            heard_at: now,
            read_deadline: now + HEADER_TIMEOUT,
            partial: 0,
            progress: 0,
            unsent: 0,
            progress_at: now,
            armed: None,
            credit: Credit::new(now),
            resumes_at: None,
            held: 0,
        }
    }

    pub(super) fn peered(&self) -> Option<&Peered> {
        match &self.phase {
            Phase::Peered(peered) => Some(peered),
            Phase::Dialling | Phase::Handshaking { .. } | Phase::Parting(_) => None,
        }
    }

    pub(super) fn peered_mut(&mut self) -> Option<&mut Peered> {
        match &mut self.phase {
            Phase::Peered(peered) => Some(peered),
            Phase::Dialling | Phase::Handshaking { .. } | Phase::Parting(_) => None,
        }
    }

    /// From here on it only waits for its end.
    pub(super) fn part(
        &mut self,
        now: Instant,
        error: ConnectionError,
        peer: Option<(PeerName, String)>,
    ) {
        self.phase = Phase::Parting(Box::new(Parting { error, peer }));
        self.read_deadline = now + PARTING_TIME;
    }

    /// Why it ends if TCP is lost now.
    pub(super) fn lost(&self, reason: String) -> ConnectionError {
        match &self.phase {
            Phase::Parting(parting) => parting.error.clone(),
            _ => ConnectionError::Lost(reason),
        }
    }

    /// The peer, if the connection is in the own record.
    pub(super) fn registered(&self) -> Option<&Peered> {
        self.peered().filter(|peered| peered.is_registered())
    }

    pub(super) const fn is_half_open(&self) -> bool {
        !self.outbound && matches!(self.phase, Phase::Handshaking { .. })
    }

    /// Counts bytes that are being sent.
    pub(super) fn sending(&mut self, now: Instant, len: usize) {
        if self.unsent == 0 {
            self.progress_at = now;
        }
        self.unsent = self.unsent.saturating_add(len);
    }

    /// Counts bytes that were written.
    pub(super) fn written(&mut self, now: Instant, len: usize) {
        if len > 0 {
            self.unsent = self.unsent.saturating_sub(len);
            self.progress_at = now;
        }
    }

    pub(super) const fn unsent(&self) -> usize {
        self.unsent
    }

    /// Bytes that wait for the peer to read, written or not yet encoded.
    pub(super) fn waiting(&self) -> usize {
        self.unsent + self.peered().map_or(0, |peered| peered.buckets.size())
    }

    /// Whether the next gossip should be encoded.
    pub(super) const fn wants_gossip(&self) -> bool {
        self.unsent < LOW_WATER
    }

    /// Bytes of a message came, perhaps not the last ones.
    pub(super) fn progress(&mut self, now: Instant, len: usize) {
        self.progress += len;
        if self.progress >= READ_PROGRESS {
            self.message_complete(now);
        }
    }

    /// The next message has time again.
    pub(super) fn message_complete(&mut self, now: Instant) {
        self.progress = 0;
        self.read_deadline = now + READ_TIMEOUT;
    }

    /// Whether there is room for the unicast of another peer.
    pub(super) const fn takes_relayed_unicast(&self, len: usize) -> bool {
        self.unsent.saturating_add(len) <= UNICAST_LIMIT
    }

    /// Whether there is room for a unicast of this peer.
    pub(super) const fn takes_unicast(&self, len: usize) -> bool {
        self.unsent.saturating_add(len) <= UNICAST_LIMIT || self.unsent == 0
    }

    /// Whether too much waits for the peer to go on.
    pub(super) fn backlog(&self) -> Result<(), ConnectionError> {
        if self.unsent > BACKLOG_LIMIT {
            return Err(ConnectionError::Backlog(self.unsent));
        }
        Ok(())
    }

    /// Whether the peer may say so much before it can be listened to.
    pub(super) fn takes_early(&self, len: usize) -> bool {
        self.peered().map_or(0, Peered::unread).saturating_add(len) <= EARLY_LIMIT
    }

    /// What has taken too long by now.
    pub(super) fn expired(&self, now: Instant) -> Option<ConnectionError> {
        if now >= self.read_deadline {
            return Some(match &self.phase {
                Phase::Dialling => {
                    let seconds = DIAL_TIMEOUT.as_secs();
                    ConnectionError::Dial(format!("no answer for {seconds} s"))
                }
                Phase::Handshaking { past_header: false, .. } => {
                    ConnectionError::HandshakeTimeout(HEADER_TIMEOUT)
                }
                Phase::Handshaking { .. } => ConnectionError::HandshakeTimeout(READ_TIMEOUT),
                Phase::Parting(parting) => parting.error.clone(),
                Phase::Peered(peered) if peered.stage == Stage::Preparing => {
                    ConnectionError::Link("not made in time".to_owned())
                }
                Phase::Peered(_) => ConnectionError::ReadTimeout(READ_TIMEOUT),
            });
        }
        self.write_deadline()
            .filter(|deadline| now >= *deadline)
            .map(|_| ConnectionError::WriteStall(WRITE_TIMEOUT))
    }

    /// Whether a heartbeat is due; if so, when the next one is.
    pub(super) fn take_heartbeat(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            Phase::Peered(peered) if peered.is_registered() && now >= peered.heartbeat_at => {
                peered.heartbeat_at = now + HEARTBEAT;
                true
            }
            _ => false,
        }
    }

    /// When to look at this connection next for the sake of time.
    pub(super) fn next_deadline(&self) -> Instant {
        let heartbeat = self.registered().map(|peered| peered.heartbeat_at);
        let deadlines = [Some(self.read_deadline), self.write_deadline(), heartbeat];
        deadlines.into_iter().flatten().min().unwrap_or(self.read_deadline)
    }

    fn write_deadline(&self) -> Option<Instant> {
        (self.unsent > 0).then_some(self.progress_at + WRITE_TIMEOUT)
    }
}

impl Early {
    /// What a message takes besides its bytes.
    const OVERHEAD: usize = size_of::<Bytes>();

    pub(super) fn push(&mut self, message: Bytes) {
        self.bytes += message.len() + Self::OVERHEAD;
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let Some(message) = self.messages.pop_front() else {
            self.messages.shrink_to(0);
            return None;
        };
        self.bytes -= message.len() + Self::OVERHEAD;
        Some(message)
    }
}

impl Peered {
    /// The next message that is to be dealt with.
    ///
    /// # Errors
    /// Nothing that follows makes sense.
    pub(super) fn next_message(&mut self) -> Result<Option<Bytes>, SessionError> {
        match self.early.pop() {
            Some(message) => Ok(Some(message)),
            None => self.session.poll_message(),
        }
    }

    /// Whether [`Self::next_message`] has something to return.
    pub(super) fn has_message(&self) -> bool {
        !self.early.messages.is_empty() || self.session.has_message()
    }

    /// Bytes that came and have not been dealt with.
    pub(super) fn unread(&self) -> usize {
        self.early.bytes + self.session.buffered()
    }

    pub(super) const fn is_registered(&self) -> bool {
        matches!(self.stage, Stage::Registered { .. })
    }

    pub(super) const fn is_established(&self) -> bool {
        matches!(self.stage, Stage::Registered { established: true })
    }
}
