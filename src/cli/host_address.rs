//! Addresses of the host on the switch, as `weave expose` and `weave hide` take them.

use std::net::{IpAddr, Ipv4Addr};

use weave_host::Cidr;

/// Who has the addresses of the host, for the part that gives them out.
pub(super) const IDENT: &str = "weave:expose";

/// Which address is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HostAddress {
    /// `10.32.0.1/12` or `ip:10.32.0.1/12`.
    This(Cidr),
    /// `net:10.32.0.0/12`.
    In(Subnet),
    /// `net:default`.
    Default,
}

/// A network without host bits, like `10.32.0.0/12`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Subnet {
    address: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let subnet = Self { address: address.parse().ok()?, prefix: prefix.parse().ok()? };
        (subnet.prefix <= 32 && subnet.mask(subnet.address) == subnet.address).then_some(subnet)
    }

    fn mask(self, address: Ipv4Addr) -> Ipv4Addr {
        let bits = 32 - u32::from(self.prefix);
        Ipv4Addr::from(u32::from(address) & u32::MAX.checked_shl(bits).unwrap_or(0))
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Reads one.
pub(super) fn parse(text: &str) -> Result<HostAddress, String> {
    if text == "net:default" {
        return Ok(HostAddress::Default);
    }
    if let Some(subnet) = text.strip_prefix("net:") {
        let subnet = Subnet::parse(subnet)
            .ok_or_else(|| format!("{subnet:?} is not a network, like 10.32.0.0/12"))?;
        return Ok(HostAddress::In(subnet));
    }
    let cidr = text.strip_prefix("ip:").unwrap_or(text).parse::<Cidr>();
    let cidr = cidr.map_err(|error| error.to_string())?;
    if cidr.address().is_ipv4() {
        Ok(HostAddress::This(cidr))
    } else {
        Err("the host gets IPv4 addresses only".to_owned())
    }
}

impl HostAddress {
    /// Whether an address that the host has, as `10.32.0.1/12`, is one of these.
    pub(super) fn means(&self, text: &str) -> bool {
        let Ok(cidr) = text.parse::<Cidr>() else { return false };
        match (self, cidr.address()) {
            (Self::This(this), _) => *this == cidr,
            (Self::In(subnet), IpAddr::V4(address)) => {
                subnet.prefix == cidr.prefix() && subnet.mask(address) == subnet.address
            }
            (Self::In(_), IpAddr::V6(_)) => false,
            (Self::Default, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_users_write_them() {
        for text in ["10.32.0.1/12", "ip:10.32.0.1/12"] {
            let address = parse(text).unwrap();
            assert!(address.means("10.32.0.1/12"));
            assert!(!address.means("10.32.0.2/12"));
        }
        let subnet = parse("net:10.32.0.0/16").unwrap();
        assert!(subnet.means("10.32.7.1/16"));
        assert!(!subnet.means("10.33.7.1/16") && !subnet.means("10.32.7.1/12"));
        assert_eq!(parse("net:default"), Ok(HostAddress::Default));
        for text in ["10.32.0.1", "net:10.32.0.1/16", "net:", "fd00::1/64", "net:1.0.0.0/33", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
