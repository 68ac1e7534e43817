//! The learning bridge between the ports of a datapath and the router (spec fastdp.md, section 5).
//!
//! ```text
//!   vethwe-datapath ──┐
//!   other vports    ──┤ bridge ├── router (the rest of the mesh)
//! ```
//!
//! Unlike the original's, it notices that a station moved at once. Only a station that was heard
//! from the rest of the mesh a moment ago does not become local by a frame: that frame may be
//! its own, on its way round.

use std::collections::{BTreeMap, BTreeSet};

use weave_core::switch::{MAX_AGE, QUIET};
use weave_core::time::Instant;
use weave_core::wire::MacAddress;
use weave_odp::{Action, FlowMatch, PortNumber};

/// How many stations are remembered; those of the whole mesh count. Frames for others are flooded.
const MAX_STATIONS: usize = 1 << 16;

/// One side of the bridge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    /// The rest of the mesh.
    Router,
    /// A port of the datapath.
    Port(PortNumber),
}

/// Where a frame goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Its destination is where it came from.
    Stay,
    /// There.
    To(Place),
    /// To all but where it came from.
    Flood {
        /// Ports of the datapath.
        ports: Vec<PortNumber>,
        /// And the router.
        router: bool,
    },
}

/// The bridge.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    ports: BTreeSet<PortNumber>,
    stations: BTreeMap<MacAddress, Station>,
}

#[derive(Clone, Copy, Debug)]
struct Station {
    place: Place,
    seen: Instant,
}

impl Bridge {
    /// Whether it is new.
    pub(super) fn add_port(&mut self, port: PortNumber) -> bool {
        self.ports.insert(port)
    }

    /// Whether all of this happens between its ports.
    pub(super) fn keeps(&self, matches: &FlowMatch, actions: &[Action]) -> bool {
        let is_port = |port: &PortNumber| self.ports.contains(port);
        let inside = |action: &Action| matches!(action, Action::Output(port) if is_port(port));
        matches.tunnel.is_none()
            && matches.in_port.as_ref().is_some_and(is_port)
            && !actions.is_empty()
            && actions.iter().all(inside)
    }

    /// Whether it was there. What is behind it is forgotten.
    pub(super) fn remove_port(&mut self, port: PortNumber) -> bool {
        self.stations.retain(|_, station| station.place != Place::Port(port));
        self.ports.remove(&port)
    }

    /// A frame of this station came in there. Whether it had been elsewhere before.
    pub(super) fn learn(&mut self, now: Instant, station: MacAddress, place: Place) -> bool {
        if station.is_multicast() || station == MacAddress::ZERO {
            return false;
        }
        let full = self.stations.len() >= MAX_STATIONS;
        match self.stations.get_mut(&station) {
            None if full => false,
            None => {
                self.stations.insert(station, Station { place, seen: now });
                false
            }
            Some(known) if known.place == place => {
                known.seen = now;
                false
            }
            Some(known)
                if known.place == Place::Router && now.saturating_since(known.seen) < QUIET =>
            {
                false
            }
            Some(known) => {
                *known = Station { place, seen: now };
                true
            }
        }
    }

    /// Where a frame goes that came in at `from`.
    pub(super) fn decide(&self, from: Place, destination: MacAddress) -> Verdict {
        match self.stations.get(&destination) {
            Some(station) if station.place == from => Verdict::Stay,
            Some(station) => Verdict::To(station.place),
            None => Verdict::Flood {
                ports: self.ports.iter().copied().filter(|&p| Place::Port(p) != from).collect(),
                router: from != Place::Router,
            },
        }
    }

    /// Forgets stations that have not been heard for a long time.
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
    fn floods_what_it_does_not_know_and_keeps_it_away_from_where_it_came_from() {
        let mut bridge = bridge();
        let flood = |ports: &[PortNumber], router| Verdict::Flood { ports: ports.to_vec(), router };
        assert_eq!(bridge.decide(Place::Port(P1), Y), flood(&[P2], true));
        assert_eq!(bridge.decide(Place::Router, Y), flood(&[P1, P2], false));
        bridge.learn(at(0), X, Place::Port(P1));
        assert_eq!(bridge.decide(Place::Port(P2), X), Verdict::To(Place::Port(P1)));
        assert_eq!(bridge.decide(Place::Port(P1), X), Verdict::Stay);
        assert!(bridge.remove_port(P1) && !bridge.remove_port(P1));
        assert_eq!(bridge.decide(Place::Port(P2), X), flood(&[], true));
    }

    #[test]
    fn a_station_moves_at_once_but_not_by_its_own_echo() {
        let mut bridge = bridge();
        assert!(!bridge.learn(at(0), X, Place::Port(P1)));
        assert!(bridge.learn(at(0), X, Place::Router), "it is elsewhere in the mesh now");
        assert!(!bridge.learn(at(2), X, Place::Port(P1)), "a moment later");
        assert_eq!(bridge.decide(Place::Port(P2), X), Verdict::To(Place::Router));
        assert!(bridge.learn(at(3), X, Place::Port(P1)), "it came back");
        assert!(bridge.learn(at(3), X, Place::Port(P2)), "from port to port");
    }

    #[test]
    fn it_can_do_without_a_router_for_what_stays_between_its_ports() {
        let bridge = bridge();
        let flow = |port| FlowMatch::new(port, weave_odp::Masked::<weave_odp::Ethernet>::ANY);
        let out = |number| Action::Output(PortNumber(number));
        assert!(bridge.keeps(&flow(P1), &[out(2)]));
        assert!(!bridge.keeps(&flow(P1), &[out(2), out(9)]), "into a tunnel");
        assert!(!bridge.keeps(&flow(P1), &[]), "why it is dropped may be over");
        assert!(!bridge.keeps(&flow(PortNumber(9)), &[out(2)]), "from a tunnel");
    }

    #[test]
    fn groups_are_no_stations_and_silent_stations_are_forgotten() {
        let mut bridge = bridge();
        bridge.learn(at(0), MacAddress::BROADCAST, Place::Port(P1));
        bridge.learn(at(0), MacAddress::ZERO, Place::Port(P1));
        assert!(bridge.stations.is_empty());
        bridge.learn(at(0), X, Place::Port(P1));
        bridge.learn(at(300), Y, Place::Port(P1));
        bridge.sweep(at(601));
        assert!(!bridge.stations.contains_key(&X) && bridge.stations.contains_key(&Y));
    }
}
