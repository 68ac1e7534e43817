//! The identifiers of states and policies.

use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;

/// The path of packets in one direction between two hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Path {
    /// The sending host.
    pub source: Ipv4Addr,
    /// The receiving host.
    pub destination: Ipv4Addr,
}

impl Path {
    /// Returns the path in the other direction.
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

/// The security parameter index, by which the receiver of an ESP packet finds its state (RFC 4303,
/// section 2.1). The receiver chooses it; zero is not an SPI.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Spi(NonZeroU32);

impl Spi {
    /// Creates an SPI; `None` if the number is zero.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// Writes the SPI as `ip xfrm state` and `iptables -m esp --espspi` do.
impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.get())
    }
}

/// The request id of a state or a template, which says to whom it belongs and never leaves the
/// host. A policy uses states with the request id of its template. Zero means unspecified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Reqid(pub u32);

/// A firewall mark, which matches packets whose mark has the bits `value` under `mask`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mark {
    /// Value of the bits under the mask.
    pub value: u32,
    /// Bits that are compared.
    pub mask: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}
