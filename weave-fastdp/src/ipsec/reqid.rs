//! The owners of the states in the kernel, by request id.
//!
//! States of routers of this kind have a request id with the UDP port for VXLAN in its lower half,
//! and such a router exclusively uses the UDP port before it.

use std::collections::BTreeSet;
use std::fs;

use weave_xfrm::Reqid;

/// Upper half of the request ids: "we".
const REQID: u32 = 0x7765_0000;
/// Lists of the sockets of this network namespace, for IPv4 and IPv6 (proc_net(5)).
const SOCKETS: [&str; 2] = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];

/// Returns the request id of the router on this UDP port.
pub(super) const fn reqid(port: u16) -> Reqid {
    Reqid(REQID | port as u32)
}

/// The routers of this host, from which follows which request ids are those of ended routers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ReqidRegistry {
    /// Request id of this router, which has added nothing yet.
    own: Option<Reqid>,
    /// UDP ports that are in use; `None` if that cannot be found out.
    in_use: Option<BTreeSet<u16>>,
}

impl ReqidRegistry {
    /// Reads the UDP ports in use, for a router that starts on this UDP port, or for none.
    pub(super) fn read(own: Option<u16>) -> Self {
        let text = SOCKETS.map(|path| fs::read_to_string(path).unwrap_or_default()).concat();
        let in_use = ports(&text);
        // An existing list has at least a heading.
        Self { own: own.map(reqid), in_use: (!text.is_empty()).then_some(in_use) }
    }

    /// Creates a registry for a router on this UDP port, on a host where these are in use.
    #[cfg(test)]
    pub(super) fn of(own: u16, in_use: impl IntoIterator<Item = u16>) -> Self {
        Self { own: Some(reqid(own)), in_use: Some(in_use.into_iter().collect()) }
    }

    /// Returns whether this is the request id of a router of this kind that has ended.
    pub(super) fn has_ended(&self, reqid: Reqid) -> bool {
        let port = u16::try_from(reqid.0 ^ REQID).ok().and_then(|port| port.checked_sub(1));
        let ended = |in_use: &BTreeSet<u16>| port.is_some_and(|port| !in_use.contains(&port));
        self.own == Some(reqid) || self.in_use.as_ref().is_some_and(ended)
    }
}

/// Parses a list of sockets, whose second column has the local address and port in hexadecimal.
fn ports(sockets: &str) -> BTreeSet<u16> {
    let local = |line: &str| {
        let (_, port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    sockets.lines().filter_map(local).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
  190: 00000000:1A7F 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5178
  191: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5179
   sl  local_address                         remote_address                        st tx_queue
  190: 00000000000000000000000000000000:1B58 00000000000000000000000000000000:0000 07 00000000:0
";

    #[test]
    fn states_of_running_routers_are_not_leftovers() {
        assert_eq!(ports(TABLE), [0x35, 6783, 7000].into());
        let registry = ReqidRegistry::of(6784, ports(TABLE));
        let gone = [6784, 7001, 7002, 0].map(|port| registry.has_ended(reqid(port)));
        assert_eq!(gone, [true, false, true, false]);
        let others = [0, 42, 6784, 0x7764_1a90, 0x7865_1a90, u32::MAX];
        assert!(!others.into_iter().any(|number| registry.has_ended(Reqid(number))));
        let blind = ReqidRegistry { in_use: None, ..registry };
        assert!(blind.has_ended(reqid(6784)) && !blind.has_ended(reqid(7002)));
    }

    #[test]
    fn a_socket_of_this_host_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let next = port.checked_add(1).unwrap();
        assert!(!ReqidRegistry::read(None).has_ended(reqid(next)));
        assert!(ReqidRegistry::read(Some(next)).has_ended(reqid(next)));
    }
}
