//! The threads that answer misses (spec fastdp.md, section 4).

use std::os::fd::AsFd as _;
use std::sync::Arc;

use weave_core::switch::{Addresses, Arrival, DropCause, Frame, Inject, Worker};
use weave_core::wire::MacAddress;
use weave_odp::{Action, Client, DecodeError, Error, PortNumber, Tunnel, Upcall, Upcalls};

use super::bridge::{Bridge, BridgePort, Verdict};
use super::config::OdpFailure;
use super::execute::execute;
use super::local_ports::PortRole;
use super::plan::{Input, NoFlowReason, Plan};
use super::shared::Shared;
use super::tunnel_ports::Sender;

/// Largest number of packets between two looks at whether to stop.
const BATCH: usize = 64;

/// A thread that answers the misses of one socket.
pub(super) struct UpcallThread {
    upcalls: Upcalls,
    handler: UpcallHandler,
}

/// The handler of the misses of one thread.
struct UpcallHandler {
    shared: Arc<Shared>,
    client: Client,
    worker: Worker,
}

impl UpcallThread {
    pub(super) fn new(
        shared: Arc<Shared>,
        upcalls: Upcalls,
        worker: Worker,
    ) -> Result<Self, Error> {
        Ok(Self { upcalls, handler: UpcallHandler { shared, client: Client::open()?, worker } })
    }

    /// Answers misses until the engine stops.
    pub(super) fn run(mut self) {
        let Self { upcalls, handler } = &mut self;
        let shared = Arc::clone(&handler.shared);
        loop {
            let going = shared.signals.wait(&[upcalls.as_fd()], None).and_then(|going| {
                if going {
                    upcalls.drain(BATCH, |upcall| handler.handle(upcall))?;
                }
                Ok(going)
            });
            match going {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return shared.fail(OdpFailure::Upcalls(error)),
            }
        }
    }
}

impl UpcallHandler {
    fn handle(&mut self, upcall: Result<Upcall<'_>, DecodeError>) {
        let counters = &self.shared.counters;
        counters.misses.increment();
        let upcall = match upcall {
            Ok(upcall) if upcall.datapath == self.shared.datapath => upcall,
            Ok(_) => return counters.dropped_malformed.increment(),
            Err(error) => {
                tracing::debug!("a miss cannot be decoded: {error}");
                return counters.dropped_malformed.increment();
            }
        };
        match self.shared.state.local(|local| local.role(upcall.key.in_port)) {
            Some(PortRole::Own) => self.handle_injected(&upcall),
            Some(PortRole::Local) => self.handle_captured(&upcall),
            Some(PortRole::Tunnel) => self.handle_received(&upcall),
            // The kernel announces new ports, but not before their first packets.
            None => counters.dropped_unknown_port.increment(),
        }
    }

    /// Handles a packet of a local station.
    fn handle_captured(&mut self, upcall: &Upcall<'_>) {
        let shared = Arc::clone(&self.shared);
        let generation = shared.signals.generation();
        let (now, input) = (shared.now(), Input::of_packet(&upcall.key));
        let Some(addresses) = input.addresses else { return };
        let table = shared.switch.table();
        let decision = shared.switch.captured(&table, now, addresses);
        if decision.err() == Some(DropCause::Conflict) {
            return shared.counters.dropped_conflict.increment();
        }
        shared.learn(addresses.source, BridgePort::Vport(input.port));
        let plan = shared.with_planner(&table, |planner| planner.plan_decided(&input, decision));
        if plan.slow_path {
            let mut port = LocalInjector { shared: &shared, client: &mut self.client };
            self.worker.pass(now, &mut port).captured(Frame::plain(upcall.packet));
        }
        self.carry_out(upcall, &input, &plan, generation);
    }

    /// Handles a packet that another transport has sent to the router's own port, for local
    /// stations.
    fn handle_injected(&mut self, upcall: &Upcall<'_>) {
        let shared = Arc::clone(&self.shared);
        let generation = shared.signals.generation();
        let input = Input::of_packet(&upcall.key);
        let Some(addresses) = input.addresses else { return };
        shared.learn(addresses.source, BridgePort::Router);
        let table = shared.switch.table();
        let plan = shared.with_planner(&table, |planner| planner.plan(&input));
        self.carry_out(upcall, &input, &plan, generation);
    }

