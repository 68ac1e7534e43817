//! The learning bridge between the ports of a datapath and the router (spec fastdp.md, section 5).
//!
//! ```text
//!   vethwe-datapath ──┐
//!   other vports    ──┤ bridge ├── router (the rest of the mesh)
//! ```
//!
//! Unlike the original's bridge, this one follows a station that moves at once. The exception is a
//! station that was heard from the rest of the mesh a moment ago: it does not become local by a
//! frame, which may be one of its own that was flooded and came back.

use std::collections::{BTreeMap, BTreeSet};

use weave_core::switch::{MAX_AGE, QUIET};
use weave_core::time::Instant;
use weave_core::wire::MacAddress;
use weave_odp::{Action, FlowMatch, PortNumber};

/// Largest number of stations that are learned, including those of the rest of the mesh. Frames
/// for other stations are flooded.
const MAX_STATIONS: usize = 1 << 16;

/// A port of the bridge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum BridgePort {
    /// The router, which leads to the rest of the mesh.
    Router,
    /// A port of the datapath.
    Vport(PortNumber),
}

/// The bridge's decision for a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Drop: the destination is behind the port from which the frame came.
    SamePort,
    /// Send to this port.
    To(BridgePort),
    /// Send to all ports but the one from which the frame came.
    Flood {
        /// Ports of the datapath.
        ports: Vec<PortNumber>,
        /// Whether the router is one of the ports.
        router: bool,
    },
}

/// A bridge that learns which stations are behind its ports.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    ports: BTreeSet<PortNumber>,
    stations: BTreeMap<MacAddress, Station>,
}

#[derive(Clone, Copy, Debug)]
struct Station {
    port: BridgePort,
    seen: Instant,
}

impl Bridge {
    /// Adds a port. Returns whether it is new.
    pub(super) fn add_port(&mut self, port: PortNumber) -> bool {
        self.ports.insert(port)
    }

    /// Returns whether a flow only carries packets between ports of this bridge.
    pub(super) fn has_flow(&self, matches: &FlowMatch, actions: &[Action]) -> bool {
        let is_port = |port: &PortNumber| self.ports.contains(port);
        let inside = |action: &Action| matches!(action, Action::Output(port) if is_port(port));
        matches.tunnel.is_none()
            && matches.in_port.as_ref().is_some_and(is_port)
            && !actions.is_empty()
            && actions.iter().all(inside)
    }

    /// Removes a port and the stations behind it. Returns whether the port existed.
    pub(super) fn remove_port(&mut self, port: PortNumber) -> bool {
        self.stations.retain(|_, station| station.port != BridgePort::Vport(port));
        self.ports.remove(&port)
    }

    /// Learns that a frame of this station came from this port. Returns whether the station was
    /// behind another port before.
    pub(super) fn learn(&mut self, now: Instant, station: MacAddress, port: BridgePort) -> bool {
        if station.is_multicast() || station == MacAddress::ZERO {
            return false;
        }
        let full = self.stations.len() >= MAX_STATIONS;
        match self.stations.get_mut(&station) {
            None if full => false,
            None => {
                self.stations.insert(station, Station { port, seen: now });
                false
            }
            Some(known) if known.port == port => {
                known.seen = now;
                false
            }
            Some(known)
                if known.port == BridgePort::Router && now.saturating_since(known.seen) < QUIET =>
            {
                false
            }
            Some(known) => {
                *known = Station { port, seen: now };
                true
            }
        }
    }

    /// Decides about a frame that came from this port.
    pub(super) fn decide(&self, from: BridgePort, destination: MacAddress) -> Verdict {
        match self.stations.get(&destination) {
            Some(station) if station.port == from => Verdict::SamePort,
            Some(station) => Verdict::To(station.port),
            None => Verdict::Flood {
                ports: self
                    .ports
                    .iter()
                    .copied()
                    .filter(|&p| BridgePort::Vport(p) != from)
                    .collect(),
                router: from != BridgePort::Router,
            },
        }
    }

    /// Forgets stations that have not been heard for [`MAX_AGE`].
    pub(super) fn sweep(&mut self, now: Instant) {
        self.stations.retain(|_, station| now.saturating_since(station.seen) <= MAX_AGE);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const X: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const Y: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
    const P1: PortNumber = PortNumber(1);
    const P2: PortNumber = PortNumber(2);

    fn at(seconds: u64) -> Instant {
        Instant::since_origin(Duration::from_secs(seconds))
    }

    fn bridge() -> Bridge {
        let mut bridge = Bridge::default();
        assert!(bridge.add_port(P1) && bridge.add_port(P2) && !bridge.add_port(P2));
        bridge
    }

    #[test]
    fn unknown_destinations_are_flooded_to_all_other_ports() {
        let mut bridge = bridge();
        let flood = |ports: &[PortNumber], router| Verdict::Flood { ports: ports.to_vec(), router };
        assert_eq!(bridge.decide(BridgePort::Vport(P1), Y), flood(&[P2], true));
        assert_eq!(bridge.decide(BridgePort::Router, Y), flood(&[P1, P2], false));
        bridge.learn(at(0), X, BridgePort::Vport(P1));
        assert_eq!(bridge.decide(BridgePort::Vport(P2), X), Verdict::To(BridgePort::Vport(P1)));
        assert_eq!(bridge.decide(BridgePort::Vport(P1), X), Verdict::SamePort);
        assert!(bridge.remove_port(P1) && !bridge.remove_port(P1));
        assert_eq!(bridge.decide(BridgePort::Vport(P2), X), flood(&[], true));
    }

    #[test]
    fn a_station_moves_at_once_but_not_by_its_own_echo() {
        let mut bridge = bridge();
        assert!(!bridge.learn(at(0), X, BridgePort::Vport(P1)));
        assert!(bridge.learn(at(0), X, BridgePort::Router), "it is elsewhere in the mesh now");
        assert!(!bridge.learn(at(2), X, BridgePort::Vport(P1)), "a moment later");
        assert_eq!(bridge.decide(BridgePort::Vport(P2), X), Verdict::To(BridgePort::Router));
        assert!(bridge.learn(at(3), X, BridgePort::Vport(P1)), "it came back");
        assert!(bridge.learn(at(3), X, BridgePort::Vport(P2)), "from port to port");
    }

    #[test]
    fn flows_between_its_ports_need_no_router() {
        let bridge = bridge();
        let flow = |port| FlowMatch::new(port, weave_odp::Masked::<weave_odp::Ethernet>::ANY);
        let out = |number| Action::Output(PortNumber(number));
        assert!(bridge.has_flow(&flow(P1), &[out(2)]));
        assert!(!bridge.has_flow(&flow(P1), &[out(2), out(9)]), "into a tunnel");
        assert!(!bridge.has_flow(&flow(P1), &[]), "the reason to drop may have passed");
        assert!(!bridge.has_flow(&flow(PortNumber(9)), &[out(2)]), "from a tunnel");
    }

    #[test]
    fn groups_are_not_learned_and_silent_stations_are_forgotten() {
        let mut bridge = bridge();
        bridge.learn(at(0), MacAddress::BROADCAST, BridgePort::Vport(P1));
        bridge.learn(at(0), MacAddress::ZERO, BridgePort::Vport(P1));
        assert!(bridge.stations.is_empty());
        bridge.learn(at(0), X, BridgePort::Vport(P1));
        bridge.learn(at(300), Y, BridgePort::Vport(P1));
        bridge.sweep(at(601));
        assert!(!bridge.stations.contains_key(&X) && bridge.stations.contains_key(&Y));
    }
}
