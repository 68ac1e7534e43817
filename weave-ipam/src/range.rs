//! Ranges of addresses, and how they are cut into blocks (spec ipam.md, section 1).

use std::fmt;
use std::net::Ipv4Addr;

use weave_core::gob_struct;

use crate::Cidr;

gob_struct! {
    /// The addresses from `start` up to, but not including, `end`, as numbers. Nothing if the end
    /// is not behind the start, as peers may say.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
    pub struct Range as "Range" {
        /// The first address.
        pub start: u32 = "Start",
        /// The first address that no longer belongs to it.
        pub end: u32 = "End",
    }
}

impl Range {
    /// The range from `start` up to, but not including, `end`.
    pub const fn new(start: u32, end: u32) -> Self {
        Self { start, end }
    }

    /// One address; nothing for the last one there is, which no ring has.
    pub const fn one(address: u32) -> Self {
        Self { start: address, end: address.saturating_add(1) }
    }

    /// As many addresses as the network has, from this one on. Those beyond the end of all
    /// addresses are left out, and the very last one with them: rings count up to 2^32 - 1.
    pub const fn of(cidr: Cidr) -> Self {
        let start = cidr.address().to_bits();
        match 1_u32.checked_shl(32 - cidr.prefix() as u32) {
            Some(size) => Self::new(start, start.saturating_add(size)),
            // All addresses there are: too many to count.
            None => Self::new(start, start),
        }
    }

    /// [`Self::of`] without the first and the last address, which name the network and mean all
    /// of its hosts.
    pub const fn of_hosts(cidr: Cidr) -> Self {
        let Self { start, end } = Self::of(cidr);
        Self::new(start.saturating_add(1), end.saturating_sub(1))
    }

    /// How many addresses it has.
    pub const fn size(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.size() == 0
    }

    /// Whether the address belongs to it.
    pub const fn contains(self, address: u32) -> bool {
        self.start <= address && address < self.end
    }

    /// Whether all of `other` belongs to it.
    pub const fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// What both have.
    pub fn intersection(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    /// Whether they have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// A large block in it whose size is a power of two and divides its start: what is given to
    /// peers. Nothing of nothing. Peers compute the same.
    pub const fn largest_block(self) -> Self {
        let size = self.size();
        if size == 0 {
            return Self::new(self.start, self.start);
        }
        let whole = 1 << size.ilog2();
        let offset = self.start % whole;
        if offset == 0 {
            return Self::new(self.start, self.start + whole);
        }
        let skipped = whole - offset;
        if skipped <= size - whole {
            return Self::new(self.start + skipped, self.start + skipped + whole);
        }
        // A range of one address starts at a multiple of one.
        let half = whole / 2;
        let skipped = if half >= offset { half - offset } else { skipped };
        Self::new(self.start + skipped, self.start + skipped + half)
    }

    /// The blocks it consists of, from its start, each as large as possible.
    pub fn blocks(self) -> impl Iterator<Item = Cidr> {
        let mut start = self.start;
        std::iter::from_fn(move || {
            let rest = Self::new(start, self.end).size();
            let fitting = rest.checked_ilog2()?;
            let bits = fitting.min(start.trailing_zeros());
            let block = Cidr::new(start.into(), u8::try_from(32 - bits).ok()?)?;
            start = start.saturating_add(Self::of(block).size());
            Some(block)
        })
    }
}

/// First and last address: `10.0.0.0-10.0.0.255`.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.end.wrapping_sub(1);
        write!(f, "{}-{}", Ipv4Addr::from_bits(self.start), Ipv4Addr::from_bits(last))
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
