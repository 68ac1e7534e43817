//! ```text
//!  port 1 ┐
//!         ├ bridge ─ 1 (own) ─── 2 (tunnel, vport 9)
//!  port 2 ┘             └─────── 3 (sleeve) ─── 4
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use weave_core::mesh::{ConnectionId, PeerName, ShortId, ShortIdTable};
use weave_core::switch::{
    ANSWER, Envelope, Forwarded, ForwarderId, NeighbourLinks, SETTLED, Topology, WorkerId,
};
use weave_core::time::Instant;

use super::*;
use crate::engine::{Inbox, TunnelParams};
use crate::error::TunnelError;

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

struct Link(Option<ForwarderId>);

impl Forwarder for Link {
    fn forward(&self, _: WorkerId, _: Envelope<'_>) -> Forwarded {
        Forwarded::Accepted
    }

    fn flush(&self, _: WorkerId) {}

    fn id(&self) -> Option<ForwarderId> {
        self.0
    }
}

struct NoInbox;

impl Inbox for NoInbox {
    fn special(&self, _: &[u8]) -> bool {
        true
    }
    fn failed(&self, _: TunnelError) {}
}

fn tunnel_port(number: u8, encrypted: bool) -> TunnelPort {
    let params = TunnelParams {
        connection: ConnectionId(number.into()),
        remote: peer(number),
        local_address: HERE,
        remote_address: Ipv4Addr::new(192, 0, 2, number),
        port: 6784,
        encrypted,
    };
    TunnelPort::new(params, VXLAN, Arc::new(NoInbox))
}

struct Setup {
    switch: Switch,
    table: ForwardingTable,
    bridge: Bridge,
    tunnel_ports: TunnelPorts,
    own_port: Option<PortNumber>,
}

impl Setup {
    /// Neighbours with these numbers have tunnels of their own.
    fn new(tunnels: &[u8]) -> Self {
        let mut tunnel_ports = TunnelPorts::default();
        // The short id of a peer is its number.
        let ids = (1..=4).map(|n| (ShortId::new(n.into()).unwrap(), peer(n)));
        tunnel_ports.ids = Arc::new(ShortIdTable::new(ids));
        let mut links = Vec::new();
        for number in [2, 3] {
            let mut id = None;
            if tunnels.contains(&number) {
                let port = tunnel_port(number, false);
                assert!(port.set_offload(true));
                id = Some(port.forwarder_id());
                tunnel_ports.by_neighbour.insert(peer(number), Arc::new(port));
            }
            // Another transport is in reserve.
            let forwarders = [id, None].map(|id| Arc::new(Link(id)) as Arc<dyn Forwarder>).into();
            links.push(NeighbourLinks { name: peer(number), forwarders });
        }
        let mut bridge = Bridge::default();
        bridge.add_port(P1);
        bridge.add_port(P2);
        let table = ForwardingTable::new(peer(1), Arc::new(Mesh), links);
        Self { switch: Switch::new(peer(1), 1), table, bridge, tunnel_ports, own_port: None }
    }

    /// A station of this router.
    fn local(&mut self, station: MacAddress, port: PortNumber) {
        self.bridge.learn(START, station, BridgePort::Vport(port));
        self.switch.refresh_station(START, station, peer(1));
    }

    fn remote(&mut self, station: MacAddress, number: u8) {
        self.bridge.learn(START, station, BridgePort::Router);
        self.switch.refresh_station(START, station, peer(number));
    }

    /// A station that speaks behind another peer now, and does not answer where it was.
    fn moved(&self, station: MacAddress, number: u8) {
        let now = START + SETTLED;
        assert!(!self.switch.refresh_station(now, station, peer(number)));
        assert_eq!(self.switch.macs().lookup_to_send(now, station), None);
        assert!(self.switch.refresh_station(now + ANSWER, station, peer(number)));
    }

    fn plan(&self, input: &Input) -> Plan {
        let Self { switch, table, bridge, tunnel_ports, own_port } = self;
        Planner { switch, table, bridge, tunnel_ports, own_port: *own_port }.plan(input)
    }
}

