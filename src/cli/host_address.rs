//! Addresses of the host on the switch, as `weave expose` and `weave hide` take them.

use weave_host::Cidr;

/// Which address is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HostAddress {
    /// `10.32.0.1/12` or `ip:10.32.0.1/12`.
    This(Cidr),
    /// `net:10.32.0.0/12`, without host bits.
    In(Cidr),
    /// `net:default`.
    Default,
}

/// Reads one.
pub(super) fn parse(text: &str) -> Result<HostAddress, String> {
    if text == "net:default" {
        return Ok(HostAddress::Default);
    }
    if let Some(subnet) = text.strip_prefix("net:") {
        let cidr = subnet.parse::<weave_ipam::Cidr>().map(Cidr::from).ok();
        let network = cidr.filter(|cidr| cidr.masked() == *cidr);
        return network
            .map(HostAddress::In)
            .ok_or_else(|| format!("{subnet:?} is not a network, like 10.32.0.0/12"));
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
        match self {
            Self::This(this) => *this == cidr,
            Self::In(network) => cidr.masked() == *network,
            Self::Default => true,
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
