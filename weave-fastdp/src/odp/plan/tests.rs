//! ```text
//!  port 1 ┐
//!         ├ bridge ─ 1 (own) ─── 2 (tunnel, vport 9)
//!  port 2 ┘             └─────── 3 (sleeve) ─── 4
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use weave_core::mesh::{ConnectionId, PeerName, ShortId, ShortIdTable};
use weave_core::switch::{Envelope, Forwarded, NeighbourLinks, Topology, WorkerId};
use weave_core::time::Instant;

use super::*;
use crate::engine::{Inbox, TunnelParams};

const X: MacAddress = MacAddress([2, 0xaa, 0, 0, 0, 1]);
const Y: MacAddress = MacAddress([2, 0xbb, 0, 0, 0, 2]);
const P1: PortNumber = PortNumber(1);
const P2: PortNumber = PortNumber(2);
const VXLAN: PortNumber = PortNumber(9);
const OWN: PortNumber = PortNumber(8);
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const START: Instant = Instant::ORIGIN;

fn peer(number: u8) -> PeerName {
    PeerName::from_bytes([2, 0, 0, 0, 0, number])
}

struct Mesh;

impl Topology for Mesh {
    fn next_hops(&self) -> Vec<(PeerName, PeerName)> {
        [(2, 2), (3, 3), (4, 3)].map(|(to, hop)| (peer(to), peer(hop))).into()
    }

    fn broadcast(&self, source: PeerName) -> Vec<PeerName> {
        match source.to_bytes()[5] {
            1 => vec![peer(2), peer(3)],
            2 => vec![peer(3)],
            _ => vec![peer(2)],
        }
    }

    fn knows(&self, name: PeerName) -> bool {
        (1..=4).any(|number| name == peer(number))
    }
}

struct Link;

impl Forwarder for Link {
    fn forward(&self, _: WorkerId, _: Envelope<'_>) -> Forwarded {
        Forwarded::Taken
    }

    fn flush(&self, _: WorkerId) {}
}

struct Deaf;

impl Inbox for Deaf {
    fn special(&self, _: &[u8]) -> bool {
        true
    }
    fn failed(&self, _: String) {}
}

fn road(number: u8, sealed: bool) -> Road {
    let params = TunnelParams {
        connection: ConnectionId(number.into()),
        remote: peer(number),
        local_address: HERE,
        remote_address: Ipv4Addr::new(192, 0, 2, number),
        port: 6784,
        sealed,
    };
    Road::new(params, VXLAN, Arc::new(Deaf))
}

struct Setup {
    switch: Switch,
    table: ForwardingTable,
    bridge: Bridge,
    roads: Roads,
    own_port: Option<PortNumber>,
}

impl Setup {
    /// Neighbours with these numbers have tunnels of their own.
    fn new(tunnels: &[u8]) -> Self {
        let mut roads = Roads::default();
        // The short id of a peer is its number.
        let ids = (1..=4).map(|n| (ShortId::new(n.into()).unwrap(), peer(n)));
        roads.ids = Arc::new(ShortIdTable::new(ids));
        let mut links = Vec::new();
        for number in [2, 3] {
            let forwarder: Arc<dyn Forwarder> = Arc::new(Link);
            if tunnels.contains(&number) {
                let road = road(number, false);
                road.is_served_by(&forwarder);
                assert!(road.carry(true));
                roads.by_neighbour.insert(peer(number), Arc::new(road));
            }
            // Something else is in reserve.
            let forwarders = vec![forwarder, Arc::new(Link) as Arc<dyn Forwarder>];
            links.push(NeighbourLinks { name: peer(number), forwarders });
        }
        let mut bridge = Bridge::default();
        bridge.add_port(P1);
        bridge.add_port(P2);
        let table = ForwardingTable::new(peer(1), Arc::new(Mesh), links);
        Self { switch: Switch::new(peer(1), 1), table, bridge, roads, own_port: None }
    }

