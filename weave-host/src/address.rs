//! An address with its prefix length, as the user writes it: `10.32.0.1/12`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The address of an interface and how many of its bits name the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// `address/prefix`; `None` if the prefix is longer than the address.
    pub const fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix <= bits { Some(Self { address, prefix }) } else { None }
    }

    /// Returns a network, as routes and subnets are written: what is below the prefix is cleared.
    pub fn network(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let short = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_digit());
        let cidr = Self::new(address.parse().ok()?, prefix.parse().ok().filter(|_| short)?)?;
        Some(cidr.masked())
    }

    /// Returns the network of one address.
    pub const fn alone(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Returns the network of all addresses, as this one.
    pub fn whole(address: IpAddr) -> Self {
        Self { address, prefix: 0 }.masked()
    }

    /// Returns the network it is in.
    #[must_use]
    pub fn masked(self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => {
                Ipv4Addr::from(u32::from(address) & !host_mask(self.prefix)).into()
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                Ipv6Addr::from(u128::from(address) & !host).into()
            }
        };
        Self { address, ..self }
    }

    /// Returns whether the network it is in has this address.
    pub fn contains(self, address: IpAddr) -> bool {
        Self::new(address, self.prefix).is_some_and(|other| other.masked() == self.masked())
    }

    /// Returns the address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Returns how many leading bits name the network.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Returns whether an interface can have this address: neither unspecified, multicast nor, in a
    /// network that has one, its network or broadcast address.
    pub fn is_host_address(self) -> bool {
        match self.address {
            IpAddr::V4(address) => {
                let host = u32::from(address) & host_mask(self.prefix);
                let edge = host == 0 || host == host_mask(self.prefix);
                let reserved = address.is_unspecified()
                    || address.is_multicast()
                    || address == Ipv4Addr::BROADCAST;
                !reserved && (self.prefix >= 31 || !edge)
            }
            IpAddr::V6(address) => address != Ipv6Addr::UNSPECIFIED && !address.is_multicast(),
        }
    }
}

/// Returns the bits of an IPv4 address below the prefix.
fn host_mask(prefix: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text that is not an interface address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not an address with prefix length, like 10.32.0.1/12")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(error)?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let address = address.parse().map_err(|_| error())?;
        let prefix = prefix.parse().map_err(|_| error())?;
        Self::new(address, prefix).filter(|cidr| cidr.is_host_address()).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        for text in ["10.32.0.1/12", "10.0.0.0/31", "192.0.2.1/32", "fd00::1/64", "fe80::1/128"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn networks() {
        let network = |text| Cidr::network(text).map(|cidr| cidr.to_string());
        assert_eq!(network("10.33.7.1/12"), Some("10.32.0.0/12".to_owned()));
        assert_eq!(network("0.0.0.0/0"), Some("0.0.0.0/0".to_owned()));
        assert_eq!(network("fd00::1/64"), Some("fd00::/64".to_owned()));
        for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "x/8"] {
            assert_eq!(network(text), None, "{text}");
        }
        let cidr: Cidr = "10.32.0.1/12".parse().unwrap();
        assert!(cidr.contains("10.47.255.255".parse().unwrap()));
        assert!(!cidr.contains("10.48.0.1".parse().unwrap()));
        assert!(!cidr.contains("fd00::1".parse().unwrap()));
    }

    #[test]
    fn what_no_interface_can_have_is_refused() {
        for text in [
            "",
            "10.32.0.1",
            "10.32.0.1/",
            "10.32.0.1/33",
            "10.32.0.1/+8",
            "10.32.0.1/256",
            "10.32.0.0/12",
            "10.47.255.255/12",
            "0.0.0.0/0",
            "224.0.0.1/4",
            "::/64",
            "ff02::1/64",
            "fd00::1/129",
            "net:10.32.0.0/12",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
