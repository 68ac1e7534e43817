//! Flows that may outlive a connection for a moment, and why no others may.
//!
//! A router that is started anew is back within seconds, with another short id, and what its
//! kernel carries could go on meanwhile, if the neighbour's does the same. At both ends flows stay
//! that bring unicast from local stations into the tunnel, or from the tunnel to them. Relayed
//! packets could go round: every hop gives them a new time to live. For groups, flows would send to
//! some who are gone and not to others who are new.
//!
//! What sends stays until there is a way to that host again, by which a frame without a flow would
//! go; what receives stays longer, because the neighbour may not have found its way yet.

use std::net::Ipv4Addr;
use std::time::Duration;

use weave_core::wire::MacAddress;
use weave_odp::{Action, Ethernet, FlowMatch, PortNumber, Tunnel};

/// For so long after the end of the connection, or the start of the router: what a host takes that
/// is busy starting other things, too. Whoever is gone for good gets packets in vain meanwhile,
/// which without a flow nobody would carry.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// The first or the last mile of frames for one station.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mile {
    /// From a local port, where this station is, into a tunnel.
    Out { port: PortNumber, station: MacAddress, tunnel: PortNumber, to: Ipv4Addr },
    /// From a tunnel to a local port, where this station is.
    In { tunnel: PortNumber, station: MacAddress, port: PortNumber, from: Ipv4Addr },
}

impl Mile {
    /// What a flow is a mile of.
    pub(super) fn of(matches: &FlowMatch, actions: &[Action]) -> Option<Self> {
        let Ethernet { source, destination } = matches.ethernet.key();
        let (source, destination) = (MacAddress(source), MacAddress(destination));
        if matches.ethernet.mask() != Ethernet::EXACT || destination.is_multicast() {
            return None;
        }
        let came = matches.in_port?;
        match (&matches.tunnel, actions) {
            (None, [Action::SetTunnel(tunnel), Action::Output(out)]) => {
                let to = tunnel.destination;
                Some(Self::Out { port: came, station: source, tunnel: *out, to })
            }
            (Some(tunnel), [Action::Output(out)]) if tunnel.mask() == Tunnel::ENDS => {
                let from = tunnel.key().source;
                Some(Self::In { tunnel: came, station: destination, port: *out, from })
            }
            _ => None,
        }
    }

    /// The port for tunnels, and the local one.
    pub(super) const fn ports(self) -> [PortNumber; 2] {
        match self {
            Self::Out { port, tunnel, .. } | Self::In { tunnel, port, .. } => [tunnel, port],
        }
    }

    /// The local station, and the port where the router that made the flow had heard it.
    pub(super) const fn station(self) -> (MacAddress, PortNumber) {
        match self {
            Self::Out { port, station, .. } | Self::In { port, station, .. } => (station, port),
        }
    }

    /// The host at the other end.
    pub(super) const fn remote(self) -> Ipv4Addr {
        match self {
            Self::Out { to: remote, .. } | Self::In { from: remote, .. } => remote,
        }
    }
}

#[cfg(test)]
mod tests {
    use weave_odp::Masked;

    use super::*;

    const LOCAL: PortNumber = PortNumber(2);
    const VXLAN: PortNumber = PortNumber(9);
    const HERE: [u8; 6] = [2, 0xaa, 0, 0, 0, 1];
    const THERE: [u8; 6] = [2, 0xbb, 0, 0, 0, 2];
    const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn matches(port: PortNumber, source: [u8; 6], destination: [u8; 6]) -> FlowMatch {
        FlowMatch::new(port, Masked::exact(Ethernet { source, destination }))
    }

    #[test]
    fn both_miles_tell_where_the_local_station_is() {
        let into = Tunnel { destination: HOST, ..Tunnel::ZERO };
        let out = [Action::SetTunnel(into), Action::Output(VXLAN)];
        let out = Mile::of(&matches(LOCAL, HERE, THERE), &out).unwrap();
        let from = Tunnel { source: HOST, ..Tunnel::ZERO };
        let mut back = matches(VXLAN, THERE, HERE);
        back.tunnel = Some(Masked::<Tunnel>::ends(from));
        let back = Mile::of(&back, &[Action::Output(LOCAL)]).unwrap();
        for mile in [out, back] {
            assert_eq!(mile.station(), (MacAddress(HERE), LOCAL));
            assert_eq!((mile.ports(), mile.remote()), ([VXLAN, LOCAL], HOST));
        }
        let group = matches(LOCAL, HERE, [0xff; 6]);
        assert_eq!(Mile::of(&group, &[Action::SetTunnel(into), Action::Output(VXLAN)]), None);
    }
}
