//! Two connections that claim to lead to one peer.
//!
//! Without a password anybody can copy a name and an incarnation, and choose the number of a
//! connection last. So no claim takes the place of a connection that works, whatever it says: the
//! holder is asked first.
//!
//! ```text
//!   a new one, while another is registered
//!     another incarnation    a router that was restarted has left the old one behind, a cloned
//!                            machine has not: if the old one says anything, it stays
//!     same incarnation,      loses, as in the original; if the old one has been silent for a
//!     higher number          while, it has to say something
//!     same incarnation,      takes the place of the old one in the original, at both ends by
//!     lower number           themselves. If the old one is registered at its other end, it stays
//!
//!   the old one stays ────────────▶ the new one is refused, and told why
//!   it is silent, or it ends ─────▶ the new one takes its place
//! ```
//!
//! Our own routers answer a probe, and say whether they use the connection on which it came. Two
//! that dial each other at the same time may register one connection each; then neither uses the
//! one that the other has, and the lower number decides, at both ends alike.
//!
//! The original does not know about probes, but it passes on a unicast that is for us, back to
//! us. That it does not use the old one any more it shows by ending it, at once. So it has time to
//! do that, also after an answer. The kernel of a machine whose router ended answers with a reset,
//! so a router that restarts does not wait.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Mesh, TcpSide};
use crate::mesh::connection::{Connection, Stage};
use crate::mesh::error::ConnectionError;
use crate::mesh::gossip::TOPOLOGY;
use crate::mesh::gossip::sender::Reply;
use crate::mesh::name_conflict::{Claimant, NameConflict};
use crate::mesh::notice::{Notice, Refusal, RefusalCause};
use crate::mesh::output::{Event, Output};
use crate::mesh::{ConnectionId, Message, PeerName, Uid, Unicast};
use crate::time::Instant;

/// Time for an answer: the original's takes a tenth of a second and the round trip.
const PATIENCE: Duration = Duration::from_secs(2);
/// A connection that was heard this lately need not be asked. Two routers that dial each other
/// at the same time get their duplicates within it.
const FRESH: Duration = Duration::from_secs(1);
/// Connections that wait for the outcome of one resolution: two machines are common, more are not.
const MAX_CANDIDATES: usize = 4;
/// Name conflicts that are remembered.
const MAX_CONFLICTS: usize = 64;
/// A conflict without another attempt for so long is over; while it lasts, it is reported as often.
pub(super) const CONFLICT_MEMORY: Duration = Duration::from_secs(10 * 60);

/// The connection to a peer has to show that it works.
pub(super) struct DuplicateResolution {
    holder: ConnectionId,
    candidates: Vec<Candidate>,
}

/// A connection that takes the place of the holder unless that stays.
struct Candidate {
    id: ConnectionId,
    claim: Claim,
    /// When it is decided at the latest.
    until: Instant,
    /// The holder has said something since it was asked.
    answered: bool,
}

/// What the holder has to show to stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Claim {
    /// That it works.
    Silence,
    /// That its other end uses it, too.
    LowerNumber,
}

/// Recent name conflicts, by the incarnation that is refused.
#[derive(Default)]
pub(super) struct NameConflicts(BTreeMap<Uid, Known>);

struct Known {
    conflict: NameConflict,
    seen: Instant,
    told: Instant,
}

/// What becomes of a new connection.
pub(super) enum Verdict {
    /// There is no other one any more.
    Registers,
    /// The other one is asked whether it still works.
    Waits,
    /// The other one stays.
    Goes(ConnectionError),
}

#[cfg(any(test, feature = "sim"))]
impl DuplicateResolution {
    /// Whether the holder is registered, and everybody who waits is there.
    pub(super) fn is_about(
        &self,
        peer: PeerName,
        by_peer: &BTreeMap<PeerName, ConnectionId>,
        connections: &BTreeMap<ConnectionId, Connection>,
    ) -> bool {
        let waits = |id: &ConnectionId| {
            let peered = connections.get(id).and_then(Connection::peered);
            peered.is_some_and(|peered| peered.stage == Stage::Contending && peered.peer == peer)
        };
        by_peer.get(&peer) == Some(&self.holder)
            && (1..=MAX_CANDIDATES).contains(&self.candidates.len())
            && self.candidates.iter().all(|candidate| waits(&candidate.id))
    }
}