    /// A station of this router.
    fn local(&mut self, station: MacAddress, port: PortNumber) {
        self.bridge.learn(START, station, Place::Port(port));
        self.switch.refresh_station(START, station, peer(1));
    }

    fn remote(&mut self, station: MacAddress, number: u8) {
        self.bridge.learn(START, station, Place::Router);
        self.switch.refresh_station(START, station, peer(number));
    }

    fn plan(&self, input: &Input) -> Plan {
        let Self { switch, table, bridge, roads, own_port } = self;
        Planner { switch, table, bridge, roads, own_port: *own_port }.plan(input)
    }
}

impl Setup {
    fn revise(&self, flow: &Flow) -> Option<Vec<Action>> {
        let Self { switch, table, bridge, roads, own_port } = self;
        let planner = Planner { switch, table, bridge, roads, own_port: *own_port };
        planner.revise(&flow.matches, &flow.actions)
    }
}

fn captured(port: PortNumber, source: MacAddress, destination: MacAddress) -> Input {
    Input { port, tunnel: None, tag: None, addresses: Some(Addresses { source, destination }) }
}

fn tunnel(source: u16, destination: u16) -> Tunnel {
    let id = u64::from(source) | u64::from(destination) << 12;
    Tunnel { id, source: THERE, destination: HERE, ttl: 64, ..Tunnel::ZERO }
}

fn received(ends: (u16, u16), source: MacAddress, destination: MacAddress) -> Input {
    let addresses = Some(Addresses { source, destination });
    Input { port: VXLAN, tunnel: Some(tunnel(ends.0, ends.1)), tag: None, addresses }
}

/// What sends into the tunnel to a neighbour, in the name of these peers.
fn into(neighbour: u8, source: u64, destination: u64) -> [Action; 2] {
    let tunnel = Tunnel {
        id: source | destination << 12,
        source: HERE,
        destination: Ipv4Addr::new(192, 0, 2, neighbour),
        ttl: 64,
        dont_fragment: true,
        ..Tunnel::ZERO
    };
    [Action::SetTunnel(tunnel), Action::Output(VXLAN)]
}

fn out(port: PortNumber) -> Action {
    Action::Output(port)
}

#[test]
fn a_station_behind_a_tunnel_has_a_flow_of_its_own() {
    let mut setup = Setup::new(&[2, 3]);
    setup.local(X, P1);
    setup.remote(Y, 2);
    let input = captured(P1, X, Y);
    let flow = setup.plan(&input).flow(&input).unwrap();
    assert_eq!(flow.actions, into(2, 1, 2));
    let ethernet = Ethernet { source: X.0, destination: Y.0 };
    assert_eq!(flow.matches, FlowMatch::new(P1, Masked::exact(ethernet)));
    assert_eq!(Input::of_flow(&flow.matches), Some(input), "a flow says what it was made for");
    // Tagged packets are others, and their flow is another.
    let tagged = Input { tag: Some(0x8100), ..input };
    let other = setup.plan(&tagged).flow(&tagged).unwrap();
    assert_eq!((other.matches.tag, &other.actions), (Some(0x8100), &flow.actions));
    assert_eq!(Input::of_flow(&other.matches), Some(tagged));
    // Two hops away it is the same, by the first of them.
    setup.remote(Y, 4);
    assert_eq!(setup.plan(&input).actions(), into(3, 1, 4));
}

#[test]
fn local_stations_have_flows_and_are_nobody_elses_business() {
    let mut setup = Setup::new(&[2, 3]);
    setup.local(X, P1);
    setup.local(Y, P2);
    let input = captured(P1, X, Y);
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, [out(P2)]);
    // On one port: their bridge has brought it there already.
    setup.local(Y, P1);
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, []);
}

