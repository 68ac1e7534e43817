//! An address with its prefix length, as users write it: `10.32.0.1/12`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address and how many of its leading bits name the network. Other bits may be set.
///
/// `Cidr` is of either protocol, `Cidr<Ipv4Addr>` of IPv4 alone.
///
/// ```
/// use weave_core::Cidr;
///
/// let range = Cidr::network("10.32.0.0/12")?;
/// let address: Cidr = "10.33.0.1/12".parse()?;
/// assert!(range.contains(address.address()));
/// assert_eq!(address.masked(), range);
/// # Ok::<(), weave_core::CidrError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr<A = IpAddr> {
    address: A,
    prefix: u8,
}

impl<A: Copy> Cidr<A> {
    /// Returns the address.
    pub const fn address(self) -> A {
        self.address
    }

    /// Returns how many leading bits name the network.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Returns another address with the same prefix length.
    #[must_use]
    pub const fn with_address(self, address: A) -> Self {
        Self { address, prefix: self.prefix }
    }
}

impl<A: Copy + Into<IpAddr>> Cidr<A> {
    /// `address/prefix`; `None` if the prefix is longer than the address.
    pub fn new(address: A, prefix: u8) -> Option<Self> {
        (prefix <= bits(address.into())).then_some(Self { address, prefix })
    }
}

impl Cidr {
    /// Reads a network, as routes and subnets are written; what is below the prefix is cleared.
    pub fn network(text: &str) -> Result<Self, CidrError> {
        let cidr = read(text, 3).ok_or_else(|| CidrError::NotNetwork(text.to_owned()))?;
        Ok(cidr.masked())
    }

    /// Returns the network of one address.
    pub const fn alone(address: IpAddr) -> Self {
        Self { address, prefix: bits(address) }
    }

    /// Returns the network of all addresses of the same protocol as this one.
    pub fn whole(address: IpAddr) -> Self {
        Self { address, prefix: 0 }.masked()
    }

    /// Returns the network it is in: what is below the prefix is cleared.
    #[must_use]
    pub fn masked(self) -> Self {
        match self.address {
            IpAddr::V4(address) => {
                let network = address.to_bits() & !host_mask(self.prefix);
                self.with_address(Ipv4Addr::from_bits(network).into())
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                self.with_address(Ipv6Addr::from_bits(address.to_bits() & !host).into())
            }
        }
    }

    /// Returns whether the network it is in has this address. An IPv4 address that a dual-stack
    /// socket shows as `::ffff:a.b.c.d` counts as IPv4.
    pub fn contains(self, address: IpAddr) -> bool {
        let other = Self::new(address.to_canonical(), self.prefix);
        other.is_some_and(|other| other.masked() == self.masked())
    }

    /// Returns whether an interface can have this address: neither unspecified, multicast nor, in a
    /// network that has one, its network or broadcast address.
    pub fn is_host_address(self) -> bool {
        match self.address {
            IpAddr::V4(address) => {
                let host = address.to_bits() & host_mask(self.prefix);
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

impl From<Cidr<Ipv4Addr>> for Cidr {
    fn from(cidr: Cidr<Ipv4Addr>) -> Self {
        Self { address: cidr.address.into(), prefix: cidr.prefix }
    }
}

/// Returns how many bits an address of this protocol has.
const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns the bits of an IPv4 address below the prefix.
fn host_mask(prefix: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

/// Reads an address and a prefix length of at most so many digits, and nothing else.
fn read(text: &str, most_digits: usize) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    if prefix.len() > most_digits || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Cidr::new(address.parse().ok()?, prefix.parse().ok()?)
}

impl<A: fmt::Display> fmt::Display for Cidr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl<A: fmt::Display> fmt::Debug for Cidr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not what was asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CidrError {
    /// It is not the address of an interface.
    #[error("{0:?} is not an address with prefix length, like 10.32.0.1/12")]
    NotAddress(String),
    /// It is not a network.
    #[error("{0:?} is not a network: an address and a prefix length, like 10.0.0.0/8 or fd00::/8")]
    NotNetwork(String),
    /// It is of another protocol.
    #[error("{0}: Non-IPv4 address not supported")]
    NotIpv4(String),
}

/// Reads the address of an interface: one that it [can have](Cidr::is_host_address).
impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let cidr = read(text, 3).filter(|cidr| cidr.is_host_address());
        cidr.ok_or_else(|| CidrError::NotAddress(text.to_owned()))
    }
}

/// Reads any IPv4 address with a prefix length, those that name networks among them.
impl FromStr for Cidr<Ipv4Addr> {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        match read(text, 2) {
            Some(Cidr { address: IpAddr::V4(address), prefix }) => Ok(Self { address, prefix }),
            Some(_) => Err(CidrError::NotIpv4(text.to_owned())),
            None => Err(CidrError::NotAddress(text.to_owned())),
        }
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
        let network = |text| Cidr::network(text).map(|cidr| cidr.to_string()).ok();
        assert_eq!(network("10.33.7.1/12"), Some("10.32.0.0/12".to_owned()));
        assert_eq!(network("0.0.0.0/0"), Some("0.0.0.0/0".to_owned()));
        assert_eq!(network("fd00::1/64"), Some("fd00::/64".to_owned()));
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::/129",
            "x/8",
        ] {
            assert_eq!(network(text), None, "{text}");
        }
    }

    #[test]
    fn a_network_has_the_addresses_of_its_prefix() {
        let has = |network, address: &str| {
            Cidr::network(network).unwrap().contains(address.parse().unwrap())
        };
        assert!(has("10.1.0.0/16", "10.1.255.3"));
        assert!(has("10.1.0.0/16", "::ffff:10.1.2.3"));
        assert!(!has("10.1.0.0/16", "10.2.0.0"));
        assert!(!has("10.1.0.0/16", "fd00::1"));
        assert!(has("0.0.0.0/0", "1.2.3.4"));
        assert!(!has("0.0.0.0/0", "fd00::1"));
        assert!(has("::/0", "fd00::1"));
        assert!(has("10.0.0.1/32", "10.0.0.1"));
        assert!(!has("10.0.0.1/32", "10.0.0.2"));
        let cidr: Cidr = "10.32.0.1/12".parse().unwrap();
        assert!(cidr.contains("10.47.255.255".parse().unwrap()));
        assert!(!cidr.contains("10.48.0.1".parse().unwrap()));
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

    #[test]
    fn of_ipv4_alone() {
        let read = |text: &str| text.parse::<Cidr<Ipv4Addr>>();
        assert_eq!(read("10.32.0.0/12").unwrap().to_string(), "10.32.0.0/12");
        assert_eq!(read("10.33.7.1/12").unwrap().to_string(), "10.33.7.1/12");
        assert_eq!(read("fd00::1/64"), Err(CidrError::NotIpv4("fd00::1/64".to_owned())));
        for text in ["10.0.0.0", "10.0.0.0/", "10.0.0.0/033", "10.0.0.0/33", "10.0.0.0/+8"] {
            assert_eq!(read(text), Err(CidrError::NotAddress(text.to_owned())), "{text}");
        }
    }
}