impl Setup {
    fn revalidate(&self, flow: &Flow) -> Option<Vec<Action>> {
        let Self { switch, table, bridge, tunnel_ports, own_port } = self;
        let planner = Planner { switch, table, bridge, tunnel_ports, own_port: *own_port };
        planner.revalidate(&flow.matches, &flow.actions)
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
    setup.moved(Y, 4);
    assert_eq!(setup.plan(&input).actions(), into(3, 1, 4));
}

#[test]
fn a_packet_about_which_the_switch_has_decided_has_the_plan_of_its_flow() {
    let mut setup = Setup::new(&[2, 3]);
    setup.local(X, P1);
    setup.remote(Y, 2);
    let Setup { switch, table, bridge, tunnel_ports, .. } = &setup;
    let planner = Planner { switch, table, bridge, tunnel_ports, own_port: None };
    for destination in [Y, MacAddress::BROADCAST, MacAddress([2, 0xcc, 0, 0, 0, 1])] {
        let input = captured(P1, X, destination);
        let decision = switch.captured(table, START, input.addresses.unwrap());
        assert_eq!(planner.plan_decided(&input, decision), planner.plan(&input));
    }
    for (ends, source, destination) in [((2, 1), Y, X), ((2, 4), Y, X), ((3, 2), Y, X)] {
        let input = received(ends, source, destination);
        let peers = [2, ends.0, ends.1].map(|number| peer(number.try_into().unwrap()));
        let [neighbour, source, destination] = peers;
        let arrival = Arrival { neighbour, source, destination, relays: 0 };
        let decision = switch.received(table, START, arrival, input.addresses.unwrap());
        assert_eq!(planner.plan_decided(&input, decision), planner.plan(&input));
    }
}

#[test]
fn flows_between_local_stations_stay_local() {
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
    assert_eq!(
        (plan.actions(), plan.no_flow),
        (everywhere, Some(NoFlowReason::UnknownDestination))
    );
    assert_eq!(plan.flow(&input), None);
}

#[test]
fn another_transport_on_the_same_packet_means_no_flow() {
    let mut setup = Setup::new(&[2]);
    setup.local(X, P1);
    let input = captured(P1, X, MacAddress::BROADCAST);
    let plan = setup.plan(&input);
    assert_eq!((plan.slow_path, plan.no_flow), (true, Some(NoFlowReason::OtherTransport)));
    assert_eq!((&plan.local[..], plan.flow(&input)), (&[out(P2)][..], None));
    // The same for a tunnel that may not be used by the kernel alone, or has lost its place.
    setup.remote(Y, 2);
    let input = captured(P1, X, Y);
    assert!(setup.plan(&input).flow(&input).is_some());
    setup.tunnel_ports.by_neighbour[&peer(2)].set_offload(false);
    assert!(setup.plan(&input).slow_path);
    setup.tunnel_ports.by_neighbour[&peer(2)].set_offload(true);
    // The tunnel of another connection is there, but the switch has still that of the first.
    let newer = TunnelParams { connection: ConnectionId(20), ..tunnel_port(2, false).params };
    let newer = TunnelPort::new(newer, VXLAN, Arc::new(NoInbox));
    newer.set_offload(true);
    setup.tunnel_ports.by_neighbour.insert(peer(2), Arc::new(newer));
    assert!(setup.plan(&input).slow_path);
}

#[test]
fn packets_for_other_transports_go_to_the_own_port_by_flows() {
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
    assert!(!plan.slow_path);
    // The location of that station is unknown: no flow floods for ever.
    let input = captured(P1, X, MacAddress([2, 0xcc, 0, 0, 0, 1]));
    let plan = setup.plan(&input);
    assert_eq!(
        (plan.actions(), plan.no_flow),
        (vec![out(P2), out(OWN)], Some(NoFlowReason::UnknownDestination))
    );
    // What came through a tunnel is told to the router with its tunnel.
    let input = received((2, 1), Y, MacAddress::BROADCAST);
    assert!(setup.plan(&input).slow_path);
}

#[test]
fn packets_of_the_router_go_to_local_stations_alone() {
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
fn permanent_drops_have_flows_and_transient_ones_have_none() {
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
    // Unknown peers may become known.
    let input = received((7, 1), Y, X);
    assert_eq!(
        (setup.plan(&input).no_flow, setup.plan(&input).flow(&input)),
        (Some(NoFlowReason::UnknownSender), None)
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
    assert!(plan.is_hairpin(&input));
    let plan = Plan { local: vec![out(P1)], ..Plan::default() };
    assert!(plan.is_hairpin(&captured(P1, X, Y)));
    assert!(!plan.is_hairpin(&captured(P2, X, Y)));
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
    // Another peer has chosen the short id of 2, which is invalid until one of them has a new one.
    let ids = [1, 3, 4].map(|n| (ShortId::new(n.into()).unwrap(), peer(n)));
    setup.tunnel_ports.ids = Arc::new(ShortIdTable::new(ids));
    let plans = inputs.map(|input| setup.plan(&input));
    assert_eq!(
        plans.each_ref().map(|plan| plan.no_flow),
        [Some(NoFlowReason::OtherTransport), None, Some(NoFlowReason::UnknownSender)]
    );
    assert!(plans[0].slow_path, "the sleeve knows peers by their names");
    assert_eq!(plans[1].flow(&inputs[1]), before[1]);
    // The new one.
    let ids = [(1, 1), (9, 2), (3, 3), (4, 4)];
    let ids = ids.map(|(id, n)| (ShortId::new(id).unwrap(), peer(n)));
    setup.tunnel_ports.ids = Arc::new(ShortIdTable::new(ids));
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
    setup.tunnel_ports.by_neighbour[&peer(3)].set_offload(false);
    for (number, (input, flow)) in &before {
        let now = setup.plan(input).flow(input);
        assert_eq!(now == *flow, *number == 2, "{number}");
    }
    // Looking again teaches nothing: a station that moved stays where it is.
    let gone = MacAddress([2, 0xcc, 0, 0, 0, 2]);
    setup.moved(gone, 4);
    let old = received((2, 1), gone, X);
    assert!(setup.plan(&old).flow(&old).is_some());
    assert_eq!(setup.switch.macs().lookup(gone), Some(peer(4)));
}

#[test]
fn frames_come_from_the_address_of_the_heartbeats() {
    let mut setup = Setup::new(&[2]);
    let from = |last| Tunnel { source: Ipv4Addr::new(192, 0, 2, last), ..tunnel(2, 1) };
    let frames = |setup: &Setup| {
        [2, 99].map(|last| setup.tunnel_ports.sender(&from(last)).map(|it| it.neighbour))
    };
    let special = |setup: &Setup| {
        [2, 99].map(|last| setup.tunnel_ports.sender_of_special(&from(last)).map(|it| it.neighbour))
    };
    assert_eq!(frames(&setup), [Some(peer(2)), None]);
    assert_eq!(special(&setup), [Some(peer(2)); 2], "it may move");
    setup.tunnel_ports.by_neighbour[&peer(2)].set_remote(Ipv4Addr::new(192, 0, 2, 99));
    assert_eq!(frames(&setup), [None, Some(peer(2))]);
    // An encrypted tunnel stays where it is.
    setup.tunnel_ports.by_neighbour.insert(peer(2), Arc::new(tunnel_port(2, true)));
    assert_eq!(frames(&setup), [Some(peer(2)), None]);
    assert_eq!(special(&setup), [Some(peer(2)), None]);
}

#[test]
fn unicast_flows_of_local_stations_outlive_a_connection_for_a_moment() {
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
    later.tunnel_ports.ids = Arc::new(ShortIdTable::new([(ShortId::new(1).unwrap(), peer(1))]));
    assert_eq!(later.revalidate(&there), None);
    later.tunnel_ports.retain_flows(START, THERE);
    assert_eq!(later.revalidate(&there), Some(there.actions.clone()));
    assert_eq!(later.revalidate(&back), Some(back.actions.clone()));
    assert_ne!(later.revalidate(&everybody), Some(everybody.actions.clone()));
    assert_eq!(later.revalidate(&relayed), None, "it might circulate");

    // The station is elsewhere now: the flow does not wait for the neighbour.
    later.tunnel_ports.ids = Arc::clone(&setup.tunnel_ports.ids);
    later.remote(Y, 3);
    assert_eq!(later.revalidate(&there), Some(into(3, 1, 3).to_vec()));

    // The neighbour is back with another short id, and may not yet have noticed that we are.
    let mut back_again = Setup::new(&[2, 3]);
    back_again.local(X, P1);
    let ids = [(1, 1), (9, 2), (3, 3)].map(|(id, n)| (ShortId::new(id).unwrap(), peer(n)));
    back_again.tunnel_ports.ids = Arc::new(ShortIdTable::new(ids));
    back_again.tunnel_ports.retain_flows(START, THERE);
    assert_eq!(
        back_again.revalidate(&there),
        None,
        "a packet without the flow is flooded, and gets there"
    );
    assert_eq!(back_again.revalidate(&back), Some(back.actions.clone()));
    let end = back_again.tunnel_ports.next_expiry().unwrap();
    back_again.tunnel_ports.expire_retained(end);
    assert_eq!(back_again.revalidate(&back), None);
}
