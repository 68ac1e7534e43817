//! Who owns which addresses (spec ipam.md, section 2).
//!
//! ```text
//!   start    token   token          token       end
//!     |........|-------|--------------|..........|
//!      owner of  owner   owner of the   owner of
//!      the last  of the  second token   the last
//!      token     first                  token
//! ```
//!
//! A token never leaves the ring. Its owner may give it away, or split what it owns with new
//! tokens; each change raises the version of the token, and of two copies the one with the higher
//! version counts.

mod merge;

use weave_core::gob_struct;
use weave_core::mesh::PeerName;
use weave_core::wire::gob::AtMost;

use crate::{Range, Space};

pub use merge::{Contested, Merged, Repair};

/// Tokens of one ring. Each donation makes one or two; this is far beyond what a mesh of the
/// largest size makes, and 6 MB.
pub const MAX_ENTRIES: usize = 1 << 18;
/// Peers that the ring was first divided among. A mesh has at most 4096.
pub const MAX_SEEDS: usize = 1 << 14;

/// The versions of what is taken over rise by this, so that no change that its old owner may still
/// be spreading counts more.
const TRANSFER_STEP: u32 = 100;

gob_struct! {
    /// A token.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Entry as "entry" {
        /// The first address.
        pub token: u32 = "Token",
        /// Who owns the addresses up to the next token.
        pub peer: PeerName = "Peer",
        /// How often it was changed.
        pub version: u32 = "Version",
        /// How many of the addresses are free, as its owner last told.
        pub free: u32 = "Free",
    }
}

gob_struct! {
    /// A ring as a message or a file has it: not checked.
    #[derive(Clone, PartialEq, Eq, Debug, Default)]
    pub struct RawRing as "Ring" {
        /// The first address.
        pub start: u32 = "Start",
        /// The address behind the last one.
        pub end: u32 = "End",
        /// Whose copy it is.
        pub peer: PeerName = "Peer",
        /// The tokens.
        pub entries: AtMost<MAX_ENTRIES, Vec<Entry>> = "Entries",
        /// The peers it was first divided among.
        pub seeds: AtMost<MAX_SEEDS, Vec<PeerName>> = "Seeds",
    }
}

/// One copy of the ring, which makes sense: tokens ascend and lie in the range, and no more
/// addresses are free than there are. Without tokens it is not divided yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    range: Range,
    peer: PeerName,
    entries: Vec<Entry>,
    seeds: Vec<PeerName>,
}

/// Why a ring is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Tokens do not ascend.
    #[error("ring: token {} is out of order", address(*.0))]
    NotSorted(u32),
    /// A token is there twice.
    #[error("ring: token {} is there twice", address(*.0))]
    TokenRepeated(u32),
    /// A token lies outside of the range.
    #[error("ring: token {} lies outside of {range}", address(*.token))]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// The range.
        range: Range,
    },
    /// More addresses are free than there are.
    #[error("ring: {free} free addresses in the {size} from {} on", address(*.token))]
    TooMuchFree {
        /// The token.
        token: u32,
        /// What is said to be free.
        free: u32,
        /// How many there are.
        size: u32,
    },
    /// It was first divided among others.
    #[error("the ring was seeded by different peers")]
    DifferentSeeds {
        /// Theirs.
        theirs: Vec<PeerName>,
        /// Ours.
        ours: Vec<PeerName>,
    },
    /// It is about other addresses.
    #[error("Incompatible IP allocation ranges (received: {theirs}, ours: {ours})")]
    DifferentRange {
        /// Theirs.
        theirs: Range,
        /// Ours.
        ours: Range,
    },
    /// It has a newer owner for addresses that are in use here.
    #[error("Received update for IP range I own at {}: {peer} has it in a newer version, and addresses of it are in use here", address(*.token))]
    NewerVersionOfMine {
        /// The token.
        token: u32,
        /// Who says to own it.
        peer: PeerName,
    },
    /// It has another owner in the same version for addresses that are in use here.
    #[error("Received update for IP range I own at {}: {peer} has it in the same version, and addresses of it are in use here", address(*.token))]
    InconsistentEntry {
        /// The token.
        token: u32,
        /// Who says to own it.
        peer: PeerName,
    },
    /// It splits what is in use here.
    #[error("Received update for IP range I own at {}: {peer} has a token in the middle of it, and addresses of it are in use here", address(*.token))]
    EntryInMyRange {
        /// The token.
        token: u32,
        /// Who says to own it.
        peer: PeerName,
    },
    /// Each of the two makes sense, but not both together.
    #[error("the rings do not fit together: {0}")]
    MergeResultInvalid(Box<RingError>),
}

