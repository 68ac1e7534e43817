//! Threads that answer misses (spec fastdp.md, section 4).

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use weave_core::switch::{Addresses, Arrival, DropCause, Frame, Inject, Worker};
use weave_core::wire::MacAddress;
use weave_odp::{Action, Client, DecodeError, Error, PortNumber, Upcall, Upcalls};

use super::bridge::{Bridge, Place, Verdict};
use super::engine::{Shared, bump};
use super::ground::Side;
use super::plan::{Input, Plan, Veto};
use super::roads::Sender;

/// Packets between two looks at whether to stop.
const BATCH: usize = 64;

/// One of them.
pub(super) struct MissThread {
    upcalls: Upcalls,
    desk: Desk,
}

/// All of it but the socket.
struct Desk {
    shared: Arc<Shared>,
    client: Client,
    worker: Worker,
}

impl MissThread {
    pub(super) fn new(
        shared: Arc<Shared>,
        upcalls: Upcalls,
        worker: Worker,
    ) -> Result<Self, Error> {
        Ok(Self { upcalls, desk: Desk { shared, client: Client::open()?, worker } })
    }

    pub(super) fn run(mut self) {
        let Self { upcalls, desk } = &mut self;
        loop {
            let going = desk.shared.wait(&[upcalls.as_fd()], None).and_then(|going| {
                if going {
                    upcalls.drain(BATCH, |upcall| desk.answer(upcall))?;
                }
                Ok(going)
            });
            match going {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return desk.shared.fail(&format!("receiving misses: {error}")),
            }
        }
    }
}

impl Desk {
    fn answer(&mut self, upcall: Result<Upcall<'_>, DecodeError>) {
        let counters = &self.shared.counters;
        bump(&counters.misses);
        let upcall = match upcall {
            Ok(upcall) if upcall.datapath == self.shared.datapath => upcall,
            Ok(_) => return bump(&counters.dropped_malformed),
            Err(error) => {
                tracing::debug!("a miss that cannot be read: {error}");
                return bump(&counters.dropped_malformed);
            }
        };
        match self.shared.state.ground(|ground| ground.side(upcall.key.in_port)) {
            Some(Side::Own) => self.injected(&upcall),
            Some(Side::Local) => self.captured(&upcall),
            Some(Side::Tunnel) => self.received(&upcall),
            // The kernel tells of new ports, but not before their first packets.
            None => bump(&counters.dropped_unknown_port),
        }
    }

    fn captured(&mut self, upcall: &Upcall<'_>) {
        let shared = Arc::clone(&self.shared);
        let edition = shared.edition.load(Ordering::Acquire);
        let (now, input) = (shared.now(), Input::of_packet(&upcall.key));
        let Some(addresses) = input.addresses else { return };
        let learnt = shared.switch.captured(&shared.switch.table(), now, addresses).err();
        if learnt == Some(DropCause::Conflict) {
            return bump(&shared.counters.dropped_conflict);
        }
        shared.learn(addresses.source, Place::Port(input.port));
        let plan = shared.with_planner(|planner| planner.plan(&input));
        if plan.by_hand {
            let mut port = LocalPorts { shared: &shared, client: &mut self.client };
            self.worker.pass(now, &mut port).captured(Frame::plain(upcall.packet));
        }
        self.carry_out(upcall, &input, &plan, edition);
    }

    /// Another transport gave it to the port of the router, for local stations.
    fn injected(&mut self, upcall: &Upcall<'_>) {
        let shared = Arc::clone(&self.shared);
        let edition = shared.edition.load(Ordering::Acquire);
        let input = Input::of_packet(&upcall.key);
        let Some(addresses) = input.addresses else { return };
        shared.learn(addresses.source, Place::Router);
        let plan = shared.with_planner(|planner| planner.plan(&input));
        self.carry_out(upcall, &input, &plan, edition);
    }

    fn received(&mut self, upcall: &Upcall<'_>) {
        let shared = Arc::clone(&self.shared);
        let edition = shared.edition.load(Ordering::Acquire);
        let (now, input) = (shared.now(), Input::of_packet(&upcall.key));
        let sender = input.tunnel.and_then(|tunnel| shared.roads.load().sender(&tunnel));
        let (Some(addresses), Some(sender)) = (input.addresses, sender) else {
            return bump(&shared.counters.dropped_stranger);
        };
        if is_special(addresses) {
            return self.special(upcall, sender);
        }
        let Sender { source, destination, neighbour } = sender;
        let arrival = Arrival { neighbour, source, destination };
        let table = shared.switch.table();
        let decision = shared.switch.received(&table, now, arrival, addresses);
        if decision.is_ok_and(|decision| decision.inject) {
            shared.learn(addresses.source, Place::Router);
        }
        let plan = shared.with_planner(|planner| planner.plan(&input));
        if plan.by_hand {
            let mut port = LocalPorts { shared: &shared, client: &mut self.client };
            let frame = Frame::plain(upcall.packet);
            self.worker.pass(now, &mut port).relay_only(arrival, frame);
        }
        self.carry_out(upcall, &input, &plan, edition);
    }

