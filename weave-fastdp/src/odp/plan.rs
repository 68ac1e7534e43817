//! What becomes of a packet, as the datapath can be told (spec fastdp.md, sections 4 and 5).
//!
//! ```text
//!   packet, or flow ──▶ Input ──▶ bridge ──▶ switch ──▶ Plan: local actions, tunnels, links
//! ```
//!
//! The same function answers for a packet that missed and for a flow whose reasons may have
//! changed: it looks and learns nothing.

use std::net::Ipv4Addr;
use std::sync::Arc;

use weave_core::switch::{
    Addresses, Arrival, Decision, DropCause, Forwarder, ForwardingTable, Neighbour, Onward, Switch,
};
use weave_core::wire::MacAddress;
use weave_odp::{Action, Ethernet, Flow, FlowKey, FlowMatch, Masked, PortNumber, Tunnel};

use super::bridge::{Bridge, Place, Verdict};
use super::mile::Mile;
use super::roads::{Road, Roads};

/// A packet, as far as a plan depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Input {
    /// The port of the datapath it came in by.
    pub(super) port: PortNumber,
    /// The tunnel it came through.
    pub(super) tunnel: Option<Tunnel>,
    /// The type of its VLAN tag.
    pub(super) tag: Option<u16>,
    /// Its addresses; none in a flow that does not look at them.
    pub(super) addresses: Option<Addresses>,
}

impl Input {
    pub(super) const fn of_packet(key: &FlowKey) -> Self {
        let Ethernet { source, destination } = key.ethernet;
        let (source, destination) = (MacAddress(source), MacAddress(destination));
        let addresses = Some(Addresses { source, destination });
        Self { port: key.in_port, tunnel: key.tunnel, tag: key.tag, addresses }
    }

    /// `None` if no plan of ours can have made this flow.
    pub(super) fn of_flow(matches: &FlowMatch) -> Option<Self> {
        let ethernet = matches.ethernet;
        let addresses = match ethernet.mask() {
            Ethernet::ANY => None,
            Ethernet::EXACT => {
                let Ethernet { source, destination } = ethernet.key();
                let (source, destination) = (MacAddress(source), MacAddress(destination));
                Some(Addresses { source, destination })
            }
            _ => return None,
        };
        let tunnel = match matches.tunnel {
            None => None,
            Some(tunnel) if tunnel.mask() == Tunnel::ENDS => Some(tunnel.key()),
            Some(_) => return None,
        };
        Some(Self { port: matches.in_port?, tunnel, tag: matches.tag, addresses })
    }
}

/// Why there is no flow for a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Veto {
    /// Nobody knows where its destination is; as soon as somebody does, it goes only there.
    Unknown,
    /// Another transport carries it, or a tunnel that the kernel may not use by itself.
    Foreign,
    /// It is dropped for a reason that may pass by itself.
    Passing(DropCause),
    /// It would go back to where it came from.
    Hairpin,
    /// One of the peers, or the neighbour, is unknown.
    Stranger,
}

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Plan {
    /// It depends on the addresses of the packet.
    pub(super) looks_at_addresses: bool,
    /// To ports of this datapath.
    pub(super) local: Vec<Action>,
    /// To neighbours.
    pub(super) remote: Vec<Action>,
    /// The packet has to be handed to the links of the router for what goes to neighbours.
    pub(super) by_hand: bool,
    /// There is no flow for it.
    pub(super) veto: Option<Veto>,
}

/// Knows all that a plan depends on.
pub(super) struct Planner<'a> {
    pub(super) switch: &'a Switch,
    pub(super) table: &'a ForwardingTable,
    pub(super) bridge: &'a Bridge,
    pub(super) roads: &'a Roads,
    /// The port of the router itself, through which other transports get packets and give them.
    pub(super) own_port: Option<PortNumber>,
}