#[test]
fn groups_are_flooded_by_flows_and_unknown_stations_are_not() {
    let mut setup = Setup::new(&[2, 3]);
    setup.local(X, P1);
    let everywhere = [&[out(P2)][..], &into(2, 1, 2), &into(3, 1, 3)].concat();
    let input = captured(P1, X, MacAddress::BROADCAST);
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, everywhere);
    let input = captured(P1, X, Y);
    let plan = setup.plan(&input);
    assert_eq!((plan.actions(), plan.veto), (everywhere, Some(Veto::Unknown)));
    assert_eq!(plan.flow(&input), None);
}

#[test]
fn another_transport_on_the_same_packet_means_no_flow() {
    let mut setup = Setup::new(&[2]);
    setup.local(X, P1);
    let input = captured(P1, X, MacAddress::BROADCAST);
    let plan = setup.plan(&input);
    assert_eq!((plan.by_hand, plan.veto), (true, Some(Veto::Foreign)));
    assert_eq!((&plan.local[..], plan.flow(&input)), (&[out(P2)][..], None));
    // The same for a tunnel that may not be used by the kernel alone, or has lost its place.
    setup.remote(Y, 2);
    let input = captured(P1, X, Y);
    assert!(setup.plan(&input).flow(&input).is_some());
    setup.roads.by_neighbour[&peer(2)].carry(false);
    assert!(setup.plan(&input).by_hand);
    setup.roads.by_neighbour[&peer(2)].carry(true);
    setup.roads.by_neighbour[&peer(2)].is_served_by(&(Arc::new(Link) as Arc<dyn Forwarder>));
    assert!(setup.plan(&input).by_hand);
}

#[test]
fn what_other_transports_carry_goes_to_the_port_of_the_router_by_flows() {
    let mut setup = Setup::new(&[2]);
    setup.own_port = Some(OWN);
    setup.local(X, P1);
    setup.remote(Y, 3);
    let input = captured(P1, X, Y);
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, [out(OWN)]);
    // One of two is enough: the router sends it to both.
    let input = captured(P1, X, MacAddress::BROADCAST);
    let plan = setup.plan(&input);
    assert_eq!(plan.flow(&input).unwrap().actions, [out(P2), out(OWN)]);
    assert!(!plan.by_hand);
    // Nobody knows where that one is: no flow floods for ever.
    let input = captured(P1, X, MacAddress([2, 0xcc, 0, 0, 0, 1]));
    let plan = setup.plan(&input);
    assert_eq!((plan.actions(), plan.veto), (vec![out(P2), out(OWN)], Some(Veto::Unknown)));
    // What came through a tunnel is told to the router with its tunnel.
    let input = received((2, 1), Y, MacAddress::BROADCAST);
    assert!(setup.plan(&input).by_hand);
}

#[test]
fn what_the_router_gives_goes_to_local_stations_alone() {
    let mut setup = Setup::new(&[2]);
    setup.own_port = Some(OWN);
    setup.local(X, P1);
    setup.remote(Y, 2);
    let input = captured(OWN, Y, X);
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, [out(P1)]);
    let input = captured(OWN, Y, MacAddress::BROADCAST);
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, [out(P1), out(P2)]);
    let input = captured(OWN, X, Y);
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, []);
}

#[test]
fn received_packets_are_delivered_and_sent_on() {
    let mut setup = Setup::new(&[2, 3]);
    setup.remote(Y, 2);
    setup.local(X, P1);
    let input = received((2, 1), Y, X);
    let flow = setup.plan(&input).flow(&input).unwrap();
    assert_eq!(flow.actions, [out(P1)]);
    assert_eq!(flow.matches.tunnel, Some(Masked::<Tunnel>::ends(tunnel(2, 1))));
    let input = received((2, 1), Y, MacAddress::BROADCAST);
    let all = [&[out(P1), out(P2)][..], &into(3, 2, 3)].concat();
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, all);
}

