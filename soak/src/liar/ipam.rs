//! Lies about who owns which addresses.

use weave_core::wire::gob::AtMost;
use weave_ipam::Range;
use weave_ipam::consensus::{AcceptedValue, Claims, NodeClaims, NodeId, ProposalId};
use weave_ipam::message::{State, Unicast};
use weave_ipam::ring::{Entry, RawRing};

use super::Tongue;

/// The addresses that all share: see [`crate::ipam`].
const START: u32 = 0x0a20_0000;
const SIZE: u32 = 64;

impl Tongue {
    /// A state with a change in one of its fields.
    pub(super) fn mutate_state(&mut self, data: &[u8]) -> Vec<u8> {
        let Ok(mut state) = State::decode(data) else { return data.to_vec() };
        self.change_state(&mut state);
        state.encode()
    }

    /// Of a peer that is gone any member may take over the addresses, as `rmpeer` does on a user's
    /// word. On the wire that is an entry of the ring like any other, so it cannot be told from a
    /// lie: no ring is lied about while somebody is away.
    fn change_state(&mut self, state: &mut State) {
        if self.surroundings.somebody_is_away {
            return;
        }
        match self.below(8) {
            0 => state.ring = None,
            1 => state.claims = None,
            2 => {
                let names = (0..self.below(4)).map(|_| (self.anybody(), "nick\nname".to_owned()));
                state.nicknames = Some(AtMost(names.collect()));
            }
            _ => {
                if let Some(ring) = &mut state.ring {
                    self.change_ring(ring);
                }
            }
        }
    }

    fn change_ring(&mut self, ring: &mut RawRing) {
        let at = self.below(ring.entries.0.len());
        let owner = self.anybody();
        let raise = if self.one_in(4) { 1_000_000 } else { 1 };
        match self.below(9) {
            0 => ring.start = ring.start.wrapping_add(8),
            1 => ring.end = ring.end.wrapping_sub(8),
            2 => ring.peer = owner,
            3 => ring.seeds.0.push(owner),
            4 => ring.entries.0.truncate(at),
            5 => {
                let token = START + u32::try_from(self.below(SIZE as usize)).unwrap_or(0);
                let entry = Entry { token, peer: owner, version: raise, free: 1 };
                let place = ring.entries.0.partition_point(|entry| entry.token < token);
                ring.entries.0.insert(place, entry);
            }
            _ => {
                if let Some(entry) = ring.entries.0.get_mut(at) {
                    entry.version = entry.version.saturating_add(raise);
                    match self.below(3) {
                        0 => entry.free = 0,
                        1 => entry.free = u32::MAX,
                        _ => entry.peer = owner,
                    }
                }
            }
        }
    }

    /// What is known of the ring, changed.
    pub(super) fn any_state(&mut self) -> Vec<u8> {
        let mut state = self.ring.clone().unwrap_or_default();
        for _ in 0..=self.below(3) {
            self.change_state(&mut state);
        }
        state.encode()
    }

    /// Claims addresses of an honest peer; later it gives them to another one, who is to give them
    /// out.
    pub(super) fn usurp(&mut self) -> Vec<Vec<u8>> {
        let Some(mut state) = self.ring.clone().filter(|_| !self.surroundings.somebody_is_away)
        else {
            return Vec::new();
        };
        let Some(ring) = &mut state.ring else { return Vec::new() };
        let honest = self.honest.clone();
        let gives = !self.usurped.is_empty() && self.one_in(2);
        if gives {
            let Some(to) = self.pick(&honest).copied() else { return Vec::new() };
            let step = 1 + u32::try_from(self.below(3)).unwrap_or(0);
            let usurped = self.usurped.clone();
            for entry in usurped {
                put(ring, Entry { peer: to, version: entry.version + step, ..entry });
            }
            self.note(format!("gives what it claimed to {to}"));
            let message = self.tell_state_to(to, &state.encode());
            return vec![message; 1 + self.below(2)];
        }
        let at = self.below(ring.entries.0.len());
        let Some(known) = ring.entries.0.get(at).copied() else { return Vec::new() };
        // All of a range, or what is behind an address in the middle of it.
        let offset = if self.one_in(2) { 0 } else { u32::try_from(self.below(8)).unwrap_or(0) };
        let token = (known.token + offset).min(START + SIZE - 1);
        let version = known.version.saturating_add(1 + u32::try_from(self.below(3)).unwrap_or(0));
        let owner = if self.one_in(4) { self.invented() } else { self.own };
        let entry = Entry { token, peer: owner, version, free: 1 };
        put(ring, entry);
        if self.usurped.len() > 8 {
            self.usurped.remove(0);
        }
        self.usurped.push(entry);
        let data = state.encode();
        (0..3).map(|_| self.tell_state(&data)).collect()
    }

    /// A state without a ring, in which nodes voted for anything.
    pub(super) fn any_votes(&mut self) -> Vec<u8> {
        let mut claims = Claims::new();
        for _ in 0..=self.below(4) {
            let node = NodeId { name: self.anybody(), uid: self.any_uid() };
            let promise = self.any_proposal();
            let accepted = self.any_proposal();
            let value = (0..self.below(4)).map(|_| self.anybody()).collect();
            let accepted_value = AcceptedValue { value: AtMost(value), origin: accepted };
            claims.insert(node, NodeClaims { promise, accepted, accepted_value });
        }
        State { claims: Some(AtMost(claims)), ..State::default() }.encode()
    }

    fn any_proposal(&mut self) -> ProposalId {
        let round = if self.one_in(20) { self.random.number() } else { self.random.below(9) };
        ProposalId { round, proposer: NodeId { name: self.anybody(), uid: self.any_uid() } }
    }

    fn any_uid(&mut self) -> u64 {
        let known: Vec<u64> = self.honest_uids.values().map(|uid| uid.0).collect();
        self.pick(&known).copied().unwrap_or(1)
    }

    /// A message to one allocator, with a change.
    pub(super) fn mutate_allocation(&mut self, data: &[u8]) -> Vec<u8> {
        match Unicast::decode(data) {
            Ok(Unicast::RingUpdate(mut state)) => {
                self.change_state(&mut state);
                Unicast::RingUpdate(state).encode()
            }
            _ => self.any_allocation(),
        }
    }

    /// Any message to one allocator.
    pub(super) fn any_allocation(&mut self) -> Vec<u8> {
        let start = START + u32::try_from(self.below(SIZE as usize)).unwrap_or(0);
        let end = START + u32::try_from(self.below(SIZE as usize + 1)).unwrap_or(0);
        let range = if self.one_in(3) {
            Range::new(START, START + SIZE)
        } else {
            Range::new(start.min(end), start.max(end))
        };
        match self.below(3) {
            0 => Unicast::SpaceRequest(range).encode(),
            1 => Unicast::Denied(range).encode(),
            _ => [&[1], &self.any_state()[..]].concat(),
        }
    }
}

/// Puts an entry in its place.
fn put(ring: &mut RawRing, entry: Entry) {
    let place = ring.entries.0.partition_point(|other| other.token < entry.token);
    match ring.entries.0.get_mut(place).filter(|other| other.token == entry.token) {
        Some(other) => *other = entry,
        None => ring.entries.0.insert(place, entry),
    }
    // What is free is mostly not more than there is.
    ring.entries.0.iter_mut().for_each(|entry| entry.free = entry.free.min(1));
}