impl NameConflicts {
    /// Says whether an operator should be told.
    fn note(&mut self, now: Instant, conflict: &NameConflict) -> bool {
        let uid = conflict.refused.uid;
        if self.0.len() >= MAX_CONFLICTS && !self.0.contains_key(&uid) {
            let oldest = self.0.iter().min_by_key(|(_, known)| known.seen).map(|(uid, _)| *uid);
            oldest.and_then(|uid| self.0.remove(&uid));
        }
        let news = match self.0.get(&uid) {
            Some(known) => now.saturating_since(known.told) >= CONFLICT_MEMORY,
            None => true,
        };
        let told = self.0.get(&uid).filter(|_| !news).map_or(now, |known| known.told);
        self.0.insert(uid, Known { conflict: conflict.clone(), seen: now, told });
        news
    }

    pub(super) fn recent(&self, now: Instant) -> impl Iterator<Item = &NameConflict> {
        let recent =
            self.0.values().filter(move |known| now.saturating_since(known.seen) < CONFLICT_MEMORY);
        recent.map(|known| &known.conflict)
    }
}

impl Mesh {
    /// Decides between a new connection and one that is registered to the same peer, if any.
    pub(super) fn settle_duplicate(&mut self, id: ConnectionId, peer: PeerName) -> Verdict {
        let Some(other) = self.by_peer.get(&peer).copied() else { return Verdict::Registers };
        let peered = |id| self.connections.get(&id).and_then(Connection::peered);
        let (Some(new), Some(old)) = (peered(id), peered(other)) else { return Verdict::Registers };
        if new.uid != old.uid {
            return self.challenge(id, other, peer, Claim::Silence);
        }
        match new.connection_uid.cmp(&old.connection_uid) {
            std::cmp::Ordering::Less => self.challenge(id, other, peer, Claim::LowerNumber),
            std::cmp::Ordering::Greater => {
                let heard_at = self.connections.get(&other).map(|old| old.heard_at);
                if heard_at.is_some_and(|at| self.now.saturating_since(at) < FRESH) {
                    // If it is dead all the same, this finds out.
                    self.transmit(other, &Message::Heartbeat);
                    return Verdict::Goes(ConnectionError::Duplicate(peer));
                }
                self.challenge(id, other, peer, Claim::Silence)
            }
            // Numbers of 64 random bits are not equal by chance.
            std::cmp::Ordering::Equal => Verdict::Goes(ConnectionError::Duplicate(peer)),
        }
    }

    /// The holder is asked, and the new connection waits.
    fn challenge(
        &mut self,
        id: ConnectionId,
        holder: ConnectionId,
        peer: PeerName,
        claim: Claim,
    ) -> Verdict {
        let until = self.now + PATIENCE;
        let duplicate = self
            .duplicates
            .entry(peer)
            .or_insert_with(|| DuplicateResolution { holder, candidates: Vec::new() });
        if duplicate.candidates.len() >= MAX_CANDIDATES {
            return Verdict::Goes(ConnectionError::Duplicate(peer));
        }
        duplicate.candidates.push(Candidate { id, claim, until, answered: false });
        if let Some(peered) = self.connections.get_mut(&id).and_then(Connection::peered_mut) {
            peered.stage = Stage::Contending;
        }
        self.probe(holder);
        self.read_early(id);
        self.count_partial(id);
        Verdict::Waits
    }

