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

use weave_odp::{Action, FlowMatch, PortNumber, Tunnel};

/// For so long after the end of the connection, or the start of the router: what a host takes that
/// is busy starting other things, too. Whoever is gone for good gets packets in vain meanwhile,
/// which without a flow nobody would carry.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// The first or the last mile of frames for one station.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mile {
    /// From a local port into a tunnel.
    Out { port: PortNumber, tunnel: PortNumber, to: Ipv4Addr },
    /// From a tunnel to a local port.
    In { tunnel: PortNumber, port: PortNumber, from: Ipv4Addr },
}

impl Mile {
    /// What a flow is a mile of.
    pub(super) fn of(matches: &FlowMatch, actions: &[Action]) -> Option<Self> {
        let [first, ..] = matches.ethernet.key().destination;
        if matches.ethernet.mask() != weave_odp::Ethernet::EXACT || first & 1 == 1 {
            return None;
        }
        let came = matches.in_port?;
        match (&matches.tunnel, actions) {
            (None, [Action::SetTunnel(tunnel), Action::Output(out)]) => {
                Some(Self::Out { port: came, tunnel: *out, to: tunnel.destination })
            }
            (Some(tunnel), [Action::Output(out)]) if tunnel.mask() == Tunnel::ENDS => {
                Some(Self::In { tunnel: came, port: *out, from: tunnel.key().source })
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

    /// The host at the other end.
    pub(super) const fn remote(self) -> Ipv4Addr {
        match self {
            Self::Out { to: remote, .. } | Self::In { from: remote, .. } => remote,
        }
    }
}
