//! The one forwarding decision (spec router.md, section 3).
//!
//! Capture, sleeve and fastdp all ask here; none of them decides for itself. An answer depends on
//! the table, the stations known, and what is passed in, on nothing else, so that fastdp can turn
//! it into a kernel flow. The numbers in comments are those of the specification.
//!
//! Six mends of what Weave Net does, none of which a neighbour can tell from a lost frame:
//!
//! * A source address with the group bit set, or zero, is never learnt; such frames are dropped.
//!   A container could otherwise claim the broadcast address and with it everybody's broadcasts.
//! * A frame that this router captured and that comes back for it is dropped. Injected, it would
//!   make the bridge believe that its sender is on the other side of the overlay.
//! * A frame never leaves by the link it came in on. While the tables of two neighbours differ,
//!   each may think that the other is nearer to the destination.
//! * A frame is not relayed for a neighbour that is no farther from the destination, which has no
//!   reason to send it here. When a neighbour loses a link of its own, that is so until the news of
//!   it arrives a moment later. But where all routers are connected to each other, no frame goes
//!   round in a circle among three of them or more, however much their tables differ.
//! * A frame is relayed [`MAX_RELAYS`] times at most, as far as the links on its way count that. It
//!   is the bound where routers are not all connected to each other.
//! * A flooded frame is passed on only if it came from the neighbour from which the own table
//!   expects the broadcasts of its source. So each router passes on one copy of it for each that
//!   this neighbour sends, and copies cannot multiply while tables differ.

use super::mac_table::{Learned, MacTable};
use super::table::{ForwardingTable, Hops, Neighbour, NextHop};
use crate::mesh::PeerName;
use crate::time::Instant;
use crate::wire::MacAddress;

/// How often a frame can be relayed: enough for a line of 33 routers.
pub const MAX_RELAYS: u8 = 31;

/// Frames for this address stay on their bridge (IEEE 802.1D, table 7-10).
const SPANNING_TREE: MacAddress = MacAddress([0x01, 0x80, 0xc2, 0, 0, 0]);

/// The addresses that a decision looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// Who sent the frame.
    pub source: MacAddress,
    /// For whom it is.
    pub destination: MacAddress,
}

impl Addresses {
    /// Those of a frame; `None` if it is too short for an Ethernet header.
    pub const fn of(frame: &[u8]) -> Option<Self> {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, _, _, ..] = *frame else {
            return None;
        };
        Some(Self {
            source: MacAddress([s0, s1, s2, s3, s4, s5]),
            destination: MacAddress([d0, d1, d2, d3, d4, d5]),
        })
    }

    /// Whether they are those of a frame of a link itself, a heartbeat or a probe, rather than of a
    /// station's: both are zero (spec sleeve.md; fastdp.md, section 7).
    pub fn is_special(self) -> bool {
        self.source == MacAddress::ZERO && self.destination == MacAddress::ZERO
    }
}

/// How a frame came in over an overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The neighbour whose link it came over.
    pub neighbour: PeerName,
    /// The peer that captured it.
    pub source: PeerName,
    /// The peer that is to inject it.
    pub destination: PeerName,
    /// How often it was relayed before it came here, as far as that is known: transports that do
    /// not carry the number say 0.
    pub relays: u8,
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'t> {
    /// What its source address taught.
    pub learned: Learned,
    /// Give it to the local bridge.
    pub inject: bool,
    /// Send it on.
    pub onward: Onward<'t>,
}

/// Where a frame goes from here.
#[derive(Clone, Copy, Debug)]
pub enum Onward<'t> {
    /// It stays here.
    Nowhere,
    /// It stays here, though there are neighbours that do not get it from anyone else.
    Withheld(DropCause),
    /// To one peer.
    Unicast {
        /// The peer that captured it.
        source: PeerName,
        /// The peer that is to inject it.
        destination: PeerName,
        /// The neighbour that leads there.
        hop: &'t Neighbour,
    },
    /// To every neighbour of these, with that neighbour as the destination.
    Flood {
        /// The peer that captured it.
        source: PeerName,
        /// The neighbours.
        hops: Hops<'t>,
    },
}