    /// Handles a packet from a tunnel.
    fn handle_received(&mut self, upcall: &Upcall<'_>) {
        let shared = Arc::clone(&self.shared);
        let generation = shared.signals.generation();
        let (now, input) = (shared.now(), Input::of_packet(&upcall.key));
        let (Some(addresses), Some(tunnel)) = (input.addresses, input.tunnel) else {
            return shared.counters.dropped_unknown_sender.increment();
        };
        if addresses.is_special() {
            let sender = shared.tunnel_ports().sender_of_special(&tunnel);
            return match sender {
                Some(sender) => self.handle_special(upcall, sender, &tunnel),
                None => shared.counters.dropped_unknown_sender.increment(),
            };
        }
        let Some(sender) = shared.tunnel_ports().sender(&tunnel) else {
            return shared.counters.dropped_unknown_sender.increment();
        };
        let Sender { source, destination, neighbour } = sender;
        let arrival = Arrival { neighbour, source, destination, relays: 0 };
        let table = shared.switch.table();
        let decision = shared.switch.received(&table, now, arrival, addresses);
        if decision.is_err_and(|cause| cause == DropCause::Contested) {
            return shared.counters.dropped_conflict.increment();
        }
        if decision.is_ok_and(|decision| decision.inject) {
            shared.learn(addresses.source, BridgePort::Router);
        }
        let plan = shared.with_planner(&table, |planner| planner.plan_decided(&input, decision));
        if plan.slow_path {
            let mut port = LocalInjector { shared: &shared, client: &mut self.client };
            let frame = Frame::plain(upcall.packet);
            self.worker.pass(now, &mut port).relay_only(arrival, frame);
        }
        self.carry_out(upcall, &input, &plan, generation);
    }

    /// Handles a heartbeat or a probe.
    fn handle_special(&self, upcall: &Upcall<'_>, sender: Sender, tunnel: &Tunnel) {
        let tunnel_ports = self.shared.tunnel_ports();
        let (Some(port), true) = (
            tunnel_ports.by_neighbour.get(&sender.source),
            sender.destination == self.shared.switch.own(),
        ) else {
            return self.shared.counters.dropped_unknown_sender.increment();
        };
        self.shared.counters.special.increment();
        if port.inbox.special(upcall.packet) && port.set_remote(tunnel.source) {
            tracing::info!(peer = %sender.source, "its heartbeats come from another address now");
            self.shared.signals.invalidate();
        }
    }

    /// Applies a plan to the packet and, in most cases, creates a flow for the next ones.
    fn carry_out(&mut self, upcall: &Upcall<'_>, input: &Input, plan: &Plan, generation: u64) {
        let Self { shared, client, .. } = self;
        let actions = if plan.slow_path { plan.local.clone() } else { plan.actions() };
        match plan.no_flow {
            Some(NoFlowReason::Hairpin) => shared.counters.dropped_hairpin.increment(),
            Some(NoFlowReason::UnknownSender) => shared.counters.dropped_unknown_sender.increment(),
            Some(
                NoFlowReason::OtherTransport
                | NoFlowReason::UnknownDestination
                | NoFlowReason::Transient(_),
            )
            | None => {}
        }
        if plan.slow_path {
            shared.counters.slow_path.increment();
        }
        let Some(flow) = plan.flow(input) else {
            return execute(shared, client, upcall.packet, &actions);
        };
        let mut table = shared.state.flows();
        let is_current = shared.signals.generation() == generation;
        if !is_current || !table.has_room_for(&flow.matches) {
            drop(table);
            if is_current {
                shared.counters.flows_refused.increment();
                shared.signals.report_full_table();
            }
            return execute(shared, client, upcall.packet, &actions);
        }
        // The flow first, as ovs-vswitchd does: packets that follow do not miss meanwhile.
        let put = if flow.actions.is_empty() {
            client.put_flow(shared.datapath, &flow)
        } else {
            shared.counters.executed.increment();
            client.put_flow_and_execute(shared.datapath, &flow, upcall.packet)
        };
        match put {
            Ok(()) => {
                shared.counters.flows_put.increment();
                table.put(&flow);
            }
            Err(error) => {
                tracing::debug!("no flow {}: {error}", flow.matches);
                shared.counters.flows_refused.increment();
            }
        }
    }
}

/// An injector for frames of the router itself to local stations.
struct LocalInjector<'a> {
    shared: &'a Shared,
    client: &'a mut Client,
}

impl Inject for LocalInjector<'_> {
    fn inject(&mut self, frame: Frame<'_>) {
        let Some(addresses) = Addresses::of(frame.bytes) else { return };
        let to = addresses.destination;
        let ports = self.shared.state.local(|local| ports_towards(&local.bridge, to));
        let actions: Vec<_> = ports.into_iter().map(Action::Output).collect();
        execute(self.shared, self.client, frame.bytes, &actions);
    }
}

fn ports_towards(bridge: &Bridge, destination: MacAddress) -> Vec<PortNumber> {
    match bridge.decide(BridgePort::Router, destination) {
        Verdict::To(BridgePort::Vport(port)) => vec![port],
        Verdict::Flood { ports, .. } => ports,
        Verdict::To(BridgePort::Router) | Verdict::SamePort => Vec::new(),
    }
}
