//! What a user can write as a target: `host` or `host:port`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::mesh::TargetError;

/// Longest host name of the domain name system (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// A target as the user means it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TargetSpec {
    pub(super) host: Host,
    /// None: the own port.
    pub(super) port: Option<u16>,
}

/// Where the addresses of a target come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Host {
    Address(IpAddr),
    /// To be looked up at each attempt.
    Name(String),
}

impl TargetSpec {
    /// Reads `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
    pub(super) fn parse(text: &str) -> Result<Self, TargetError> {
        let error = |reason| TargetError { target: text.to_owned(), reason };
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::Address(address.into()), port: None });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| error("'[' without ']'"))?;
                let address: Ipv6Addr =
                    host.parse().map_err(|_| error("no IPv6 address between '[' and ']'"))?;
                let port = match after.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if after.is_empty() => None,
                    None => return Err(error("only ':' and a port may follow ']'")),
                };
                (Host::Address(address.into()), port)
            }
            None => {
                let (host, port) = match text.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                (Host::parse(host).map_err(error)?, port)
            }
        };
        let port = port.map(parse_port).transpose().map_err(error)?;
        Ok(Self { host, port })
    }

    /// The address to dial for one of the host's.
    pub(super) fn at(&self, address: IpAddr, own_port: u16) -> SocketAddr {
        SocketAddr::new(address, self.port.unwrap_or(own_port))
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        if text.is_empty() {
            return Err("the host is missing");
        }
        if text.len() > MAX_HOST {
            return Err("the host name is too long");
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if !text.bytes().all(legal) || text.starts_with(['-', '.']) {
            return Err("neither an address nor a host name");
        }
        Ok(Self::Name(text.to_owned()))
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err("the port must be a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Host, Option<u16>) {
        let wanted = TargetSpec::parse(text).unwrap();
        (wanted.host, wanted.port)
    }

    #[test]
    fn hosts_with_and_without_port() {
        let address = |text: &str| Host::Address(text.parse().unwrap());
        let name = |text: &str| Host::Name(text.to_owned());
        assert_eq!(parsed("10.0.0.1"), (address("10.0.0.1"), None));
        assert_eq!(parsed("10.0.0.1:7000"), (address("10.0.0.1"), Some(7000)));
        assert_eq!(parsed("fd00::1"), (address("fd00::1"), None));
        assert_eq!(parsed("[fd00::1]"), (address("fd00::1"), None));
        assert_eq!(parsed("[fd00::1]:7000"), (address("fd00::1"), Some(7000)));
        assert_eq!(parsed("host-1.example"), (name("host-1.example"), None));
        assert_eq!(parsed("host:6783"), (name("host"), Some(6783)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("", "the host is missing"),
            (":6783", "the host is missing"),
            ("host:", "the port must be a number from 1 to 65535"),
            ("host:0", "the port must be a number from 1 to 65535"),
            ("host:+1", "the port must be a number from 1 to 65535"),
            ("host:65536", "the port must be a number from 1 to 65535"),
            ("host:1:2", "the port must be a number from 1 to 65535"),
            ("[::1", "'[' without ']'"),
            ("[host]:1", "no IPv6 address between '[' and ']'"),
            ("[::1]x", "only ':' and a port may follow ']'"),
            ("ho st", "neither an address nor a host name"),
            ("-a", "neither an address nor a host name"),
            ("höst", "neither an address nor a host name"),
        ] {
            assert_eq!(TargetSpec::parse(text).unwrap_err().reason, reason, "{text}");
        }
        assert_eq!(
            TargetSpec::parse(&"a".repeat(254)).unwrap_err().reason,
            "the host name is too long"
        );
    }
}