/// Why a frame went nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DropCause {
    /// Shorter than an Ethernet header.
    Short,
    /// Received on behalf of a peer that is not in the mesh (spec sleeve.md, section 3).
    UnknownPeer,
    /// A source address that no station can have.
    InvalidSource,
    /// Captured here, though heard behind another peer a moment ago.
    Conflict,
    /// Received, though its source is attached here, or was heard behind another peer a moment ago.
    Contested,
    /// Spanning tree stays on its bridge.
    SpanningTree,
    /// Local traffic that the bridge flooded. Not a fault.
    Local,
    /// A frame of this router came back to it.
    Loop,
    /// The next hop is where it came from.
    Hairpin,
    /// It came from a neighbour that is no farther from the destination.
    NoDetour,
    /// It was relayed as often as a frame can be.
    HopLimit,
    /// A flooded frame that came from another neighbour than the broadcasts of its source do: it
    /// was injected, but not passed on.
    ReversePath,
    /// No peer of that name is reachable.
    NoRoute,
    /// The next hop has no connection (any more).
    NoLink,
    /// No transport of the connection takes frames now.
    Refused,
    /// A flooded frame, or a report about one that was too big, does not fit.
    TooBig,
    /// The link dropped it, and counted it with its own reason.
    Link,
}

impl DropCause {
    /// All of them, in order.
    pub const ALL: [Self; 17] = [
        Self::Short,
        Self::UnknownPeer,
        Self::InvalidSource,
        Self::Conflict,
        Self::Contested,
        Self::SpanningTree,
        Self::Local,
        Self::Loop,
        Self::Hairpin,
        Self::NoDetour,
        Self::HopLimit,
        Self::ReversePath,
        Self::NoRoute,
        Self::NoLink,
        Self::Refused,
        Self::TooBig,
        Self::Link,
    ];

    /// The name in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::UnknownPeer => "unknown_peer",
            Self::InvalidSource => "invalid_source",
            Self::Conflict => "mac_conflict",
            Self::Contested => "mac_contested",
            Self::SpanningTree => "spanning_tree",
            Self::Local => "local",
            Self::Loop => "loop",
            Self::Hairpin => "hairpin",
            Self::NoDetour => "no_detour",
            Self::HopLimit => "hop_limit",
            Self::ReversePath => "reverse_path",
            Self::NoRoute => "no_route",
            Self::NoLink => "no_link",
            Self::Refused => "refused",
            Self::TooBig => "too_big",
            Self::Link => "link",
        }
    }
}

/// 3.1: a frame was captured on the local bridge.
///
/// # Errors
/// It goes nowhere; why.
pub fn captured<'t>(
    table: &'t ForwardingTable,
    macs: &MacTable,
    now: Instant,
    addresses: Addresses,
) -> Result<Decision<'t>, DropCause> {
    check_source(addresses.source)?;
    // Step 1.
    let learned =
        macs.learn_captured(now, addresses.source, table.own()).map_err(|_| DropCause::Conflict)?;
    let home = |station| macs.lookup_to_send(now, station);
    Ok(Decision { learned, ..to_station(table, addresses, home)? })
}

/// What [`captured`] decides for further frames with these addresses, without learning anything:
/// for what was derived from a decision, when it may have changed.
///
/// # Errors
/// They go nowhere; why.
pub fn peek_captured<'t>(
    table: &'t ForwardingTable,
    macs: &MacTable,
    addresses: Addresses,
) -> Result<Decision<'t>, DropCause> {
    check_source(addresses.source)?;
    to_station(table, addresses, |station| macs.lookup(station))
}