#[test]
fn a_relay_has_one_flow_for_all_addresses() {
    let setup = Setup::new(&[2, 3]);
    let input = received((2, 4), Y, X);
    let flow = setup.plan(&input).flow(&input).unwrap();
    assert_eq!(flow.actions, into(3, 2, 4));
    assert_eq!(flow.matches.ethernet, Masked::<Ethernet>::ANY);
    let again = Input::of_flow(&flow.matches).unwrap();
    assert_eq!(
        again,
        Input { addresses: None, tunnel: Some(Tunnel { ttl: 0, ..tunnel(2, 4) }), ..input }
    );
    assert_eq!(setup.plan(&again).flow(&again), Some(flow), "asked again without a packet");
}

#[test]
fn what_is_dropped_for_good_has_a_flow_and_what_may_pass_has_none() {
    let mut setup = Setup::new(&[2, 3]);
    setup.local(X, P1);
    let spanning_tree = MacAddress([0x01, 0x80, 0xc2, 0, 0, 0]);
    let input = captured(P1, X, spanning_tree);
    // Local ports of the bridge get it all the same: it is theirs.
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, [out(P2)]);
    // A frame of this router on its way round.
    let input = received((1, 1), X, MacAddress::BROADCAST);
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, []);
    // It came from where it would have to go.
    let input = received((3, 2), Y, X);
    assert_eq!(setup.plan(&input).flow(&input).unwrap().actions, []);
    // Peers that nobody knows may become known.
    let input = received((7, 1), Y, X);
    assert_eq!(
        (setup.plan(&input).veto, setup.plan(&input).flow(&input)),
        (Some(Veto::Stranger), None)
    );
}

#[test]
fn a_packet_never_goes_back_into_its_tunnel() {
    let came = Tunnel { id: 2 | 1 << 12, source: THERE, destination: HERE, ..Tunnel::ZERO };
    let plan = Plan {
        remote: vec![
            Action::SetTunnel(Tunnel { id: came.id, source: HERE, destination: THERE, ..came }),
            out(VXLAN),
        ],
        ..Plan::default()
    };
    let input = Input { port: VXLAN, tunnel: Some(came), tag: None, addresses: None };
    assert!(plan.turns_back(&input));
    let plan = Plan { local: vec![out(P1)], ..Plan::default() };
    assert!(plan.turns_back(&captured(P1, X, Y)));
    assert!(!plan.turns_back(&captured(P2, X, Y)));
}

#[test]
fn peers_that_share_a_short_id_have_no_flows_and_the_others_keep_theirs() {
    let mut setup = Setup::new(&[2, 3]);
    let other = MacAddress([2, 0xcc, 0, 0, 0, 3]);
    setup.local(X, P1);
    setup.remote(Y, 2);
    setup.remote(other, 3);
    let inputs = [captured(P1, X, Y), captured(P1, X, other), received((2, 1), Y, X)];
    let before = inputs.map(|input| setup.plan(&input).flow(&input));
    assert!(before.iter().all(Option::is_some));
    // Another peer has taken the number of 2, which is nobody's until one of them has a new one.
    let ids = [1, 3, 4].map(|n| (ShortId::new(n.into()).unwrap(), peer(n)));
    setup.roads.ids = Arc::new(ShortIdTable::new(ids));
    let plans = inputs.map(|input| setup.plan(&input));
    assert_eq!(
        plans.each_ref().map(|plan| plan.veto),
        [Some(Veto::Foreign), None, Some(Veto::Stranger)]
    );
    assert!(plans[0].by_hand, "the sleeve knows peers by their names");
    assert_eq!(plans[1].flow(&inputs[1]), before[1]);
    // The new one.
    let ids = [(1, 1), (9, 2), (3, 3), (4, 4)];
    let ids = ids.map(|(id, n)| (ShortId::new(id).unwrap(), peer(n)));
    setup.roads.ids = Arc::new(ShortIdTable::new(ids));
    assert_eq!(setup.plan(&inputs[0]).actions(), into(2, 1, 9));
}

