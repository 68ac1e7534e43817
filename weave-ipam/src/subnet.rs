//! Networks that addresses are allocated from.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use weave_core::CidrError;

use crate::{Cidr, Range};

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
        Range::of(self.0)
    }

    /// The addresses that hosts can have.
    pub const fn host_range(self) -> Range {
        Range::of_hosts(self.0)
    }

    /// The address with the prefix of this subnet.
    pub(crate) const fn with_address(self, address: u32) -> Cidr {
        self.0.with_address(Ipv4Addr::from_bits(address))
    }
}

/// A text that is no subnet to allocate from.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubnetError {
    /// It is something else.
    #[error("{0:?} is not an address with prefix length, like 10.32.0.0/12")]
    Malformed(String),
    /// It is of another protocol.
    #[error(transparent)]
    NotIpv4(CidrError),
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

impl TryFrom<Cidr> for Subnet {
    type Error = SubnetError;

    fn try_from(cidr: Cidr) -> Result<Self, SubnetError> {
        let whole = 1_u64 << (32 - cidr.prefix());
        match Range::of(cidr) {
            _ if whole < 4 => Err(SubnetError::TooSmall(cidr)),
            _ if u64::from(cidr.address().to_bits()) % whole != 0 => {
                Err(SubnetError::HostBits(cidr))
            }
            range if u64::from(range.size()) != whole => Err(SubnetError::TooLarge(cidr)),
            _ => Ok(Self(cidr)),
        }
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        match text.parse::<Cidr>() {
            Ok(cidr) => cidr.try_into(),
            Err(error @ CidrError::NotIpv4(_)) => Err(SubnetError::NotIpv4(error)),
            Err(_) => Err(SubnetError::Malformed(text.to_owned())),
        }
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
