//! Plans for packets, in terms of the datapath (spec fastdp.md, sections 4 and 5).
//!
//! ```text
//!   packet, or flow ──▶ Input ──▶ bridge ──▶ switch ──▶ Plan: local actions, tunnels, slow path
//! ```
//!
//! Packets that missed and flows that may have to change are planned by the same code, which learns
//! nothing. For a packet that missed, the switch has decided when it learned from it, and the plan
//! uses that decision; for a flow the planner asks the switch.

use std::net::Ipv4Addr;
use std::sync::Arc;

use weave_core::switch::{
    Addresses, Arrival, Decision, DropCause, Forwarder, ForwardingTable, Neighbour, Onward, Switch,
};
use weave_core::wire::MacAddress;
use weave_odp::{Action, Ethernet, Flow, FlowKey, FlowMatch, Masked, PortNumber, Tunnel};

use super::bridge::{Bridge, BridgePort, Verdict};
use super::tunnel_ports::{TunnelPort, TunnelPorts};
use super::unicast_flow::UnicastFlow;
use crate::vni::Vni;

/// The part of a packet, or of the match of a flow, on which a plan depends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Input {
    /// Port of the datapath through which the packet came in.
    pub(super) port: PortNumber,
    /// Tunnel through which the packet came in.
    pub(super) tunnel: Option<Tunnel>,
    /// Type of the VLAN tag.
    pub(super) tag: Option<u16>,
    /// Addresses of the packet; `None` for a flow that does not match them.
    pub(super) addresses: Option<Addresses>,
}

impl Input {
    /// Extracts the input from the key of a packet.
    pub(super) const fn of_packet(key: &FlowKey) -> Self {
        let Ethernet { source, destination } = key.ethernet;
        let (source, destination) = (MacAddress(source), MacAddress(destination));
        let addresses = Some(Addresses { source, destination });
        Self { port: key.in_port, tunnel: key.tunnel, tag: key.tag, addresses }
    }

    /// Extracts the input from the match of a flow; `None` if no plan makes such flows.
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

/// The reason why there is no flow for a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum NoFlowReason {
    /// The location of its destination is unknown, but will be learned.
    UnknownDestination,
    /// Another transport carries it, or a tunnel that the kernel may not use by flows.
    OtherTransport,
    /// It is dropped for a reason that may pass without an event.
    Transient(DropCause),
    /// It would return to where it came from.
    Hairpin,
    /// One of the peers, or the neighbour, is unknown.
    UnknownSender,
}

/// The plan for a packet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Plan {
    /// Whether the plan depends on the addresses of the packet.
    pub(super) matches_addresses: bool,
    /// Actions that send it to local ports.
    pub(super) local: Vec<Action>,
    /// Actions that send it to neighbours.
    pub(super) remote: Vec<Action>,
    /// Whether the router has to hand the packet to the links of the neighbours.
    pub(super) slow_path: bool,
    /// Reason why there is no flow for such packets.
    pub(super) no_flow: Option<NoFlowReason>,
}

/// A question to the switch.
enum Question {
    /// The decision about a frame of a local station.
    Captured(Addresses),
    /// The decision about a frame of a neighbour.
    Received(Arrival, Addresses),
}

/// Everything that a plan depends on.
pub(super) struct Planner<'a> {
    pub(super) switch: &'a Switch,
    pub(super) table: &'a ForwardingTable,
    pub(super) bridge: &'a Bridge,
    pub(super) tunnel_ports: &'a TunnelPorts,
    /// The router's own port, through which other transports exchange packets with the datapath.
    pub(super) own_port: Option<PortNumber>,
}

