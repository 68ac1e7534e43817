//! One copy of the ring from two.

use std::cmp::Ordering;

use weave_core::mesh::PeerName;

use super::{Entry, Ring, RingError};
use crate::Range;

/// The ring that two copies make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merged {
    /// The ring.
    pub ring: Ring,
    /// Whether an entry of theirs is in it.
    pub news: bool,
    /// What this peer gave up, since nothing of it is in use here.
    pub repairs: Vec<Repair>,
}

/// A token that was this peer's and is not any more, without its doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repair {
    /// The token.
    pub token: u32,
    /// Who owns it now.
    pub peer: PeerName,
    /// In which version.
    pub version: u32,
}

/// A ring in the making.
struct Merge<'a, F> {
    ours: &'a Ring,
    /// Whether all of a range is ours and free.
    is_free: F,
    entries: Vec<Entry>,
    news: bool,
    repairs: Vec<Repair>,
    /// Who owns the last entry, if that is one of ours.
    previous: Option<PeerName>,
}

impl Ring {
    /// Merges a copy of another peer into this one, which stays as it is. `is_free` says whether
    /// all of a range belongs to this peer and is free.
    ///
    /// # Errors
    /// If the two do not belong together, or would take away what is in use here.
    pub fn merge(
        &self,
        theirs: &Self,
        is_free: impl Fn(Range) -> bool,
    ) -> Result<Merged, RingError> {
        if !self.seeds.is_empty() && !theirs.seeds.is_empty() && self.seeds != theirs.seeds {
            let (theirs, ours) = (theirs.seeds.clone(), self.seeds.clone());
            return Err(RingError::DifferentSeeds { theirs, ours });
        }
        if self.range != theirs.range {
            let (theirs, ours) = (theirs.range, self.range);
            return Err(RingError::DifferentRange { theirs, ours });
        }
        let merge = Merge {
            ours: self,
            is_free,
            entries: Vec::with_capacity(self.entries.len().max(theirs.entries.len())),
            news: false,
            repairs: Vec::new(),
            previous: None,
        };
        merge.run(theirs)
    }
}

impl<F: Fn(Range) -> bool> Merge<'_, F> {
    fn run(mut self, theirs: &Ring) -> Result<Merged, RingError> {
        let own = self.ours.peer;
        let (mut index, mut incoming) = (0, theirs.entries.iter().copied().peekable());
        while let Some(mine) = self.ours.entries.get(index).copied() {
            let Some(new) = incoming.peek().copied() else {
                self.keep(mine);
                index += 1;
                continue;
            };
            match mine.token.cmp(&new.token) {
                Ordering::Less => {
                    self.keep(mine);
                    index += 1;
                }
                Ordering::Greater => {
                    if self.previous == Some(own)
                        && new.peer != own
                        && !self.unused(new.token, mine.token)
                    {
                        let Entry { token, peer, .. } = new;
                        return Err(RingError::EntryInMyRange { token, peer });
                    }
                    self.take(new);
                    incoming.next();
                }
                Ordering::Equal => {
                    self.choose(index, mine, new)?;
                    index += 1;
                    incoming.next();
                }
            }
        }
        for new in incoming {
            if self.previous == Some(own) && new.peer != own {
                let Entry { token, peer, .. } = new;
                return Err(RingError::EntryInMyRange { token, peer });
            }
            self.take(new);
        }
        self.finish(theirs)
    }

    /// Of two versions of one token.
    fn choose(&mut self, index: usize, mine: Entry, new: Entry) -> Result<(), RingError> {
        let own = self.ours.peer;
        let Entry { token, peer, .. } = new;
        let in_use = || !self.unused(token, self.ours.next_token(index));
        match new.version.cmp(&mine.version) {
            Ordering::Less => self.keep(mine),
            Ordering::Equal if mine.peer == new.peer => self.keep(mine),
            Ordering::Equal if mine.peer == own && in_use() => {
                return Err(RingError::InconsistentEntry { token, peer });
            }
            Ordering::Equal if mine.free >= new.free => self.keep(mine),
            Ordering::Greater if mine.peer == own && new.peer == own => {
                // What we knew before a restart came back to us: what we say now counts more.
                self.keep(Entry { version: new.version.saturating_add(1), ..mine });
            }
            Ordering::Greater if mine.peer == own && in_use() => {
                return Err(RingError::NewerVersionOfMine { token, peer });
            }
            Ordering::Equal | Ordering::Greater => {
                if mine.peer == own {
                    self.repairs.push(Repair { token, peer, version: new.version });
                }
                self.take(new);
            }
        }
        Ok(())
    }

    fn unused(&self, from: u32, to: u32) -> bool {
        self.ours.ranges_between(from, to).into_iter().all(&self.is_free)
    }

    fn keep(&mut self, entry: Entry) {
        self.previous = Some(entry.peer);
        self.entries.push(entry);
    }

    fn take(&mut self, entry: Entry) {
        self.previous = None;
        self.news = true;
        self.entries.push(entry);
    }

    fn finish(self, theirs: &Ring) -> Result<Merged, RingError> {
        let seeds = if self.ours.seeds.is_empty() { &theirs.seeds } else { &self.ours.seeds };
        let (range, peer) = (self.ours.range, self.ours.peer);
        let mut ring = Ring { range, peer, entries: self.entries, seeds: seeds.clone() };
        for index in 0..ring.entries.len() {
            let size = ring.size_at(index);
            if let Some(entry) = ring.entries.get_mut(index)
                && entry.peer == peer
            {
                entry.free = entry.free.min(size);
            }
        }
        ring.check().map_err(|error| RingError::MergeResultInvalid(Box::new(error)))?;
        Ok(Merged { ring, news: self.news, repairs: self.repairs })
    }
}