fn to_station(
    table: &ForwardingTable,
    addresses: Addresses,
    home: impl FnOnce(MacAddress) -> Option<PeerName>,
) -> Result<Decision<'_>, DropCause> {
    let own = table.own();
    // Step 2.
    if addresses.destination == SPANNING_TREE {
        return Err(DropCause::SpanningTree);
    }
    // Step 3.
    let onward = match home(addresses.destination) {
        Some(peer) if peer == own => return Err(DropCause::Local),
        Some(peer) => unicast(table, own, peer)?,
        None => Onward::Flood { source: own, hops: table.flood(own) },
    };
    Ok(Decision { learned: Learned::Known, inject: false, onward })
}

/// 3.2: a frame came in over an overlay.
///
/// # Errors
/// It goes nowhere; why.
pub fn received<'t>(
    table: &'t ForwardingTable,
    macs: &MacTable,
    now: Instant,
    arrival: Arrival,
    addresses: Addresses,
) -> Result<Decision<'t>, DropCause> {
    let decision = peek_received(table, macs, arrival, addresses)?;
    if arrival.destination != table.own() {
        return Ok(decision);
    }
    // Step 3. The source teaches nothing about where the destination is, unless they are one.
    let learned = macs
        .learn_received(now, addresses.source, arrival.source, table.own())
        .map_err(|_| DropCause::Contested)?;
    if addresses.source == addresses.destination {
        return Ok(Decision { learned, ..peek_received(table, macs, arrival, addresses)? });
    }
    Ok(Decision { learned, ..decision })
}

/// What [`received`] decides for further frames like this one, without learning anything.
///
/// # Errors
/// They go nowhere; why.
pub fn peek_received<'t>(
    table: &'t ForwardingTable,
    macs: &MacTable,
    arrival: Arrival,
    addresses: Addresses,
) -> Result<Decision<'t>, DropCause> {
    let own = table.own();
    if !table.knows(arrival.source) {
        return Err(DropCause::UnknownPeer);
    }
    // Step 2.
    if arrival.destination != own {
        let onward = unicast(table, arrival.source, arrival.destination)?;
        if let Onward::Unicast { hop, .. } = onward
            && hop.name() == arrival.neighbour
        {
            return Err(DropCause::Hairpin);
        }
        if !table.leads_on(arrival.neighbour, arrival.destination) {
            return Err(DropCause::NoDetour);
        }
        if arrival.relays >= MAX_RELAYS {
            return Err(DropCause::HopLimit);
        }
        return Ok(Decision { learned: Learned::Known, inject: false, onward });
    }
    // Step 1, see the module's documentation.
    if arrival.source == own {
        return Err(DropCause::Loop);
    }
    check_source(addresses.source)?;
    // Steps 4 and 5.
    let onward = if macs.lookup(addresses.destination) == Some(own) {
        Onward::Nowhere
    } else {
        flood_on(table, arrival)
    };
    Ok(Decision { learned: Learned::Known, inject: true, onward })
}

/// A frame that this router made as an answer to one it could not forward: it travels from
/// `source` to `destination` as if it had been received, but teaches nothing.
///
/// # Errors
/// It goes nowhere; why.
pub(super) fn answered(
    table: &ForwardingTable,
    source: PeerName,
    destination: PeerName,
) -> Result<Decision<'_>, DropCause> {
    let here = destination == table.own();
    let onward = if here { Onward::Nowhere } else { unicast(table, source, destination)? };
    Ok(Decision { learned: Learned::Known, inject: here, onward })
}

/// 3.3: forward or relay.
fn unicast(
    table: &ForwardingTable,
    source: PeerName,
    destination: PeerName,
) -> Result<Onward<'_>, DropCause> {
    match table.next_hop(destination) {
        NextHop::Via(hop) => Ok(Onward::Unicast { source, destination, hop }),
        NextHop::NoRoute => Err(DropCause::NoRoute),
        NextHop::NoLink => Err(DropCause::NoLink),
    }
}