#[test]
fn a_change_of_routes_leaves_other_flows_alone() {
    let mut setup = Setup::new(&[2, 3]);
    setup.local(X, P1);
    let mut flows = BTreeMap::new();
    for number in [2, 4] {
        let station = MacAddress([2, 0xcc, 0, 0, 0, number]);
        setup.remote(station, number);
        let input = captured(P1, X, station);
        flows.insert(number, (input, setup.plan(&input).flow(&input)));
    }
    assert!(flows.values().all(|(_, flow)| flow.is_some()));
    let before = flows.clone();
    // The tunnel to 3, by which 4 was reached, may not be used any more.
    setup.roads.by_neighbour[&peer(3)].carry(false);
    for (number, (input, flow)) in &before {
        let now = setup.plan(input).flow(input);
        assert_eq!(now == *flow, *number == 2, "{number}");
    }
    // Looking again teaches nothing: a station that moved stays where it is.
    let gone = MacAddress([2, 0xcc, 0, 0, 0, 2]);
    setup.switch.refresh_station(START + Duration::from_secs(1), gone, peer(4));
    let old = received((2, 1), gone, X);
    assert!(setup.plan(&old).flow(&old).is_some());
    assert_eq!(setup.switch.macs().lookup(gone), Some(peer(4)));
}

#[test]
fn a_sealed_tunnel_is_from_one_address() {
    let mut setup = Setup::new(&[2]);
    let from = |last| Tunnel { source: Ipv4Addr::new(192, 0, 2, last), ..tunnel(2, 1) };
    let sender = |setup: &Setup, last| setup.roads.sender(&from(last)).map(|it| it.neighbour);
    assert_eq!([2, 99].map(|last| sender(&setup, last)), [Some(peer(2)); 2], "it may move");
    setup.roads.by_neighbour.insert(peer(2), Arc::new(road(2, true)));
    assert_eq!([2, 99].map(|last| sender(&setup, last)), [Some(peer(2)), None]);
}

#[test]
fn the_first_and_the_last_mile_outlive_a_connection_for_a_moment() {
    let mut setup = Setup::new(&[2, 3]);
    setup.local(X, P1);
    setup.remote(Y, 2);
    let flow = |input: Input| setup.plan(&input).flow(&input).unwrap();
    let there = flow(captured(P1, X, Y));
    let back = flow(received((2, 1), Y, X));
    let everybody = flow(captured(P1, X, MacAddress::BROADCAST));
    let relayed = flow(received((2, 3), Y, X));

    // The neighbour is gone, and with it what was known of it.
    let mut later = Setup::new(&[3]);
    later.local(X, P1);
    later.roads.ids = Arc::new(ShortIdTable::new([(ShortId::new(1).unwrap(), peer(1))]));
    assert_eq!(later.revise(&there), None);
    later.roads.end(START, THERE);
    assert_eq!(later.revise(&there), Some(there.actions.clone()));
    assert_eq!(later.revise(&back), Some(back.actions.clone()));
    assert_ne!(later.revise(&everybody), Some(everybody.actions.clone()));
    assert_eq!(later.revise(&relayed), None, "it might go round");

    // The station is elsewhere now: nobody waits for the neighbour.
    later.roads.ids = Arc::clone(&setup.roads.ids);
    later.remote(Y, 3);
    assert_eq!(later.revise(&there), Some(into(3, 1, 3).to_vec()));

    // The neighbour is back with another short id, and may not yet have noticed that we are.
    let mut back_again = Setup::new(&[2, 3]);
    back_again.local(X, P1);
    let ids = [(1, 1), (9, 2), (3, 3)].map(|(id, n)| (ShortId::new(id).unwrap(), peer(n)));
    back_again.roads.ids = Arc::new(ShortIdTable::new(ids));
    back_again.roads.end(START, THERE);
    assert_eq!(back_again.revise(&there), None, "who misses the flow is flooded, and gets there");
    assert_eq!(back_again.revise(&back), Some(back.actions.clone()));
    let end = back_again.roads.next_to_forget().unwrap();
    back_again.roads.forget_ended(end);
    assert_eq!(back_again.revise(&back), None);
}
