//! Addresses with the prefix length of the network they lie in.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

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

    /// Another address with the same prefix length.
    pub(crate) const fn at(self, address: Ipv4Addr) -> Self {
        Self { address, prefix: self.prefix }
    }

    /// How many leading bits name the network.
    pub const fn prefix(self) -> u8 {
        self.prefix
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