impl Planner<'_> {
    /// What becomes of a packet. Ask only for packets with addresses, and for flows.
    pub(super) fn plan(&self, input: &Input) -> Plan {
        let mut plan = Plan::default();
        match (&input.tunnel, input.addresses) {
            (Some(tunnel), addresses) => self.received(tunnel, addresses, &mut plan),
            (None, Some(addresses)) if self.own_port == Some(input.port) => {
                plan.looks_at_addresses = true;
                self.through_the_bridge(Place::Router, addresses.destination, &mut plan);
            }
            (None, Some(addresses)) => self.captured(input.port, addresses, &mut plan),
            (None, None) => plan.veto = Some(Veto::Stranger),
        }
        if plan.turns_back(input) {
            plan.veto = Some(Veto::Hairpin);
            plan.local.clear();
            plan.remote.clear();
            plan.by_hand = false;
        }
        plan
    }

    /// What a flow should do now; `None` is that there should be none.
    pub(super) fn revise(&self, matches: &FlowMatch, actions: &[Action]) -> Option<Vec<Action>> {
        let input = Input::of_flow(matches);
        let plan = input.map(|input| self.plan(&input)).unwrap_or_default();
        let flow = input.and_then(|input| plan.flow(&input));
        let planned = flow.filter(|flow| flow.matches == *matches).map(|flow| flow.actions);
        if planned.as_ref().is_some_and(|actions| !actions.is_empty()) {
            return planned;
        }
        match self.roads.outliving(matches, actions) {
            Some(Mile::Out { to, .. }) if plan.finds(to) => planned,
            Some(_) => Some(actions.to_vec()),
            None => planned,
        }
    }

    fn captured(&self, port: PortNumber, addresses: Addresses, plan: &mut Plan) {
        plan.looks_at_addresses = true;
        if self.through_the_bridge(Place::Port(port), addresses.destination, plan) {
            let decision = self.switch.peek_captured(self.table, addresses);
            self.onward(decision, addresses.destination, plan);
        }
        // The kernel can bring it where the router takes packets up, super-frames uncut.
        if let Some(own) = self.own_port.filter(|_| plan.by_hand) {
            plan.by_hand = false;
            plan.remote = vec![Action::Output(own)];
            if plan.veto == Some(Veto::Foreign) {
                plan.veto = None;
            }
        }
    }

    fn received(&self, tunnel: &Tunnel, addresses: Option<Addresses>, plan: &mut Plan) {
        let Some(sender) = self.roads.sender(tunnel) else {
            plan.veto = Some(Veto::Stranger);
            return;
        };
        let here = sender.destination == self.table.own();
        plan.looks_at_addresses = here;
        // Those of a relayed packet make no difference.
        let unknown = Addresses { source: MacAddress::ZERO, destination: MacAddress::ZERO };
        let addresses = match (addresses, here) {
            (Some(addresses), _) => addresses,
            (None, false) => unknown,
            (None, true) => {
                plan.veto = Some(Veto::Stranger);
                return;
            }
        };
        let arrival = Arrival {
            neighbour: sender.neighbour,
            source: sender.source,
            destination: sender.destination,
        };
        let decision = self.switch.peek_received(self.table, arrival, addresses);
        if decision.is_ok_and(|decision| decision.inject) {
            self.through_the_bridge(Place::Router, addresses.destination, plan);
        }
        let destination = if here { addresses.destination } else { MacAddress::BROADCAST };
        self.onward(decision, destination, plan);
    }

    /// Whether the router gets the packet.
    fn through_the_bridge(&self, from: Place, destination: MacAddress, plan: &mut Plan) -> bool {
        match self.bridge.decide(from, destination) {
            Verdict::Stay => false,
            Verdict::To(Place::Router) => true,
            Verdict::To(Place::Port(port)) => {
                plan.local.push(Action::Output(port));
                false
            }
            Verdict::Flood { ports, router } => {
                plan.local.extend(ports.into_iter().map(Action::Output));
                if !destination.is_multicast() {
                    plan.veto = Some(Veto::Unknown);
                }
                router
            }
        }
    }

    fn onward(
        &self,
        decision: Result<Decision<'_>, DropCause>,
        destination: MacAddress,
        plan: &mut Plan,
    ) {
        match decision {
            Err(cause) if lasts(cause) => {}
            Err(cause) => plan.veto = Some(Veto::Passing(cause)),
            Ok(decision) => match decision.onward {
                Onward::Nowhere => {}
                Onward::Unicast { source, destination, hop } => {
                    self.to_neighbour(hop, |roads| roads.vni(source, destination), plan);
                }
                Onward::Flood { source, hops } => {
                    if !destination.is_multicast() {
                        plan.veto.get_or_insert(Veto::Unknown);
                    }
                    for hop in hops.iter() {
                        self.to_neighbour(hop, |roads| roads.vni(source, hop.name()), plan);
                    }
                }
            },
        }
    }

    /// By its best link that takes frames (spec router.md, section 5).
    fn to_neighbour(
        &self,
        hop: &Neighbour,
        vni: impl Fn(&Roads) -> Option<crate::Vni>,
        plan: &mut Plan,
    ) {
        let Some(best) = self.table.forwarders(hop).first() else {
            plan.veto = Some(Veto::Passing(DropCause::Refused));
            return;
        };
        match (self.road_of(hop, best), vni(self.roads)) {
            (Some(road), Some(vni)) if road.is_carried() => plan.remote.extend(road.actions(vni)),
            _ => {
                plan.by_hand = true;
                plan.veto.get_or_insert(Veto::Foreign);
            }
        }
    }

    /// The tunnel behind this link, if it is one of ours.
    fn road_of(&self, hop: &Neighbour, link: &Arc<dyn Forwarder>) -> Option<&Arc<Road>> {
        let road = self.roads.by_neighbour.get(&hop.name())?;
        road.is(link).then_some(road)
    }
}

