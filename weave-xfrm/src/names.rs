//! What states and policies are called by.

use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;

/// One direction between two hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Path {
    /// Who sends.
    pub source: Ipv4Addr,
    /// Who receives.
    pub destination: Ipv4Addr,
}

impl Path {
    /// The other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.source, self.destination)
    }
}

/// The number in each ESP packet that tells the receiver its state (RFC 4303, section 2.1). The
/// receiver chooses it. Zero is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Spi(NonZeroU32);

impl Spi {
    /// `None` is zero.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// As `ip xfrm state` and `iptables -m esp --espspi` have it.
impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.get())
    }
}

/// Whose a state or a template is: a number that stays on this host. A policy uses states of the
/// number of its template. Zero is what those have who do not say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Reqid(pub u32);

/// Which packets: those whose mark, as far as `mask` goes, is `value`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mark {
    /// What the bits of the mask must be.
    pub value: u32,
    /// The bits that are looked at.
    pub mask: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}
