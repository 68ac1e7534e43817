//! What the network below can carry, when the user names no MTU.

use std::fs;

use weave_rtnl::Link;

use crate::error::HostError;
use crate::names::DATAPATH_KIND;
use crate::namespace::run_here;

/// What no encapsulation exceeds, with room for a tunnel on the way: over an Ethernet of 1500
/// bytes this gives 1376, which is what the original's fast datapath gives its containers
/// (spec router.md, section 6), so that one size fits all links of a mixed cluster.
const HEADROOM: u32 = 124;
/// The smallest MTU of a link that carries IPv6 (RFC 8200, section 5).
const SMALLEST: u32 = 1280;
/// The largest a TAP device takes: 65535 less the Ethernet header.
const LARGEST: u32 = 65_521;

/// Returns an MTU for bridge and containers that suits the interface of the default route or,
/// without one, the narrowest interface that could lead to a neighbour.
///
/// # Errors
/// If the interfaces cannot be listed.
pub fn automatic_mtu(bridge: &str) -> Result<u32, HostError> {
    run_here(|netlink| {
        // The table of this thread's network namespace; no IPv4 is no default route.
        let routes = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
        let interfaces = netlink.links()?;
        Ok(choose(bridge, &interfaces, default_interface(&routes)))
    })
}

/// Returns the interface of the default route in the text of `/proc/net/route`: columns interface,
/// destination, gateway, flags, three counters, mask.
fn default_interface(routes: &str) -> Option<&str> {
    routes.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let interface = columns.next()?;
        let destination = columns.next()?;
        let mask = columns.nth(5)?;
        (destination == "00000000" && mask == "00000000").then_some(interface)
    })
}

fn choose(bridge: &str, interfaces: &[Link], default: Option<&str>) -> u32 {
    let ours = |interface: &Link| {
        let Link { name, kind, .. } = interface;
        name == bridge || name.starts_with("vethwe") || kind == DATAPATH_KIND
    };
    let underlay = interfaces
        .iter()
        .find(|interface| Some(interface.name.as_str()) == default)
        .or_else(|| {
            interfaces
                .iter()
                .filter(|i| i.up && !i.loopback && i.controller.is_none() && !ours(i))
                .min_by_key(|interface| interface.mtu)
        })
        .map_or(1500, |interface| interface.mtu);
    underlay.saturating_sub(HEADROOM).clamp(SMALLEST, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::link_named;

    fn interface(name: &str, mtu: u32) -> Link {
        Link { mtu, ..link_named(name) }
    }

    #[test]
    fn the_default_route_decides() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                      docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                      ens5\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_interface(routes), Some("ens5"));
        let interfaces =
            [interface("lo", 65536), interface("docker0", 1500), interface("ens5", 9001)];
        assert_eq!(choose("weave", &interfaces, default_interface(routes)), 8877);
    }

    #[test]
    fn without_one_the_narrowest_does() {
        assert_eq!(default_interface("Iface\tDestination\n"), None);
        let interfaces =
            [interface("lo", 65536), interface("eth0", 1500), interface("weave", 1280)];
        assert_eq!(choose("weave", &interfaces, None), 1376);
        // What a router before us has left.
        let datapath = Link { kind: "openvswitch".to_owned(), ..interface("datapath", 1376) };
        assert_eq!(choose("weave", &[interface("eth0", 1500), datapath], None), 1376);
        assert_eq!(choose("weave", &[interface("lo", 65536)], None), 1376);
        assert_eq!(choose("weave", &[interface("eth0", 576)], None), 1280);
    }
}
