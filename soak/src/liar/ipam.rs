//! Lies about who owns which addresses.

use weave_core::wire::gob::AtMost;
use weave_ipam::Range;
use weave_ipam::message::{State, Unicast};
use weave_ipam::ring::{Entry, RawRing};

use super::{Mood, Tongue};

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

    /// Any member may take over the addresses of a peer that is out of reach, as `rmpeer` does on a
    /// user's word, so no lie about rings is told while peers come and go.
    fn change_state(&mut self, state: &mut State) {
        if self.mood == Mood::Forging {
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
