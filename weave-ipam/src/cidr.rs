//! Addresses with their prefix length, and the subnets they lie in.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::Range;

/// An IPv4 address and how many of its bits name the network. Other bits may be set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// `address/prefix`; `None` if the prefix is longer than 32 bits.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix <= 32 { Some(Self { address, prefix }) } else { None }
    }

    /// The address.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// How many leading bits name the network.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// As many addresses as the network has, from this one on. Those beyond the end of all
    /// addresses are left out, and the very last one with them: rings count up to 2^32 - 1.
    pub const fn range(self) -> Range {
        let start = self.address.to_bits();
        match 1_u32.checked_shl(32 - self.prefix as u32) {
            Some(size) => Range::new(start, start.saturating_add(size)),
            // All addresses there are: too many to count.
            None => Range::new(start, start),
        }
    }

    /// [`Self::range`] without the first and the last address, which name the network and mean
    /// all of its hosts.
    pub const fn host_range(self) -> Range {
        let Range { start, end } = self.range();
        Range::new(start.saturating_add(1), end.saturating_sub(1))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no address with a prefix length, or no subnet to allocate from.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CidrError {
    /// It is something else.
    #[error("{0:?} is not an address with prefix length, like 10.32.0.0/12")]
    Malformed(String),
    /// It is of another protocol.
    #[error("{0}: Non-IPv4 address not supported")]
    NotIpv4(String),
    /// Bits behind the prefix are set.
    #[error("{0} is not a subnet: the bits after the network prefix are not all zero")]
    HostBits(Cidr),
    /// No host fits in it besides the first and last address.
    #[error("{0} is too small to allocate from: a subnet has at least 4 addresses, like a /30")]
    TooSmall(Cidr),
    /// Its last address is the last one there is, or it is the whole address space.
    #[error("{0} is no range to allocate from: it reaches the end of the address space")]
    TooLarge(Cidr),
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || !(1..=2).contains(&prefix.len()) {
            return Err(malformed());
        }
        match address.parse() {
            Ok(IpAddr::V4(address)) => {
                let prefix = prefix.parse().map_err(|_| malformed())?;
                Self::new(address, prefix).ok_or_else(malformed)
            }
            Ok(IpAddr::V6(_)) => Err(CidrError::NotIpv4(text.to_owned())),
            Err(_) => Err(malformed()),
        }
    }
}

/// A network that addresses can be allocated from: at least two hosts fit in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet(Cidr);

impl Subnet {
    /// With its first address and its prefix.
    pub const fn cidr(self) -> Cidr {
        self.0
    }

    /// All its addresses.
    pub const fn range(self) -> Range {
        self.0.range()
    }

    /// The addresses that hosts can have.
    pub const fn host_range(self) -> Range {
        self.0.host_range()
    }

    /// The address with the prefix of this subnet.
    pub(crate) const fn with_address(self, address: u32) -> Cidr {
        Cidr { address: Ipv4Addr::from_bits(address), prefix: self.0.prefix }
    }
}

impl TryFrom<Cidr> for Subnet {
    type Error = CidrError;

    fn try_from(cidr: Cidr) -> Result<Self, CidrError> {
        let whole = 1_u64 << (32 - cidr.prefix);
        match cidr.range() {
            _ if whole < 4 => Err(CidrError::TooSmall(cidr)),
            _ if u64::from(cidr.address.to_bits()) % whole != 0 => Err(CidrError::HostBits(cidr)),
            range if u64::from(range.size()) != whole => Err(CidrError::TooLarge(cidr)),
            _ => Ok(Self(cidr)),
        }
    }
}

impl FromStr for Subnet {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        text.parse::<Cidr>()?.try_into()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
