//! Two connections that claim to lead to one peer.
//!
//! ```text
//!   a new one, while another is registered
//!     same incarnation    the lower number stays, as in the original; but if the new one would
//!                         have to go and the old one has been silent, the old one has to answer
//!     another incarnation the old one has to answer: a router that was restarted has left it
//!                         behind, a cloned machine has not
//!
//!   the old one answers in time ──▶ the new one is refused, and told why
//!   it does not, or ends ─────────▶ the new one takes its place
//! ```
//!
//! Any bytes are an answer. What evokes some depends on the peer: our own routers answer a probe;
//! the original passes on a unicast that is for us, back to us. The kernel of a machine whose
//! router ended answers with a reset, so a router that restarts does not wait.

use std::collections::BTreeMap;
use std::time::Duration;

use super::messages::TOPOLOGY;
use super::{Mesh, TcpSide};
use crate::mesh::clash::{Claimant, NameClash};
use crate::mesh::connection::{Connection, Stage};
use crate::mesh::error::ConnectionError;
use crate::mesh::notice::{Notice, Refusal, RefusalCause};
use crate::mesh::output::{Event, Output};
use crate::mesh::{ConnectionId, Message, PeerName, Uid, Unicast};
use crate::time::Instant;

/// Time for an answer: the original's takes a tenth of a second and the round trip.
const PATIENCE: Duration = Duration::from_secs(2);
/// A connection that was heard this lately need not be asked. Two routers that dial each other
/// at the same time get their duplicates within it.
const FRESH: Duration = Duration::from_secs(1);
/// Incarnations that wait for the outcome of one contest: two machines are common, more are not.
const MAX_CHALLENGERS: usize = 4;
/// Clashes that are remembered.
const MAX_CLASHES: usize = 64;
/// After so long without another attempt a clash is over; while it lasts it is told as often.
pub(super) const CLASH_MEMORY: Duration = Duration::from_secs(10 * 60);

/// The connection to a peer has to show that it works.
pub(super) struct Contest {
    holder: ConnectionId,
    challengers: Vec<ConnectionId>,
    until: Instant,
}

/// The clashes of late, by the incarnation that is refused.
#[derive(Default)]
pub(super) struct Clashes(BTreeMap<Uid, Known>);

struct Known {
    clash: NameClash,
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
impl Contest {
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
            && !self.challengers.is_empty()
            && self.challengers.iter().all(waits)
    }
}

impl Clashes {
    /// Says whether an operator should be told.
    fn note(&mut self, now: Instant, clash: &NameClash) -> bool {
        let uid = clash.refused.uid;
        if self.0.len() >= MAX_CLASHES && !self.0.contains_key(&uid) {
            let oldest = self.0.iter().min_by_key(|(_, known)| known.seen).map(|(uid, _)| *uid);
            oldest.and_then(|uid| self.0.remove(&uid));
        }
        let news = match self.0.get(&uid) {
            Some(known) => now.saturating_since(known.told) >= CLASH_MEMORY,
            None => true,
        };
        let told = self.0.get(&uid).filter(|_| !news).map_or(now, |known| known.told);
        self.0.insert(uid, Known { clash: clash.clone(), seen: now, told });
        news
    }

    pub(super) fn recent(&self, now: Instant) -> impl Iterator<Item = &NameClash> {
        let recent =
            self.0.values().filter(move |known| now.saturating_since(known.seen) < CLASH_MEMORY);
        recent.map(|known| &known.clash)
    }
}

impl Mesh {
    /// Decides between a new connection and one that is registered to the same peer, if any.
    pub(super) fn settle_duplicate(&mut self, id: ConnectionId, peer: PeerName) -> Verdict {
        let Some(other) = self.by_peer.get(&peer).copied() else { return Verdict::Registers };
        let peered = |id| self.connections.get(&id).and_then(Connection::peered);
        let (Some(new), Some(old)) = (peered(id), peered(other)) else { return Verdict::Registers };
        if new.uid != old.uid {
            return self.contest(id, other, peer);
        }
        match new.connection_uid.cmp(&old.connection_uid) {
            std::cmp::Ordering::Less => {
                self.end(other, ConnectionError::Replaced(peer), TcpSide::Open);
                Verdict::Registers
            }
            std::cmp::Ordering::Greater => {
                let heard_at = self.connections.get(&other).map(|old| old.heard_at);
                if heard_at.is_some_and(|at| self.now.saturating_since(at) < FRESH) {
                    // If it is dead all the same, this finds out.
                    self.transmit(other, &Message::Heartbeat);
                    return Verdict::Goes(ConnectionError::Duplicate(peer));
                }
                self.contest(id, other, peer)
            }
            std::cmp::Ordering::Equal => {
                self.end(other, ConnectionError::Duplicate(peer), TcpSide::Open);
                Verdict::Goes(ConnectionError::Duplicate(peer))
            }
        }
    }

