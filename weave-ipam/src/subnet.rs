//! Networks that addresses are allocated from.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::{Cidr, CidrError, Range};

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
        self.0.at(Ipv4Addr::from_bits(address))
    }
}

impl TryFrom<Cidr> for Subnet {
    type Error = CidrError;

    fn try_from(cidr: Cidr) -> Result<Self, CidrError> {
        let whole = 1_u64 << (32 - cidr.prefix());
        match cidr.range() {
            _ if whole < 4 => Err(CidrError::TooSmall(cidr)),
            _ if u64::from(cidr.address().to_bits()) % whole != 0 => Err(CidrError::HostBits(cidr)),
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
