//! Who owns which of the 4096 short ids (spec mesh.md, section 13).
//!
//! Peers choose their short id at random, so two may choose the same. Then the one with the lower
//! name has it; the other one notices and chooses again. Meanwhile frames for both go to the
//! owner.

use std::collections::{BTreeMap, BTreeSet};

use super::{PeerName, Random, ShortId};

/// The index from short ids to peers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShortIds {
    /// Those that were ever used: one that was, and gets a new owner, may still be in the flow
    /// tables of the fast datapath.
    entries: BTreeMap<ShortId, Entry>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Entry {
    /// The owner, and after it those who claim the id as well. Ordered: the lowest name owns it.
    claimants: BTreeSet<PeerName>,
}

/// What a change of the index means to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Change {
    /// Nothing: who looks an id up gets the same answer as before, or one where none was.
    None,
    /// An id stands for another peer than it once did: forget what was derived from it.
    Invalidation,
}

impl ShortIds {
    /// The peer that an id stands for.
    pub fn owner(&self, id: ShortId) -> Option<PeerName> {
        self.entries.get(&id)?.claimants.first().copied()
    }

    pub(super) fn register(&mut self, id: ShortId, peer: PeerName) -> Change {
        let fresh = !self.entries.contains_key(&id);
        let entry = self.entries.entry(id).or_default();
        entry.claimants.insert(peer);
        let owns = entry.claimants.first() == Some(&peer);
        if owns && !fresh { Change::Invalidation } else { Change::None }
    }

    pub(super) fn unregister(&mut self, id: ShortId, peer: PeerName) -> Change {
        let Some(entry) = self.entries.get_mut(&id) else { return Change::None };
        let owned = entry.claimants.first() == Some(&peer);
        entry.claimants.remove(&peer);
        if owned && !entry.claimants.is_empty() { Change::Invalidation } else { Change::None }
    }

    /// Draws one of the ids that nobody has.
    pub(super) fn draw_free(&self, random: &mut Random) -> Option<ShortId> {
        let free: Vec<ShortId> = (0..ShortId::COUNT)
            .filter_map(ShortId::new)
            .filter(|id| self.owner(*id).is_none())
            .collect();
        let at = usize::try_from(random.below(free.len() as u64)).ok()?;
        free.get(at).copied()
    }
}

/// For tests: what the index holds.
#[cfg(test)]
impl ShortIds {
    /// The peers that claim an id which belongs to another one.
    pub(super) fn others(&self, id: ShortId) -> impl Iterator<Item = PeerName> + '_ {
        self.entries.get(&id).into_iter().flat_map(|entry| entry.claimants.iter().skip(1).copied())
    }

    /// Ids that have an owner, ascending.
    pub(super) fn owned(&self) -> impl Iterator<Item = ShortId> + '_ {
        let owned = self.entries.iter().filter(|(_, entry)| !entry.claimants.is_empty());
        owned.map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> PeerName {
        PeerName::from_u64(number).unwrap()
    }

    fn id(number: u16) -> ShortId {
        ShortId::new(number).unwrap()
    }

    #[test]
    fn the_lowest_name_owns_an_id() {
        let mut ids = ShortIds::default();
        assert_eq!(ids.register(id(7), name(5)), Change::None, "never used before");
        assert_eq!(ids.register(id(7), name(9)), Change::None, "not the owner");
        assert_eq!(ids.register(id(7), name(3)), Change::Invalidation, "a new owner");
        assert_eq!(ids.owner(id(7)), Some(name(3)));
        assert_eq!(ids.others(id(7)).collect::<Vec<_>>(), [name(5), name(9)]);

        assert_eq!(ids.unregister(id(7), name(9)), Change::None);
        assert_eq!(ids.unregister(id(7), name(3)), Change::Invalidation, "5 takes over");
        assert_eq!(ids.owner(id(7)), Some(name(5)));
        assert_eq!(ids.unregister(id(7), name(5)), Change::None, "nobody takes over");
        assert_eq!(ids.owner(id(7)), None);
        assert_eq!(ids.register(id(7), name(8)), Change::Invalidation, "used before");
    }

    #[test]
    fn free_ids_are_drawn_until_there_is_none() {
        let mut ids = ShortIds::default();
        for taken in 100..ShortId::COUNT {
            let _ = ids.register(id(taken), name(1));
        }
        let mut random = Random::new([1; 32]);
        let mut drawn = BTreeSet::new();
        while let Some(free) = ids.draw_free(&mut random) {
            assert!(drawn.insert(free));
            let _ = ids.register(free, name(1));
        }
        assert_eq!(drawn.len(), 100);
    }
}
