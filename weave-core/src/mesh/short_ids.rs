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
    /// Counts the changes.
    edition: u64,
}

/// Which peer each short id stands for, at one moment. A peer whose id belongs to another one has
/// none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShortIdTable {
    /// Sorted by id.
    by_id: Box<[(ShortId, PeerName)]>,
    /// Sorted by name.
    by_name: Box<[(PeerName, ShortId)]>,
}

impl ShortIdTable {
    /// A table of these. The first owner of an id has it, and the first id of a peer counts.
    pub fn new(owners: impl IntoIterator<Item = (ShortId, PeerName)>) -> Self {
        let mut by_id: Vec<_> = owners.into_iter().collect();
        by_id.sort_by_key(|(id, _)| *id);
        by_id.dedup_by_key(|(id, _)| *id);
        let mut by_name: Vec<_> = by_id.iter().map(|&(id, name)| (name, id)).collect();
        by_name.sort_unstable();
        by_name.dedup_by_key(|(name, _)| *name);
        Self { by_id: by_id.into(), by_name: by_name.into() }
    }

    /// The peer that an id stands for.
    pub fn owner(&self, id: ShortId) -> Option<PeerName> {
        let index = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.by_id.get(index).map(|(_, name)| *name)
    }

    /// The id that stands for a peer.
    pub fn of(&self, peer: PeerName) -> Option<ShortId> {
        let index = self.by_name.binary_search_by_key(&peer, |(name, _)| *name).ok()?;
        self.by_name.get(index).map(|(_, id)| *id)
    }
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

    /// Another number after each change.
    pub(super) const fn edition(&self) -> u64 {
        self.edition
    }

    /// What the ids stand for now.
    pub fn table(&self) -> ShortIdTable {
        let owner = |(id, entry): (&ShortId, &Entry)| Some((*id, *entry.claimants.first()?));
        ShortIdTable::new(self.entries.iter().filter_map(owner))
    }

    pub(super) fn register(&mut self, id: ShortId, peer: PeerName) -> Change {
        self.edition += 1;
        let fresh = !self.entries.contains_key(&id);
        let entry = self.entries.entry(id).or_default();
        entry.claimants.insert(peer);
        let owns = entry.claimants.first() == Some(&peer);
        if owns && !fresh { Change::Invalidation } else { Change::None }
    }

    pub(super) fn unregister(&mut self, id: ShortId, peer: PeerName) -> Change {
        self.edition += 1;
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
    fn a_table_has_owners_alone() {
        let mut ids = ShortIds::default();
        for (number, peer) in [(7, 5), (7, 3), (1, 9), (2, 9), (4, 6)] {
            let _ = ids.register(id(number), name(peer));
        }
        let _ = ids.unregister(id(4), name(6));
        let table = ids.table();
        assert_eq!(table.owner(id(7)), Some(name(3)));
        assert_eq!((table.of(name(3)), table.of(name(5))), (Some(id(7)), None));
        assert_eq!((table.owner(id(2)), table.of(name(9))), (Some(name(9)), Some(id(1))));
        assert_eq!((table.owner(id(4)), table.of(name(6))), (None, None));
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