    fn contest(&mut self, id: ConnectionId, holder: ConnectionId, peer: PeerName) -> Verdict {
        // Of several from one incarnation only the lowest takes part.
        if let Some(rival) = self.rival(id, peer) {
            let uid = |id| self.connections.get(&id)?.peered().map(|peered| peered.connection_uid);
            if uid(id) >= uid(rival) {
                return Verdict::Goes(ConnectionError::Duplicate(peer));
            }
            self.challenge(id, holder, peer);
            self.end(rival, ConnectionError::Replaced(peer), TcpSide::Open);
            return Verdict::Waits;
        }
        let full = |contest: &Contest| contest.challengers.len() >= MAX_CHALLENGERS;
        if self.contests.get(&peer).is_some_and(full) {
            return Verdict::Goes(ConnectionError::Duplicate(peer));
        }
        if self.challenge(id, holder, peer) {
            self.probe(holder);
        }
        Verdict::Waits
    }

    /// Another connection of the same incarnation that waits already.
    fn rival(&self, id: ConnectionId, peer: PeerName) -> Option<ConnectionId> {
        let uid = |id: &ConnectionId| self.connections.get(id)?.peered().map(|peered| peered.uid);
        let contest = self.contests.get(&peer)?;
        contest.challengers.iter().copied().find(|challenger| uid(challenger) == uid(&id))
    }

    /// Says whether the contest is a new one.
    fn challenge(&mut self, id: ConnectionId, holder: ConnectionId, peer: PeerName) -> bool {
        let until = self.now + PATIENCE;
        let new = !self.contests.contains_key(&peer);
        let contest = self.contests.entry(peer).or_insert_with(|| Contest {
            holder,
            challengers: Vec::new(),
            until,
        });
        contest.challengers.push(id);
        if let Some(peered) = self.connections.get_mut(&id).and_then(Connection::peered_mut) {
            peered.stage = Stage::Contending;
        }
        new
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

    /// A connection said something: if it had to, it stays.
    pub(super) fn heard(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.heard_at = self.now;
        let Some(peer) = connection.registered().map(|peered| peered.peer) else { return };
        if self.contests.get(&peer).is_none_or(|contest| contest.holder != id) {
            return;
        }
        let Some(contest) = self.contests.remove(&peer) else { return };
        for challenger in contest.challengers {
            if let Some(error) = self.reason_to_refuse(challenger, id) {
                self.refuse(challenger, error);
            }
        }
    }

    fn reason_to_refuse(
        &self,
        challenger: ConnectionId,
        holder: ConnectionId,
    ) -> Option<ConnectionError> {
        let claimant = |id| {
            let connection: &Connection = self.connections.get(&id)?;
            let peered = connection.peered()?;
            let (nickname, uid) = (peered.nickname.clone(), peered.uid);
            let address = Some(connection.remote);
            Some((peered.peer, Claimant { nickname, uid, address }))
        };
        let (name, refused) = claimant(challenger)?;
        let (_, kept) = claimant(holder)?;
        Some(if refused.uid == kept.uid {
            ConnectionError::Duplicate(name)
        } else {
            ConnectionError::NameTaken(Box::new(NameClash { name, kept, refused }))
        })
    }

    /// Contests whose holder has not answered in time are lost.
    pub(super) fn expire_contests(&mut self) {
        let now = self.now;
        let lost: Vec<_> = self
            .contests
            .iter()
            .filter(|(_, contest)| contest.until <= now)
            .map(|(peer, contest)| (*peer, contest.holder))
            .collect();
        for (peer, holder) in lost {
            self.end(holder, ConnectionError::Superseded(peer), TcpSide::Open);
        }
    }

    pub(super) fn next_contest_deadline(&self) -> Option<Instant> {
        self.contests.values().map(|contest| contest.until).min()
    }

    /// A connection ended that may have been part of a contest.
    pub(super) fn leave_contest(&mut self, id: ConnectionId, peer: PeerName) {
        let Some(contest) = self.contests.get_mut(&peer) else { return };
        contest.challengers.retain(|challenger| *challenger != id);
        if contest.holder == id || contest.challengers.is_empty() {
            let contest = self.contests.remove(&peer);
            self.unopposed.extend(contest.into_iter().flat_map(|contest| contest.challengers));
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
            ConnectionError::NameTaken(clash) => {
                self.tell_clash(clash);
                RefusalCause::NameTaken
            }
            ConnectionError::Limit(_) => RefusalCause::Limit,
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
        }
    }

    pub(super) fn tell_clash(&mut self, clash: &NameClash) {
        if self.clashes.note(self.now, clash) {
            self.event(Event::NameCollision(Box::new(clash.clone())));
        }
    }
}