    /// Makes the peer say something.
    fn probe(&mut self, id: ConnectionId) {
        let Some(peered) = self.connections.get(&id).and_then(Connection::peered) else { return };
        if peered.notices {
            self.transmit_notice(id, &Notice::Probe);
        } else {
            let own = self.config.name;
            let echo = Unicast { channel: TOPOLOGY, source: own, destination: own, data: &[] };
            self.transmit(id, &Message::Unicast(&echo.encode()));
        }
    }

    pub(super) fn transmit_notice(&mut self, id: ConnectionId, notice: &Notice) {
        let payload = notice.encode();
        self.transmit(id, &Message::Unknown { tag: Notice::TAG, payload: &payload });
    }

    /// Tells the peer that this end is there.
    pub(super) fn answer_probe(&mut self, id: ConnectionId) {
        let in_use = self.connections.get(&id).is_some_and(|c| c.registered().is_some());
        self.transmit_notice(id, &Notice::Answer { in_use: Some(in_use) });
    }

    /// A connection that waits for a resolution is not used, but its peer may ask.
    /// All else that comes has to wait as well.
    pub(super) fn read_early(&mut self, id: ConnectionId) {
        loop {
            let peered = self.connections.get_mut(&id).and_then(Connection::peered_mut);
            let Some(peered) = peered.filter(|peered| peered.stage == Stage::Contending) else {
                return;
            };
            match peered.session.poll_message() {
                Ok(None) => return,
                Ok(Some(message)) if peered.notices && is_probe(&message) => {
                    self.owe(id, Reply::InUse);
                }
                Ok(Some(message)) => peered.early.push(message),
                Err(error) => {
                    let error = ConnectionError::Malformed(error.to_string());
                    return self.end(id, error, TcpSide::Open);
                }
            }
        }
    }

    /// A connection said something: if it had to, it stays.
    pub(super) fn heard(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.heard_at = self.now;
        let Some(peer) = connection.registered().map(|peered| peered.peer) else { return };
        let duplicate = self.duplicates.get_mut(&peer).filter(|duplicate| duplicate.holder == id);
        let Some(duplicate) = duplicate else { return };
        let mut lost = Vec::new();
        for candidate in &mut duplicate.candidates {
            candidate.answered = true;
            if candidate.claim == Claim::Silence {
                lost.push(candidate.id);
            }
        }
        lost.into_iter().for_each(|candidate| self.lose(candidate, id, peer));
    }

    /// The other end of a connection says whether it uses it.
    pub(super) fn answered(&mut self, id: ConnectionId, in_use: bool) {
        let registered = self.connections.get(&id).and_then(Connection::registered);
        let Some(peer) = registered.map(|peered| peered.peer) else { return };
        let duplicate = self.duplicates.get_mut(&peer).filter(|duplicate| duplicate.holder == id);
        let Some(duplicate) = duplicate else { return };
        let lower = duplicate.candidates.iter().filter(|c| c.claim == Claim::LowerNumber);
        let lower: Vec<ConnectionId> = lower.map(|candidate| candidate.id).collect();
        if in_use {
            lower.into_iter().for_each(|candidate| self.lose(candidate, id, peer));
        } else if !lower.is_empty() {
            // Its other end has another one, and a lower number decides there, too.
            duplicate.candidates.sort_by_key(|c| c.claim != Claim::LowerNumber);
            self.end(id, ConnectionError::Replaced(peer), TcpSide::Open);
        }
    }

    /// The holder stays.
    fn lose(&mut self, candidate: ConnectionId, holder: ConnectionId, peer: PeerName) {
        if let Some(duplicate) = self.duplicates.get_mut(&peer) {
            duplicate.candidates.retain(|other| other.id != candidate);
            if duplicate.candidates.is_empty() {
                self.duplicates.remove(&peer);
            }
        }
        if let Some(error) = self.reason_to_refuse(candidate, holder) {
            self.refuse(candidate, error);
        }
    }

