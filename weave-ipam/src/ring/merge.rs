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
    /// Entries of theirs that were left out: they would take away what is in use here.
    pub contested: Vec<Contested>,
    /// Tokens of this peer that another claims with the same right, and that stay here.
    pub ties: Vec<Entry>,
}

/// An entry of another peer for addresses that are this peer's and in use here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contested {
    /// The entry.
    pub entry: Entry,
    /// What is wrong with it.
    pub error: RingError,
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
    contested: Vec<Contested>,
    ties: Vec<Entry>,
    /// Who owns the last entry, if that is one of ours.
    previous: Option<PeerName>,
}

impl Ring {
    /// Whether another ring is a copy of the same one.
    ///
    /// # Errors
    /// If it was first divided among others, or is about other addresses.
    pub fn fits(&self, theirs: &Self) -> Result<(), RingError> {
        if !self.seeds.is_empty() && !theirs.seeds.is_empty() && self.seeds != theirs.seeds {
            let (theirs, ours) = (theirs.seeds.clone(), self.seeds.clone());
            return Err(RingError::DifferentSeeds { theirs, ours });
        }
        if self.range != theirs.range {
            let (theirs, ours) = (theirs.range, self.range);
            return Err(RingError::DifferentRange { theirs, ours });
        }
        Ok(())
    }

    /// Merges a copy of another peer into this one, which stays as it is. `is_free` says whether
    /// all of a range belongs to this peer and is free. Entries that would take away what is in use
    /// here are left out, where the original refuses the whole ring: one lie must not keep out what
    /// is true.
    ///
    /// # Errors
    /// If the two do not belong together.
    pub fn merge(
        &self,
        theirs: &Self,
        is_free: impl Fn(Range) -> bool,
    ) -> Result<Merged, RingError> {
        self.fits(theirs)?;
        let merge = Merge {
            ours: self,
            is_free,
            entries: Vec::with_capacity(self.entries.len().max(theirs.entries.len())),
            news: false,
            repairs: Vec::new(),
            contested: Vec::new(),
            ties: Vec::new(),
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
                        self.contest(new);
                    } else {
                        self.take(new);
                    }
                    incoming.next();
                }
                Ordering::Equal => {
                    self.choose(index, mine, new);
                    index += 1;
                    incoming.next();
                }
            }
        }
        for new in incoming {
            if self.previous == Some(own) && new.peer != own {
                self.contest(new);
            } else {
                self.take(new);
            }
        }
        self.finish(theirs)
    }

    /// Of two versions of one token.
    fn choose(&mut self, index: usize, mine: Entry, new: Entry) {
        let own = self.ours.peer;
        let Entry { token, peer, .. } = new;
        let in_use = || !self.unused(token, self.ours.next_token(index));
        match new.version.cmp(&mine.version) {
            Ordering::Less => self.keep(mine),
            Ordering::Equal if mine.peer == new.peer => self.keep(mine),
            Ordering::Equal if mine.peer == own && in_use() => {
                self.contested.push(Contested {
                    entry: new,
                    error: RingError::InconsistentEntry { token, peer },
                });
                self.keep(mine);
            }
            Ordering::Equal if mine.peer == own && mine.free == new.free => {
                // Two took the same over. The original has each keep its own, and both give it out.
                if own < peer {
                    self.ties.push(mine);
                    self.keep(mine);
                } else {
                    self.give_up(new);
                }
            }
            Ordering::Equal if mine.free >= new.free => self.keep(mine),
            Ordering::Greater if mine.peer == own && new.peer == own => {
                // What we knew before a restart came back to us: what we say now counts more.
                self.keep(Entry { version: new.version.saturating_add(1), ..mine });
            }
            Ordering::Greater if mine.peer == own && in_use() => {
                self.contested.push(Contested {
                    entry: new,
                    error: RingError::NewerVersionOfMine { token, peer },
                });
                self.keep(mine);
            }
            Ordering::Equal | Ordering::Greater => {
                if mine.peer == own {
                    self.give_up(new);
                } else {
                    self.take(new);
                }
            }
        }
    }

    fn give_up(&mut self, new: Entry) {
        let Entry { token, peer, version, .. } = new;
        self.repairs.push(Repair { token, peer, version });
        self.take(new);
    }

    /// A token in the middle of what is in use here.
    fn contest(&mut self, new: Entry) {
        let Entry { token, peer, .. } = new;
        let error = RingError::EntryInMyRange { token, peer };
        self.contested.push(Contested { entry: new, error });
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
            // Of others, too: who knows fewer tokens than we do says that there is more. The
            // original refuses such a ring, and two peers can each have something that the other
            // one refuses.
            if let Some(entry) = ring.entries.get_mut(index) {
                entry.free = entry.free.min(size);
            }
        }
        ring.check().map_err(|error| RingError::MergeResultInvalid(Box::new(error)))?;
        let Self { news, repairs, contested, ties, .. } = self;
        Ok(Merged { ring, news, repairs, contested, ties })
    }
}