impl Planner<'_> {
    /// Plans for a flow, or for a packet about which the switch has nothing to decide.
    pub(super) fn plan(&self, input: &Input) -> Plan {
        self.plan_with(input, |question| match question {
            Question::Captured(addresses) => self.switch.peek_captured(self.table, addresses),
            Question::Received(arrival, addresses) => {
                self.switch.peek_received(self.table, arrival, addresses)
            }
        })
    }

    /// Plans for a packet about which the switch has decided by the table of this planner.
    pub(super) fn plan_decided(
        &self,
        input: &Input,
        decision: Result<Decision<'_>, DropCause>,
    ) -> Plan {
        self.plan_with(input, |_| decision)
    }

    fn plan_with<'t>(
        &self,
        input: &Input,
        decide: impl FnOnce(Question) -> Result<Decision<'t>, DropCause>,
    ) -> Plan {
        let mut plan = Plan::default();
        match (&input.tunnel, input.addresses) {
            (Some(tunnel), addresses) => {
                self.plan_received(tunnel, addresses, decide, &mut plan);
            }
            (None, Some(addresses)) if self.own_port == Some(input.port) => {
                plan.matches_addresses = true;
                self.bridge(BridgePort::Router, addresses.destination, &mut plan);
            }
            (None, Some(addresses)) => {
                self.plan_captured(input.port, addresses, decide, &mut plan);
            }
            (None, None) => plan.no_flow = Some(NoFlowReason::UnknownSender),
        }
        if plan.is_hairpin(input) {
            plan.no_flow = Some(NoFlowReason::Hairpin);
            plan.local.clear();
            plan.remote.clear();
            plan.slow_path = false;
        }
        plan
    }

    /// Returns the actions that a flow should have now; `None` if there should be no such flow.
    pub(super) fn revalidate(
        &self,
        matches: &FlowMatch,
        actions: &[Action],
    ) -> Option<Vec<Action>> {
        let input = Input::of_flow(matches);
        let plan = input.map(|input| self.plan(&input)).unwrap_or_default();
        let flow = input.and_then(|input| plan.flow(&input));
        let planned = flow.filter(|flow| flow.matches == *matches).map(|flow| flow.actions);
        if planned.as_ref().is_some_and(|actions| !actions.is_empty()) {
            return planned;
        }
        match self.tunnel_ports.retained(matches, actions) {
            Some(UnicastFlow::Outbound { to, .. }) if plan.reaches(to) => planned,
            Some(_) => Some(actions.to_vec()),
            None => planned,
        }
    }

    fn plan_captured<'t>(
        &self,
        port: PortNumber,
        addresses: Addresses,
        decide: impl FnOnce(Question) -> Result<Decision<'t>, DropCause>,
        plan: &mut Plan,
    ) {
        plan.matches_addresses = true;
        if self.bridge(BridgePort::Vport(port), addresses.destination, plan) {
            let decision = decide(Question::Captured(addresses));
            self.route(decision, addresses.destination, plan);
        }
        // The kernel can send it to the port where the router captures, with super-frames unsplit.
        if let Some(own) = self.own_port.filter(|_| plan.slow_path) {
            plan.slow_path = false;
            plan.remote = vec![Action::Output(own)];
            if plan.no_flow == Some(NoFlowReason::OtherTransport) {
                plan.no_flow = None;
            }
        }
    }

    fn plan_received<'t>(
        &self,
        tunnel: &Tunnel,
        addresses: Option<Addresses>,
        decide: impl FnOnce(Question) -> Result<Decision<'t>, DropCause>,
        plan: &mut Plan,
    ) {
        let Some(sender) = self.tunnel_ports.sender(tunnel) else {
            plan.no_flow = Some(NoFlowReason::UnknownSender);
            return;
        };
        let here = sender.destination == self.table.own();
        plan.matches_addresses = here;
        // The addresses of a relayed packet make no difference.
        let unknown = Addresses { source: MacAddress::ZERO, destination: MacAddress::ZERO };
        let addresses = match (addresses, here) {
            (Some(addresses), _) => addresses,
            (None, false) => unknown,
            (None, true) => {
                plan.no_flow = Some(NoFlowReason::UnknownSender);
                return;
            }
        };
        let arrival = Arrival {
            neighbour: sender.neighbour,
            source: sender.source,
            destination: sender.destination,
            relays: 0,
        };
        let decision = decide(Question::Received(arrival, addresses));
        if decision.is_ok_and(|decision| decision.inject) {
            self.bridge(BridgePort::Router, addresses.destination, plan);
        }
        let destination = if here { addresses.destination } else { MacAddress::BROADCAST };
        self.route(decision, destination, plan);
    }

    /// Plans what the bridge does with a packet. Returns whether the router gets it.
    fn bridge(&self, from: BridgePort, destination: MacAddress, plan: &mut Plan) -> bool {
        match self.bridge.decide(from, destination) {
            Verdict::SamePort => false,
            Verdict::To(BridgePort::Router) => true,
            Verdict::To(BridgePort::Vport(port)) => {
                plan.local.push(Action::Output(port));
                false
            }
            Verdict::Flood { ports, router } => {
                plan.local.extend(ports.into_iter().map(Action::Output));
                if !destination.is_multicast() {
                    plan.no_flow = Some(NoFlowReason::UnknownDestination);
                }
                router
            }
        }
    }

    /// Plans what the switch has decided about a packet.
    fn route(
        &self,
        decision: Result<Decision<'_>, DropCause>,
        destination: MacAddress,
        plan: &mut Plan,
    ) {
        match decision {
            Err(cause) if is_permanent(cause) => {}
            Err(cause) => plan.no_flow = Some(NoFlowReason::Transient(cause)),
            Ok(decision) => match decision.onward {
                Onward::Nowhere | Onward::Withheld(_) => {}
                Onward::Unicast { source, destination, hop } => {
                    self.send_to(hop, |ports| ports.vni(source, destination), plan);
                }
                Onward::Flood { source, hops } => {
                    if !destination.is_multicast() {
                        plan.no_flow.get_or_insert(NoFlowReason::UnknownDestination);
                    }
                    for hop in hops.iter() {
                        self.send_to(hop, |ports| ports.vni(source, hop.name()), plan);
                    }
                }
            },
        }
    }

    /// Plans to send a packet by the best link of a neighbour (spec router.md, section 5).
    fn send_to(&self, hop: &Neighbour, vni: impl Fn(&TunnelPorts) -> Option<Vni>, plan: &mut Plan) {
        let Some(best) = self.table.forwarders(hop).first() else {
            plan.no_flow = Some(NoFlowReason::Transient(DropCause::Refused));
            return;
        };
        match (self.tunnel_port(hop, best), vni(self.tunnel_ports)) {
            (Some(port), Some(vni)) if port.is_offloaded() => plan.remote.extend(port.actions(vni)),
            _ => {
                plan.slow_path = true;
                plan.no_flow.get_or_insert(NoFlowReason::OtherTransport);
            }
        }
    }

    /// Returns the tunnel port of a link; `None` if it is a link of another transport.
    fn tunnel_port(&self, hop: &Neighbour, link: &Arc<dyn Forwarder>) -> Option<&Arc<TunnelPort>> {
        let port = self.tunnel_ports.by_neighbour.get(&hop.name())?;
        (link.id() == Some(port.forwarder_id())).then_some(port)
    }
}