impl Plan {
    /// All that the datapath does with the packet.
    pub(super) fn actions(&self) -> Vec<Action> {
        // What is local comes first: nothing of a tunnel sticks to it.
        [&self.local[..], &self.remote[..]].concat()
    }

    /// The flow for further packets like this one; without actions it drops them.
    pub(super) fn flow(&self, input: &Input) -> Option<Flow> {
        if self.veto.is_some() {
            return None;
        }
        let ethernet = match (self.looks_at_addresses, input.addresses) {
            (true, Some(Addresses { source, destination })) => {
                let (source, destination) = (source.0, destination.0);
                Masked::exact(Ethernet { source, destination })
            }
            (true, None) => return None,
            (false, _) => Masked::<Ethernet>::ANY,
        };
        let mut matches = FlowMatch::new(input.port, ethernet);
        matches.tag = input.tag;
        matches.tunnel = input.tunnel.map(Masked::<Tunnel>::ends);
        Some(Flow { matches, actions: self.actions() })
    }

    /// Whether a packet gets to that host, or on its way by another transport.
    fn finds(&self, host: Ipv4Addr) -> bool {
        let to = |action: &Action| matches!(action, Action::SetTunnel(t) if t.destination == host);
        self.veto == Some(Veto::Foreign) || self.remote.iter().any(to)
    }

    /// Whether it sends the packet back to where it came from.
    fn turns_back(&self, input: &Input) -> bool {
        let back = |action: &Action| match (action, &input.tunnel) {
            (Action::Output(port), None) => *port == input.port,
            (Action::SetTunnel(out), Some(came)) => {
                out.id == came.id
                    && out.source == came.destination
                    && out.destination == came.source
            }
            _ => false,
        };
        self.local.iter().chain(&self.remote).any(back)
    }
}

/// Whether a packet like this one is dropped as long as nothing changes that the engine hears of.
const fn lasts(cause: DropCause) -> bool {
    match cause {
        DropCause::InvalidSource
        | DropCause::SpanningTree
        | DropCause::Local
        | DropCause::Loop
        | DropCause::Hairpin
        | DropCause::NoRoute
        | DropCause::NoLink => true,
        DropCause::Short
        | DropCause::UnknownPeer
        | DropCause::Conflict
        | DropCause::Refused
        | DropCause::TooBig
        | DropCause::Link => false,
    }
}

#[cfg(test)]
mod tests;