    fn special(&self, upcall: &Upcall<'_>, sender: Sender) {
        let roads = self.shared.roads.load();
        let (Some(road), true, Some(tunnel)) = (
            roads.by_neighbour.get(&sender.source),
            sender.destination == self.shared.switch.own(),
            upcall.key.tunnel,
        ) else {
            return bump(&self.shared.counters.dropped_stranger);
        };
        if !road.takes_from(tunnel.source) {
            return bump(&self.shared.counters.dropped_stranger);
        }
        bump(&self.shared.counters.special);
        if road.inbox.special(upcall.packet) && road.heard_from(tunnel.source) {
            tracing::info!(peer = %sender.source, "its heartbeats come from another address now");
            self.shared.invalidate();
        }
    }

    /// Does to the packet what is planned, and mostly makes a flow for the next ones.
    fn carry_out(&mut self, upcall: &Upcall<'_>, input: &Input, plan: &Plan, edition: u64) {
        let Self { shared, client, .. } = self;
        let actions = if plan.by_hand { plan.local.clone() } else { plan.actions() };
        match plan.veto {
            Some(Veto::Hairpin) => bump(&shared.counters.dropped_hairpin),
            Some(Veto::Stranger) => bump(&shared.counters.dropped_stranger),
            Some(Veto::Foreign | Veto::Unknown | Veto::Passing(_)) | None => {}
        }
        if plan.by_hand {
            bump(&shared.counters.by_hand);
        }
        let Some(flow) = plan.flow(input) else {
            return execute(shared, client, upcall.packet, &actions);
        };
        let mut book = shared.state.flows();
        let is_current = shared.edition.load(Ordering::Acquire) == edition;
        if !is_current || !book.has_room_for(&flow.matches) {
            drop(book);
            if is_current {
                bump(&shared.counters.flows_refused);
                if !shared.crowded.swap(true, Ordering::Relaxed) {
                    shared.wake_keeper();
                }
            }
            return execute(shared, client, upcall.packet, &actions);
        }
        // The flow first, as ovs-vswitchd has it: packets that follow do not miss meanwhile.
        let put = if flow.actions.is_empty() {
            client.put_flow(shared.datapath, &flow)
        } else {
            bump(&shared.counters.executed);
            client.put_flow_and_execute(shared.datapath, &flow, upcall.packet)
        };
        match put {
            Ok(()) => {
                bump(&shared.counters.flows_put);
                book.put(&flow);
            }
            Err(error) => {
                tracing::debug!("no flow {}: {error}", flow.matches);
                bump(&shared.counters.flows_refused);
            }
        }
    }
}

/// Heartbeats and their like (spec fastdp.md, section 7).
fn is_special(addresses: Addresses) -> bool {
    addresses.source == MacAddress::ZERO && addresses.destination == MacAddress::ZERO
}

pub(super) fn execute(shared: &Shared, client: &mut Client, packet: &[u8], actions: &[Action]) {
    if actions.is_empty() {
        return;
    }
    match client.execute(shared.datapath, packet, actions) {
        Ok(()) => bump(&shared.counters.executed),
        Err(error) => {
            tracing::debug!("a packet was not executed: {error}");
            bump(&shared.counters.dropped_error);
        }
    }
}

/// The ports of the datapath, for what the router itself has to say to local stations.
struct LocalPorts<'a> {
    shared: &'a Shared,
    client: &'a mut Client,
}

impl Inject for LocalPorts<'_> {
    fn inject(&mut self, frame: Frame<'_>) {
        let Some(addresses) = Addresses::of(frame.bytes) else { return };
        let to = addresses.destination;
        let ports = self.shared.state.ground(|ground| local_ports(&ground.bridge, to));
        let actions: Vec<_> = ports.into_iter().map(Action::Output).collect();
        execute(self.shared, self.client, frame.bytes, &actions);
    }
}

fn local_ports(bridge: &Bridge, destination: MacAddress) -> Vec<PortNumber> {
    match bridge.decide(Place::Router, destination) {
        Verdict::To(Place::Port(port)) => vec![port],
        Verdict::Flood { ports, .. } => ports,
        Verdict::To(Place::Router) | Verdict::Stay => Vec::new(),
    }
}