/// 3.4: relay a broadcast.
fn flood_on(
    table: &ForwardingTable,
    Arrival { neighbour, source, relays, .. }: Arrival,
) -> Onward<'_> {
    let hops = table.flood(source).except(neighbour);
    if hops.is_empty() {
        Onward::Nowhere
    } else if !table.expects_floods(source, neighbour) {
        Onward::Withheld(DropCause::ReversePath)
    } else if relays >= MAX_RELAYS {
        Onward::Withheld(DropCause::HopLimit)
    } else {
        Onward::Flood { source, hops }
    }
}

fn check_source(source: MacAddress) -> Result<(), DropCause> {
    if source.is_multicast() || source == MacAddress::ZERO {
        Err(DropCause::InvalidSource)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::Forwarded;
    use super::super::table::NeighbourLinks;
    use super::super::table::fixture::{Recorder, Routes, peer};
    use super::*;

    const X: MacAddress = MacAddress([2, 0xaa, 0, 0, 0, 1]);
    const Y: MacAddress = MacAddress([2, 0xaa, 0, 0, 0, 2]);

    /// ```text
    /// 2 ─── 1 (own) ─── 3 ─── 4
    /// ```
    /// 5 has a route over 6, which has no connection.
    fn table() -> ForwardingTable {
        let routes = Routes {
            next_hops: [(2, 2), (3, 3), (4, 3), (5, 6)].map(|(a, b)| (peer(a), peer(b))).into(),
            broadcast: [
                (peer(1), vec![peer(2), peer(3)]),
                (peer(2), vec![peer(3)]),
                (peer(4), vec![peer(2), peer(3)]),
            ]
            .into(),
            ..Routes::default()
        };
        let links = [2, 3].map(|n| NeighbourLinks {
            name: peer(n),
            forwarders: vec![Recorder::new(Forwarded::Accepted)],
        });
        ForwardingTable::new(peer(1), Arc::new(routes), links.into())
    }

    fn at(seconds: u64) -> Instant {
        Instant::since_origin(Duration::from_secs(seconds))
    }

    fn from(source: MacAddress, destination: MacAddress) -> Addresses {
        Addresses { source, destination }
    }

    /// `inject` and the text of where it goes.
    fn outcome(decision: Result<Decision<'_>, DropCause>) -> (bool, String) {
        let number = |name: PeerName| name.to_bytes()[5];
        match decision {
            Err(cause) => (false, format!("drop {}", cause.name())),
            Ok(Decision { inject, onward, .. }) => {
                let text = match onward {
                    Onward::Nowhere => String::new(),
                    Onward::Withheld(cause) => format!("withheld {}", cause.name()),
                    Onward::Unicast { source, destination, hop } => format!(
                        "{} to {} via {}",
                        number(source),
                        number(destination),
                        number(hop.name())
                    ),
                    Onward::Flood { source, hops } => {
                        let hops: Vec<_> = hops.iter().map(|hop| number(hop.name())).collect();
                        format!("flood {} to {hops:?}", number(source))
                    }
                };
                (inject, text)
            }
        }
    }

    fn arrival(neighbour: u8, source: u8, destination: u8) -> Arrival {
        let (source, destination) = (peer(source), peer(destination));
        Arrival { neighbour: peer(neighbour), source, destination, relays: 0 }
    }

    #[test]
    fn captured_frames() {
        let (table, macs) = (table(), MacTable::new(1));
        let ask = |s, d| outcome(captured(&table, &macs, at(0), from(s, d)));
        assert_eq!(ask(X, Y), (false, "flood 1 to [2, 3]".into()));
        assert_eq!(macs.lookup(X), Some(peer(1)));
        assert_eq!(ask(X, MacAddress::BROADCAST), (false, "flood 1 to [2, 3]".into()));
        assert_eq!(ask(X, SPANNING_TREE), (false, "drop spanning_tree".into()));
        assert_eq!(ask(Y, X), (false, "drop local".into()));
        for (number, expected) in
            [(2, "1 to 2 via 2"), (4, "1 to 4 via 3"), (5, "drop no_link"), (7, "drop no_route")]
        {
            let station = MacAddress([2, 0xbb, 0, 0, 0, number]);
            macs.learn_received(at(0), station, peer(number), peer(1)).unwrap();
            assert_eq!(ask(X, station), (false, expected.into()));
        }
    }

    #[test]
    fn captured_frames_of_a_station_just_heard_elsewhere_are_dropped() {
        let (table, macs) = (table(), MacTable::new(1));
        macs.learn_received(at(0), X, peer(2), peer(1)).unwrap();
        let ask = |now| outcome(captured(&table, &macs, now, from(X, Y)));
        assert_eq!(ask(at(1)), (false, "drop mac_conflict".into()));
        assert_eq!(ask(at(4)), (false, "flood 1 to [2, 3]".into()));
    }

    #[test]
    fn sources_that_no_station_can_have_are_not_learnt() {
        let (table, macs) = (table(), MacTable::new(1));
        for source in [MacAddress::BROADCAST, MacAddress::ZERO, SPANNING_TREE] {
            let captured = captured(&table, &macs, at(0), from(source, X));
            assert_eq!(outcome(captured).1, "drop invalid_source");
            let received = received(&table, &macs, at(0), arrival(2, 2, 1), from(source, X));
            assert_eq!(outcome(received).1, "drop invalid_source");
        }
        assert!(macs.is_empty());
    }

    #[test]
    fn received_frames() {
        let (table, macs) = (table(), MacTable::new(1));
        let ask = |a, s, d| outcome(received(&table, &macs, at(0), a, from(s, d)));
        // Not known to be local: injected, and flooded on.
        assert_eq!(ask(arrival(2, 2, 1), Y, X), (true, "flood 2 to [3]".into()));
        assert_eq!(macs.lookup(Y), Some(peer(2)));
        macs.learn_captured(at(0), X, peer(1)).unwrap();
        assert_eq!(ask(arrival(2, 2, 1), Y, X), (true, String::new()));
        // Believed behind another peer: flooded on all the same.
        let z = MacAddress([2, 0xaa, 0, 0, 0, 3]);
        assert_eq!(ask(arrival(2, 2, 1), z, Y), (true, "flood 2 to [3]".into()));
        assert_eq!(macs.lookup(z), Some(peer(2)));
    }

    #[test]
    fn received_frames_of_a_station_that_speaks_elsewhere_go_nowhere() {
        let (table, macs) = (table(), MacTable::new(1));
        let ask = |now, a| outcome(received(&table, &macs, now, a, from(X, Y)));
        macs.learn_captured(at(0), X, peer(1)).unwrap();
        // The bridge must not learn from them either, nor routers behind this one.
        assert_eq!(ask(at(1), arrival(2, 2, 1)), (false, "drop mac_contested".into()));
        assert_eq!(ask(at(2), arrival(2, 2, 1)), (true, "flood 2 to [3]".into()));
        // Nor is it settled where it is before it was asked.
        assert_eq!(ask(at(3), arrival(3, 4, 1)), (true, "flood 4 to [2]".into()));
        let reply = outcome(captured(&table, &macs, at(4), from(Y, X)));
        assert_eq!(reply, (false, "flood 1 to [2, 3]".into()));
        assert_eq!(ask(at(5), arrival(2, 2, 1)), (true, String::new()));
        assert_eq!(ask(at(5), arrival(3, 4, 1)), (false, "drop mac_contested".into()));
        // What is relayed is for others to judge.
        assert_eq!(ask(at(5), arrival(2, 2, 4)), (false, "2 to 4 via 3".into()));
    }

    #[test]
    fn relayed_frames_teach_nothing() {
        let (table, macs) = (table(), MacTable::new(1));
        let ask = |a| outcome(received(&table, &macs, at(0), a, from(X, Y)));
        assert_eq!(ask(arrival(2, 2, 4)), (false, "2 to 4 via 3".into()));
        assert_eq!(ask(arrival(2, 2, 5)), (false, "drop no_link".into()));
        assert_eq!(ask(arrival(2, 2, 7)), (false, "drop no_route".into()));
        assert_eq!(ask(arrival(2, 7, 1)), (false, "drop unknown_peer".into()));
        // A special case of the same: this router's frame, relayed by it.
        assert_eq!(ask(arrival(2, 1, 4)), (false, "1 to 4 via 3".into()));
        assert!(macs.is_empty());
    }

    #[test]
    fn frames_never_go_back_where_they_came_from() {
        let (table, macs) = (table(), MacTable::new(1));
        let ask = |a| outcome(received(&table, &macs, at(0), a, from(X, Y)));
        assert_eq!(ask(arrival(3, 2, 4)), (false, "drop hairpin".into()));
        assert_eq!(ask(arrival(3, 4, 1)), (true, "flood 4 to [2]".into()));
        assert_eq!(ask(arrival(2, 1, 1)), (false, "drop loop".into()));
        assert_eq!(macs.lookup(X), Some(peer(4)));
    }

    #[test]
    fn frames_are_relayed_up_to_a_limit() {
        let (table, macs) = (table(), MacTable::new(1));
        let ask = |relays, a| {
            let arrival = Arrival { relays, ..a };
            outcome(received(&table, &macs, at(0), arrival, from(Y, X)))
        };
        assert_eq!(ask(MAX_RELAYS - 1, arrival(2, 2, 4)), (false, "2 to 4 via 3".into()));
        assert_eq!(ask(MAX_RELAYS - 1, arrival(2, 2, 1)), (true, "flood 2 to [3]".into()));
        for relays in [MAX_RELAYS, u8::MAX] {
            assert_eq!(ask(relays, arrival(2, 2, 4)), (false, "drop hop_limit".into()));
            // Here it has arrived all the same.
            assert_eq!(ask(relays, arrival(2, 2, 1)), (true, "withheld hop_limit".into()));
            assert_eq!(ask(relays, arrival(3, 2, 1)), (true, String::new()), "nobody is behind");
        }
    }

    #[test]
    fn floods_are_passed_on_only_from_where_they_are_expected() {
        let routes = Routes {
            next_hops: [(2, 2), (3, 3), (4, 4), (7, 2)].map(|(a, b)| (peer(a), peer(b))).into(),
            broadcast: [(peer(7), vec![peer(3)])].into(),
            flood_parents: [(peer(7), peer(2))].into(),
        };
        let links = [2, 3, 4].map(|n| NeighbourLinks {
            name: peer(n),
            forwarders: vec![Recorder::new(Forwarded::Accepted)],
        });
        let table = ForwardingTable::new(peer(1), Arc::new(routes), links.into());
        let macs = MacTable::new(1);
        let ask = |a| outcome(received(&table, &macs, at(0), a, from(Y, X)));
        assert_eq!(ask(arrival(2, 7, 1)), (true, "flood 7 to [3]".into()));
        assert_eq!(ask(arrival(4, 7, 1)), (true, "withheld reverse_path".into()));
        assert_eq!(ask(arrival(3, 7, 1)), (true, String::new()), "there is no other one");
    }

    #[test]
    fn causes_are_listed_in_order() {
        for (index, cause) in DropCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }

    #[test]
    fn addresses_need_a_whole_header() {
        assert_eq!(Addresses::of(&[0; 13]), None);
        let frame: Vec<u8> = (0..14).collect();
        let addresses = Addresses::of(&frame).unwrap();
        assert_eq!(addresses.source, MacAddress([6, 7, 8, 9, 10, 11]));
        assert_eq!(addresses.destination, MacAddress([0, 1, 2, 3, 4, 5]));
    }
}