const fn address(number: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(number)
}

impl TryFrom<RawRing> for Ring {
    type Error = RingError;

    fn try_from(raw: RawRing) -> Result<Self, RingError> {
        let ring = Self {
            range: Range::new(raw.start, raw.end),
            peer: raw.peer,
            entries: raw.entries.0,
            seeds: raw.seeds.0,
        };
        ring.check()?;
        Ok(ring)
    }
}

impl From<&Ring> for RawRing {
    fn from(ring: &Ring) -> Self {
        Self {
            start: ring.range.start,
            end: ring.range.end,
            peer: ring.peer,
            entries: AtMost(ring.entries.clone()),
            seeds: AtMost(ring.seeds.clone()),
        }
    }
}

impl Ring {
    /// A ring that is not divided yet.
    pub const fn new(range: Range, peer: PeerName) -> Self {
        Self { range, peer, entries: Vec::new(), seeds: Vec::new() }
    }

    /// The addresses there are.
    pub const fn range(&self) -> Range {
        self.range
    }

    /// Whose copy this is.
    pub const fn peer(&self) -> PeerName {
        self.peer
    }

    /// The tokens, ascending.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The peers it was first divided among.
    pub fn seeds(&self) -> &[PeerName] {
        &self.seeds
    }

    /// Whether it is not divided yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn check(&self) -> Result<(), RingError> {
        for pair in self.entries.windows(2) {
            let [before, after] = pair else { continue };
            if after.token == before.token {
                return Err(RingError::TokenRepeated(after.token));
            }
            if after.token < before.token {
                return Err(RingError::NotSorted(after.token));
            }
        }
        for entry in &self.entries {
            if !self.range.contains(entry.token) {
                return Err(RingError::TokenOutOfRange { token: entry.token, range: self.range });
            }
        }
        for (index, entry) in self.entries.iter().enumerate() {
            let size = self.size_at(index);
            if entry.free > size {
                let Entry { token, free, .. } = *entry;
                return Err(RingError::TooMuchFree { token, free, size });
            }
        }
        Ok(())
    }

    /// Divides it among these peers, in the order of their names. All peers that are told the same
    /// names make the same ring.
    pub fn divide(&mut self, peers: &[PeerName]) {
        let mut peers = peers.to_vec();
        peers.sort_unstable();
        peers.dedup();
        self.entries.clear();
        self.divide_among(self.range, &peers);
        self.seeds = peers;
    }

    fn divide_among(&mut self, range: Range, peers: &[PeerName]) {
        let Some(first) = peers.first() else { return };
        let size = range.size();
        if size == 0 {
            return;
        }
        if size == 1 || peers.len() == 1 {
            self.entries.push(Entry { token: range.start, peer: *first, version: 0, free: size });
            return;
        }
        let (low, high) = peers.split_at(peers.len() / 2);
        let middle = range.start + size / 2;
        self.divide_among(Range::new(range.start, middle), low);
        self.divide_among(Range::new(middle + size % 2, range.end), high);
    }

    /// From one address forward to another, over the end if need be: all around if it is the same.
    const fn distance(&self, from: u32, to: u32) -> u32 {
        if to > from { to - from } else { (self.range.end - from) + (to - self.range.start) }
    }

    fn next_token(&self, index: usize) -> u32 {
        let next = self.entries.get(index + 1).or_else(|| self.entries.first());
        next.map_or(self.range.start, |entry| entry.token)
    }

    /// How many addresses the entry covers. Its token must lie in the range.
    fn size_at(&self, index: usize) -> u32 {
        self.entries
            .get(index)
            .map_or(0, |entry| self.distance(entry.token, self.next_token(index)))
    }

    /// The addresses from one to another, over the end if need be, which makes two ranges: what is
    /// before the end, and what is behind the start.
    fn ranges_between(&self, from: u32, to: u32) -> [Range; 2] {
        if to > from {
            [Range::new(from, to), Range::default()]
        } else {
            [Range::new(from, self.range.end), Range::new(self.range.start, to)]
        }
    }

    /// The index of the entry that covers the address.
    fn index_of(&self, address: u32) -> Option<usize> {
        let behind = self.entries.partition_point(|entry| entry.token <= address);
        behind.checked_sub(1).or(self.entries.len().checked_sub(1))
    }

    /// Who owns the address; nobody in a ring that is not divided.
    pub fn owner(&self, address: u32) -> Option<PeerName> {
        self.entries.get(self.index_of(address)?).map(|entry| entry.peer)
    }

    /// The entry of exactly this token.
    pub fn entry_at(&self, token: u32) -> Option<Entry> {
        let index = self.entries.binary_search_by_key(&token, |entry| entry.token).ok()?;
        self.entries.get(index).copied()
    }

    /// From an address to the next token, or to the end of the range.
    pub fn range_at(&self, address: u32) -> Option<Range> {
        let behind = self.entries.partition_point(|entry| entry.token <= address);
        let end = self.entries.get(behind).map_or(self.range.end, |entry| entry.token);
        self.range.contains(address).then(|| Range::new(address, end))
    }

    /// Makes a token of this peer's own count more than the version of somebody else's.
    pub fn defend(&mut self, token: u32, other: u32) {
        let version = other.saturating_add(1);
        let before = self.entry_at(token);
        let version = before.map_or(version, |entry| entry.version.max(version));
        let free = before.map_or(0, |entry| entry.free);
        self.put(Entry { token, peer: self.peer, version, free });
    }

    /// Takes an entry as it is, in place of the one of its token if there is one.
    pub fn put(&mut self, entry: Entry) {
        if !self.range.contains(entry.token) {
            return;
        }
        match self.entries.binary_search_by_key(&entry.token, |entry| entry.token) {
            Ok(index) => self.entries.splice(index..=index, [entry]).for_each(drop),
            Err(index) => self.entries.insert(index, entry),
        }
        // What it splits has less room than before.
        for index in 0..self.entries.len() {
            let size = self.size_at(index);
            if let Some(entry) = self.entries.get_mut(index) {
                entry.free = entry.free.min(size);
            }
        }
    }

    /// What the entries cover, ascending, with the one that goes over the end in two parts.
    pub fn ranges(&self) -> Vec<(Range, Entry)> {
        let mut ranges = Vec::with_capacity(self.entries.len() + 1);
        if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last())
            && first.token != self.range.start
        {
            ranges.push((Range::new(self.range.start, first.token), *last));
        }
        for (index, entry) in self.entries.iter().enumerate() {
            let end = self.entries.get(index + 1).map_or(self.range.end, |next| next.token);
            ranges.push((Range::new(entry.token, end), *entry));
        }
        ranges
    }

    /// What a peer owns, ascending.
    pub fn owned_by(&self, peer: PeerName) -> Vec<Range> {
        let ranges = self.ranges().into_iter();
        ranges.filter(|(_, entry)| entry.peer == peer).map(|(range, _)| range).collect()
    }

    /// Gives a range that this peer owns to another.
    pub fn grant(&mut self, range: Range, to: PeerName) {
        debug_assert!(!range.is_empty() && self.range.covers(range), "{range} is not to be given");
        let Some(mut index) = self.index_of(range.start) else { return };
        let until_end = self.distance(range.start, range.end);
        let free = self.distance(range.start, self.next_token(index)).min(until_end);
        if let Some(entry) = self.entries.get_mut(index) {
            if entry.token == range.start {
                *entry =
                    Entry { peer: to, version: entry.version.saturating_add(1), free, ..*entry };
            } else {
                let token = entry.token;
                entry.version = entry.version.saturating_add(1);
                // The one that goes over the end is split at an address before its token.
                let place = if token < range.start { index + 1 } else { 0 };
                if let Some(free) = self.distance_at(index, range.start) {
                    self.set_free(index, free);
                }
                self.entries
                    .insert(place, Entry { token: range.start, peer: to, version: 0, free });
                index = place;
            }
        }
        for later in index + 1..self.entries.len() {
            let Some(token) = self.entries.get(later).map(|entry| entry.token) else { break };
            if token >= range.end {
                break;
            }
            let limit = self.distance(token, range.end);
            if let Some(entry) = self.entries.get_mut(later) {
                entry.peer = to;
                entry.version = entry.version.saturating_add(1);
                entry.free = entry.free.min(limit);
            }
        }
        let end = if range.end == self.range.end { self.range.start } else { range.end };
        let place = self.entries.partition_point(|entry| entry.token < end);
        if self.entries.get(place).is_none_or(|entry| entry.token != end) {
            let rest = Entry { token: end, peer: self.peer, version: 0, free: 0 };
            self.entries.insert(place, rest);
            self.set_free(place, self.size_at(place));
        }
    }

    fn distance_at(&self, index: usize, to: u32) -> Option<u32> {
        self.entries.get(index).map(|entry| self.distance(entry.token, to))
    }

    fn set_free(&mut self, index: usize, free: u32) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.free = free;
        }
    }

    /// Gives all that one peer owns to another; says what that is.
    pub fn transfer(&mut self, from: PeerName, to: PeerName) -> Vec<Range> {
        let ranges = self.owned_by(from);
        for entry in self.entries.iter_mut().filter(|entry| entry.peer == from) {
            entry.peer = to;
            entry.version = entry.version.saturating_add(TRANSFER_STEP);
        }
        ranges
    }

    /// Notes how much of what this peer owns is free. Says whether that is news.
    pub fn report_free(&mut self, free_within: impl Fn(Range) -> u32) -> bool {
        let mut news = false;
        for index in 0..self.entries.len() {
            let next = self.next_token(index);
            let Some(entry) = self.entries.get(index).filter(|entry| entry.peer == self.peer)
            else {
                continue;
            };
            let free = self.ranges_between(entry.token, next).into_iter().map(&free_within).sum();
            if free != entry.free
                && let Some(entry) = self.entries.get_mut(index)
            {
                entry.free = free;
                entry.version = entry.version.saturating_add(1);
                news = true;
            }
        }
        news
    }

    /// The peers that may have something free in the range, and how much.
    pub fn donors(&self, range: Range) -> Vec<(PeerName, u64)> {
        let mut donors = std::collections::BTreeMap::<_, u64>::new();
        for (index, entry) in self.entries.iter().enumerate() {
            if self.entries.get(index + 1).is_some_and(|next| next.token <= range.start) {
                continue;
            }
            if entry.token >= range.end {
                break;
            }
            if entry.free > 0 && entry.peer != self.peer {
                *donors.entry(entry.peer).or_default() += u64::from(entry.free);
            }
        }
        donors.into_iter().collect()
    }

    /// What is wrong with the ring and this peer's addresses together; nothing, ever.
    pub(crate) fn check_with(&self, space: &Space) -> Result<(), String> {
        self.check().map_err(|error| error.to_string())?;
        let mut both = crate::AddressSet::default();
        space.free().iter().chain(space.used().iter()).for_each(|range| both.insert(range));
        let mut owned = crate::AddressSet::default();
        self.owned_by(self.peer).into_iter().for_each(|range| owned.insert(range));
        if both == owned { Ok(()) } else { Err(format!("{owned:?} is owned, {both:?} is there")) }
    }
}