impl Plan {
    /// Returns all actions for the packet.
    pub(super) fn actions(&self) -> Vec<Action> {
        // Local ports come first, before an action sets a tunnel.
        [&self.local[..], &self.remote[..]].concat()
    }

    /// Returns the flow for further packets like this one; without actions it drops them.
    pub(super) fn flow(&self, input: &Input) -> Option<Flow> {
        if self.no_flow.is_some() {
            return None;
        }
        let ethernet = match (self.matches_addresses, input.addresses) {
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

    /// Returns whether the packet is sent to that host, or by another transport.
    fn reaches(&self, host: Ipv4Addr) -> bool {
        let to = |action: &Action| matches!(action, Action::SetTunnel(t) if t.destination == host);
        self.no_flow == Some(NoFlowReason::OtherTransport) || self.remote.iter().any(to)
    }

    /// Returns whether the packet would be sent back to where it came from.
    fn is_hairpin(&self, input: &Input) -> bool {
        let returns = |action: &Action| match (action, &input.tunnel) {
            (Action::Output(port), None) => *port == input.port,
            (Action::SetTunnel(out), Some(inbound)) => {
                out.id == inbound.id
                    && out.source == inbound.destination
                    && out.destination == inbound.source
            }
            _ => false,
        };
        self.local.iter().chain(&self.remote).any(returns)
    }
}

/// Returns whether such packets are dropped until an event that the engine is told of.
const fn is_permanent(cause: DropCause) -> bool {
    match cause {
        DropCause::InvalidSource
        | DropCause::SpanningTree
        | DropCause::Local
        | DropCause::Loop
        | DropCause::Hairpin
        | DropCause::NoDetour
        | DropCause::ReversePath
        | DropCause::NoRoute
        | DropCause::NoLink => true,
        DropCause::Short
        | DropCause::UnknownPeer
        | DropCause::Conflict
        | DropCause::HopLimit
        | DropCause::Contested
        | DropCause::Refused
        | DropCause::TooBig
        | DropCause::Link => false,
    }
}

#[cfg(test)]
mod tests;