    fn reason_to_refuse(
        &self,
        candidate: ConnectionId,
        holder: ConnectionId,
    ) -> Option<ConnectionError> {
        let claimant = |id| {
            let connection: &Connection = self.connections.get(&id)?;
            let peered = connection.peered()?;
            let (nickname, uid) = (peered.nickname.clone(), peered.uid);
            let address = Some(connection.remote);
            Some((peered.peer, Claimant { nickname, uid, address }))
        };
        let (name, refused) = claimant(candidate)?;
        let (_, kept) = claimant(holder)?;
        Some(if refused.uid == kept.uid {
            ConnectionError::Duplicate(name)
        } else {
            ConnectionError::NameTaken(Box::new(NameConflict { name, kept, refused }))
        })
    }

    /// Decides between duplicates whose time is over: who has answered stays.
    pub(super) fn expire_duplicates(&mut self) {
        let now = self.now;
        let due = |(peer, duplicate): (&PeerName, &DuplicateResolution)| {
            let candidate = duplicate.candidates.iter().find(|c| c.until <= now)?;
            Some((*peer, duplicate.holder, candidate.id, candidate.answered))
        };
        while let Some((peer, holder, candidate, answered)) = self.duplicates.iter().find_map(due) {
            if answered {
                self.lose(candidate, holder, peer);
            } else {
                self.end(holder, ConnectionError::Superseded(peer), TcpSide::Open);
            }
        }
    }

    pub(super) fn next_duplicate_deadline(&self) -> Option<Instant> {
        let candidates = self.duplicates.values().flat_map(|duplicate| &duplicate.candidates);
        candidates.map(|candidate| candidate.until).min()
    }

    /// A connection ended that may have been a duplicate.
    pub(super) fn leave_duplicate(&mut self, id: ConnectionId, peer: PeerName) {
        let Some(duplicate) = self.duplicates.get_mut(&peer) else { return };
        duplicate.candidates.retain(|candidate| candidate.id != id);
        if duplicate.holder == id || duplicate.candidates.is_empty() {
            let waiting = self.duplicates.remove(&peer).map(|duplicate| duplicate.candidates);
            self.unopposed.extend(waiting.into_iter().flatten().map(|candidate| candidate.id));
        }
    }

    /// The connection it waited for is gone.
    pub(super) fn register_unopposed(&mut self, id: ConnectionId) {
        let peered = self.connections.get_mut(&id).and_then(Connection::peered_mut);
        if let Some(peered) = peered.filter(|peered| peered.stage == Stage::Contending) {
            peered.stage = Stage::Preparing;
            self.register(id);
        }
    }

    /// Ends a connection that got as far as the handshake but is not wanted; where the peer
    /// understands it, after telling it why.
    pub(super) fn refuse(&mut self, id: ConnectionId, error: ConnectionError) {
        let cause = match &error {
            ConnectionError::NameTaken(conflict) => {
                self.report_name_conflict(conflict);
                RefusalCause::NameTaken
            }
            ConnectionError::Limit(_) | ConnectionError::LimitOfSource(_) => RefusalCause::Limit,
            _ => return self.end(id, error, TcpSide::Open),
        };
        let Some(peered) = self.connections.get(&id).and_then(Connection::peered) else { return };
        if !peered.notices {
            return self.end(id, error, TcpSide::Open);
        }
        let (peer, nickname) = (peered.peer, peered.nickname.clone());
        self.transmit_notice(id, &Notice::Refusal(Refusal { cause, text: error.to_string() }));
        self.outputs.push_back(Output::Stop { id });
        self.release_unregistered(peer);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.part(self.now, error, Some((peer, nickname)));
            self.deadlines.arm(id, connection);
            self.count_partial(id);
            self.count_held(id);
        }
    }

    pub(super) fn report_name_conflict(&mut self, conflict: &NameConflict) {
        if self.name_conflicts.note(self.now, conflict) {
            self.event(Event::NameCollision(Box::new(conflict.clone())));
        }
    }
}

fn is_probe(message: &Bytes) -> bool {
    matches!(
        Message::decode(message),
        Some(Message::Unknown { tag: Notice::TAG, payload })
            if Notice::decode(payload) == Some(Notice::Probe)
    )
}
