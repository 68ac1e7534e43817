//! Flows that may outlive a connection for a moment, and why no others may.
//!
//! A restarted router is back within seconds, with another short id. The frames that its kernel
//! carries could continue meanwhile, if the kernel of the neighbour does the same. So at both ends
//! those flows are retained that carry unicast from local stations into the tunnel, or from the
//! tunnel to local stations. Relayed packets could circulate, since each hop sets a new time to
//! live. Flows for groups would send to hosts that are gone and not to hosts that are new.
//!
//! It does not ask for the id in the flows of the router before it: as long as flows carry all that
//! a station sends, no miss shows a neighbour where it is, and what goes there has no flow.
//!
//! A flow into a tunnel is retained until there is a path to that host again, by which a frame
//! without a flow would go. A flow from a tunnel is retained longer, since the neighbour may not
//! have found its path yet.

use std::net::Ipv4Addr;

use weave_core::wire::MacAddress;
use weave_odp::{Action, Ethernet, FlowMatch, PortNumber, Tunnel};

/// A flow that carries unicast of one local station to or from another host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum UnicastFlow {
    /// From the station, which is behind a local port, into a tunnel.
    Outbound { port: PortNumber, station: MacAddress, tunnel: PortNumber, to: Ipv4Addr },
    /// From a tunnel to the station, which is behind a local port.
    Inbound { tunnel: PortNumber, station: MacAddress, port: PortNumber, from: Ipv4Addr },
}

impl UnicastFlow {
    /// Classifies a flow; `None` if it is of another kind.
    pub(super) fn of(matches: &FlowMatch, actions: &[Action]) -> Option<Self> {
        let Ethernet { source, destination } = matches.ethernet.key();
        let (source, destination) = (MacAddress(source), MacAddress(destination));
        if matches.ethernet.mask() != Ethernet::EXACT || destination.is_multicast() {
            return None;
        }
        let in_port = matches.in_port?;
        match (&matches.tunnel, actions) {
            (None, [Action::SetTunnel(tunnel), Action::Output(out)]) => {
                let to = tunnel.destination;
                Some(Self::Outbound { port: in_port, station: source, tunnel: *out, to })
            }
            (Some(tunnel), [Action::Output(out)]) if tunnel.mask() == Tunnel::ENDS => {
                let from = tunnel.key().source;
                Some(Self::Inbound { tunnel: in_port, station: destination, port: *out, from })
            }
            _ => None,
        }
    }

    /// Returns the port for tunnels, and the local one.
    pub(super) const fn ports(self) -> [PortNumber; 2] {
        match self {
            Self::Outbound { port, tunnel, .. } | Self::Inbound { tunnel, port, .. } => {
                [tunnel, port]
            }
        }
    }

    /// Returns the local station, and the port behind which it was when the flow was made.
    pub(super) const fn station(self) -> (MacAddress, PortNumber) {
        match self {
            Self::Outbound { port, station, .. } | Self::Inbound { port, station, .. } => {
                (station, port)
            }
        }
    }

    /// Returns the address of the other host.
    pub(super) const fn remote(self) -> Ipv4Addr {
        match self {
            Self::Outbound { to: remote, .. } | Self::Inbound { from: remote, .. } => remote,
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
    fn flows_of_both_directions_name_the_local_station() {
        let into = Tunnel { destination: HOST, ..Tunnel::ZERO };
        let out = [Action::SetTunnel(into), Action::Output(VXLAN)];
        let out = UnicastFlow::of(&matches(LOCAL, HERE, THERE), &out).unwrap();
        let from = Tunnel { source: HOST, ..Tunnel::ZERO };
        let mut back = matches(VXLAN, THERE, HERE);
        back.tunnel = Some(Masked::<Tunnel>::ends(from));
        let back = UnicastFlow::of(&back, &[Action::Output(LOCAL)]).unwrap();
        for flow in [out, back] {
            assert_eq!(flow.station(), (MacAddress(HERE), LOCAL));
            assert_eq!((flow.ports(), flow.remote()), ([VXLAN, LOCAL], HOST));
        }
        let group = matches(LOCAL, HERE, [0xff; 6]);
        assert_eq!(
            UnicastFlow::of(&group, &[Action::SetTunnel(into), Action::Output(VXLAN)]),
            None
        );
    }
}
