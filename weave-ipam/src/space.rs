//! The addresses that this peer may give out (spec ipam.md, section 4).

use std::collections::BTreeMap;
use std::fmt;

use crate::Range;

/// A set of addresses, kept as the ranges it consists of.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct AddressSet {
    /// Start and end of each; none touches another.
    ranges: BTreeMap<u32, u32>,
}

impl AddressSet {
    /// Adds what is not in it.
    pub fn insert(&mut self, range: Range) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        // Those that it overlaps or touches become one with it.
        while let Some((&before, &its_end)) = self.ranges.range(..=end).next_back() {
            if its_end < start {
                break;
            }
            self.ranges.remove(&before);
            start = start.min(before);
            end = end.max(its_end);
        }
        self.ranges.insert(start, end);
    }

    /// Takes away what is in it.
    pub fn remove(&mut self, range: Range) {
        if range.is_empty() {
            return;
        }
        while let Some((&start, &end)) = self.ranges.range(..range.end).next_back() {
            if end <= range.start {
                break;
            }
            self.ranges.remove(&start);
            if start < range.start {
                self.ranges.insert(start, range.start);
            }
            if range.end < end {
                self.ranges.insert(range.end, end);
            }
        }
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: u32) -> bool {
        self.ranges.range(..=address).next_back().is_some_and(|(_, end)| address < *end)
    }

    /// Its ranges within this one, ascending.
    pub fn within(&self, range: Range) -> impl Iterator<Item = Range> + '_ {
        let before = self.ranges.range(..range.start).next_back();
        let inside =
            if range.is_empty() { None } else { Some(self.ranges.range(range.start..range.end)) };
        before
            .into_iter()
            .chain(inside.into_iter().flatten())
            .map(move |(start, end)| Range::new(*start, *end).intersection(range))
            .filter(|part| !part.is_empty())
    }

    /// Its ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges.iter().map(|(start, end)| Range::new(*start, *end))
    }

    /// How many addresses it has.
    pub fn len(&self) -> u32 {
        self.iter().map(Range::size).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl fmt::Debug for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The addresses of the ranges that the ring gives to this peer: each is free or in use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Space {
    free: AddressSet,
    used: AddressSet,
}

/// Why an address is not taken or given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpaceError {
    /// It is in use, or not in the space at all.
    #[error("address is not free to claim")]
    NotFree,
    /// It is not in the space.
    #[error("address is not ours")]
    NotOurs,
    /// Nobody uses it.
    #[error("address is already free")]
    AlreadyFree,
}

impl Space {
    /// Takes the lowest free address within the range that is not one of these.
    pub fn allocate(&mut self, range: Range, except: &AddressSet) -> Option<u32> {
        let address = self.free_but(range, except).iter().next()?.start;
        self.take(address);
        Some(address)
    }

    /// Takes this address.
    ///
    /// # Errors
    /// If it is not free.
    pub fn claim(&mut self, address: u32) -> Result<(), SpaceError> {
        if !self.free.contains(address) {
            return Err(SpaceError::NotFree);
        }
        self.take(address);
        Ok(())
    }

    fn take(&mut self, address: u32) {
        self.free.remove(Range::one(address));
        self.used.insert(Range::one(address));
    }

    /// Gives an address back.
    ///
    /// # Errors
    /// If it is not in use.
    pub fn release(&mut self, address: u32) -> Result<(), SpaceError> {
        if self.free.contains(address) {
            return Err(SpaceError::AlreadyFree);
        }
        if !self.used.contains(address) {
            return Err(SpaceError::NotOurs);
        }
        self.used.remove(Range::one(address));
        self.free.insert(Range::one(address));
        Ok(())
    }

    fn free_but(&self, range: Range, except: &AddressSet) -> AddressSet {
        let mut free = AddressSet::default();
        self.free.within(range).for_each(|part| free.insert(part));
        except.iter().for_each(|part| free.remove(part));
        free
    }

    /// How many addresses within the range are free.
    pub fn free_within(&self, range: Range) -> u32 {
        self.free.within(range).map(Range::size).sum()
    }

    /// Whether all of the range is in the space, and free.
    pub fn is_free(&self, range: Range) -> bool {
        self.free_within(range) == range.size()
    }

    /// Takes a block out of the space, for another peer: the largest one, or half of it if that
    /// would be most of what there is.
    pub fn donate(&mut self, range: Range, except: &AddressSet) -> Option<Range> {
        let free = self.free_but(range, except);
        let mut best = Range::default();
        for run in free.iter() {
            let block = run.largest_block();
            // Of equal ones the last.
            if block.size() >= best.size() {
                best = block;
            }
        }
        if best.is_empty() {
            return None;
        }
        if best.size() > free.len() / 2 {
            best.start += best.size() / 2;
        }
        self.free.remove(best);
        Some(best)
    }

    /// Makes these ranges, and no others, the space. New addresses are free.
    pub fn set_ranges(&mut self, ranges: &[Range]) {
        let mut all = AddressSet::default();
        ranges.iter().for_each(|range| all.insert(*range));
        let mut lost = self.used.clone();
        all.iter().for_each(|range| lost.remove(range));
        lost.iter().for_each(|range| self.used.remove(range));
        self.used.iter().for_each(|range| all.remove(range));
        self.free = all;
    }

    /// The free ones.
    pub const fn free(&self) -> &AddressSet {
        &self.free
    }

    /// Those in use.
    pub const fn used(&self) -> &AddressSet {
        &self.used
    }
}
