//! What other peers say.

use weave_core::mesh::PeerName;
use weave_core::time::Instant;

use super::{Allocator, Event, Refusal, Send};
use crate::message::{State, Unicast};
use crate::ring::{RawRing, RingError};
use crate::{Range, Ring};

/// Nicknames are cut to this many bytes, like those of the topology.
const MAX_NICKNAME: usize = 256;

impl Allocator {
    /// A message from a peer to this one.
    ///
    /// # Errors
    /// If it does not fit what is known here. Nothing was changed then.
    pub fn handle_unicast(
        &mut self,
        now: Instant,
        source: PeerName,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        self.advance(now);
        let result = match Unicast::decode(payload) {
            Ok(Unicast::SpaceRequest(range)) => {
                self.space_requested(source, range);
                Ok(())
            }
            Ok(Unicast::Denied(range)) => {
                self.space_denied(source, range);
                Ok(())
            }
            Ok(Unicast::RingUpdate(state)) => self.update(Some(source), state),
            // The mesh passed it on in good faith.
            Err(error) => {
                self.events.push(Event::Ignored { from: source, error });
                Ok(())
            }
        };
        self.finish();
        result
    }

    /// What a peer told everybody, or, with no source, a neighbour passed on.
    ///
    /// # Errors
    /// If it does not fit what is known here. Nothing was changed then.
    pub fn handle_gossip(
        &mut self,
        now: Instant,
        source: Option<PeerName>,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        self.advance(now);
        let result = State::decode(payload)
            .map_err(Refusal::from)
            .and_then(|state| self.update(source, state));
        self.finish();
        result
    }

    fn update(&mut self, source: Option<PeerName>, state: State) -> Result<(), Refusal> {
        for (peer, nickname) in state.nicknames.map(|names| names.0).unwrap_or_default() {
            if peer != self.config.name {
                self.nicknames.insert(peer, clean(nickname));
            }
        }
        if let Some(ring) = state.ring {
            self.merge(source, ring)
        } else if !self.ring.is_empty() {
            // Whoever has no ring gets ours.
            self.sends.extend(source.map(Send::RingUpdate));
            Ok(())
        } else if let Some(claims) = state.claims {
            let Some(consensus) = &mut self.consensus else { return Ok(()) };
            if consensus.update(&claims.0)? && consensus.think() {
                self.sends.push(Send::Broadcast);
            }
            self.conclude();
            Ok(())
        } else {
            // Whoever has neither a ring nor a vote would like to have a ring.
            if self.consensus.is_some() && source.is_some() {
                self.establish_ring();
            }
            Ok(())
        }
    }

    fn merge(&mut self, source: Option<PeerName>, theirs: RawRing) -> Result<(), Refusal> {
        let whole = Ring::try_from(theirs.clone())?;
        let teller = source.unwrap_or(whole.peer());
        self.settling.heard(teller);
        self.settling.heard(whole.peer());
        if self.adopts(&whole) {
            self.events.push(Event::Adopted(teller));
        }
        if let Err(error) = self.ring.fits(&whole) {
            self.foreign(teller, error);
            return Ok(());
        }
        // What is left out makes no entry larger than it was.
        let theirs = Ring::try_from(self.left_out(source, theirs))?;
        let merged = match self.ring.merge(&theirs, |range| self.space.is_free(range)) {
            Ok(merged) => merged,
            Err(error) => {
                self.foreign(teller, error);
                return Ok(());
            }
        };
        // Whatever the merge did not look at: nothing that is in use here is ever given up.
        let owned = merged.ring.owned_by(self.config.name);
        let mut lost = self.space.used().clone();
        owned.iter().for_each(|range| lost.remove(*range));
        if let Some(range) = lost.iter().next() {
            let peer = merged.ring.owner(range.start).unwrap_or_default();
            self.foreign(teller, RingError::EntryInMyRange { token: range.start, peer });
            return Ok(());
        }
        if merged.ring != self.ring {
            self.ring = merged.ring;
            // Seeds without a division are not worth keeping.
            self.ring_changed = !self.ring.is_empty();
            self.space.set_ranges(&owned);
        }
        self.defend(merged.contested);
        self.win(&merged.ties);
        if !merged.news && self.settle() {
            self.try_pending();
        }
        if merged.news {
            self.events.extend(merged.repairs.into_iter().map(Event::Repaired));
            self.prune_nicknames();
            self.ring_updated();
        }
        Ok(())
    }

    fn prune_nicknames(&mut self) {
        let owners: std::collections::BTreeSet<PeerName> =
            self.ring.entries().iter().map(|entry| entry.peer).collect();
        let (own, reachable) = (self.config.name, &self.reachable);
        self.nicknames
            .retain(|peer, _| *peer == own || owners.contains(peer) || reachable.contains(peer));
    }

    /// Gives a peer some of what it asks for.
    fn space_requested(&mut self, from: PeerName, range: Range) {
        if self.ring.is_empty() || self.leaving {
            return;
        }
        if range.size() == 1 {
            self.make_way(range.start);
        } else if !self.settling.is_settled() {
            // It asks again; that there is nothing would be wrong, and end what it claims.
            return self.sends.push(Send::RingUpdate(from));
        }
        let is_ours = !range.is_empty() && range.overlaps(self.ring.range());
        let donated = if from == self.config.name || !is_ours {
            self.events.push(Event::BadRequest { from, range });
            None
        } else if self.space.free_within(usable(range)) == 0 {
            None
        } else {
            // Whoever wants exactly this one has it, or chose it.
            let frozen = if range.size() == 1 { self.taken_over() } else { self.frozen() };
            self.space.donate(range, &frozen)
        };
        match donated {
            Some(block) => {
                self.ring.grant(block, from);
                self.ring_changed = true;
                self.sends.push(Send::Broadcast);
            }
            None => self.sends.push(Send::Denied(from, range)),
        }
        self.sends.push(Send::RingUpdate(from));
    }
}

/// A subnet without its first and last address, which no host gets. Peers that both wait for an
/// address would hand those two back and forth for ever.
const fn usable(range: Range) -> Range {
    if range.size() < 4 { range } else { Range::new(range.start + 1, range.end - 1) }
}

/// It is shown to users: on one line, and not a long one.
fn clean(mut nickname: String) -> String {
    if nickname.len() > MAX_NICKNAME {
        let end = (0..=MAX_NICKNAME).rev().find(|end| nickname.is_char_boundary(*end));
        nickname.truncate(end.unwrap_or(0));
    }
    nickname.retain(|c| !c.is_control());
    nickname
}
