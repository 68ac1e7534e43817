//! The thread that keeps ports and flows as they should be (spec fastdp.md, section 8).

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use weave_core::switch::SWEEP_INTERVAL;
use weave_core::time::Instant;
use weave_odp::{Client, DecodeError, Errno, Error, Flow, FlowMatch, VportEvent, VportEvents};

use super::bridge::BridgePort;
use super::config::OdpFailure;
use super::flow_table::Maintenance;
use super::plan::Input;
use super::shared::Shared;

/// Flows that were not used for that long are deleted (spec fastdp.md, section 8).
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// The same while there is no room for new flows.
const FULL_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between checks of the datapath and its features, by one request.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Least interval between two revalidations: a mesh that comes together changes its routes many
/// times in a row. The first change after a time of rest is dealt with at once.
const REVALIDATION_INTERVAL: Duration = Duration::from_millis(50);

/// The revalidator of an engine.
pub(super) struct Revalidator {
    shared: Arc<Shared>,
    events: VportEvents,
    client: Client,
    revalidated: Instant,
    swept: Instant,
    maintained: Instant,
    checked: Instant,
}

impl Revalidator {
    pub(super) fn new(shared: Arc<Shared>, events: VportEvents) -> Result<Self, Error> {
        let now = shared.now();
        let client = Client::open()?;
        let (revalidated, swept, maintained, checked) = (now, now, now, now);
        Ok(Self { shared, events, client, revalidated, swept, maintained, checked })
    }

    /// Works until the engine stops.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let limit = self.next().saturating_since(shared.now());
            match shared.signals.wait(&[shared.signals.wakeup(), self.events.as_fd()], Some(limit))
            {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return shared.fail(OdpFailure::Wait(error)),
            }
            shared.signals.clear_wakeup();
            if let Err(failure) = self.run_due() {
                return shared.fail(failure);
            }
        }
    }

    /// Returns when something is due.
    fn next(&self) -> Instant {
        let due = (self.maintained + self.idle_timeout()).min(self.swept + SWEEP_INTERVAL);
        let due = due.min(self.checked + CHECK_INTERVAL);
        let due = self.shared.tunnel_ports().next_expiry().map_or(due, |expiry| due.min(expiry));
        if self.shared.signals.is_stale() {
            due.min(self.revalidated + REVALIDATION_INTERVAL)
        } else {
            due
        }
    }

    fn idle_timeout(&self) -> Duration {
        if self.shared.signals.is_table_full() { FULL_IDLE_TIMEOUT } else { IDLE_TIMEOUT }
    }

    /// Does everything that is due.
    fn run_due(&mut self) -> Result<(), OdpFailure> {
        self.handle_events()?;
        let now = self.shared.now();
        if now.saturating_since(self.checked) >= CHECK_INTERVAL {
            self.checked = now;
            if !self.shared.check_datapath(&mut self.client)? {
                return Err(OdpFailure::DatapathDeleted);
            }
        }
        if self.shared.tunnel_ports().next_expiry().is_some_and(|expiry| expiry <= now) {
            self.shared.change_tunnel_ports(|ports| ports.expire_retained(now));
        }
        if now.saturating_since(self.revalidated) >= REVALIDATION_INTERVAL
            && self.shared.signals.take_stale()
        {
            self.revalidate();
            self.revalidated = now;
        }
        if now.saturating_since(self.swept) >= SWEEP_INTERVAL {
            self.shared.state.local(|local| local.bridge.sweep(now));
            self.swept = now;
        }
        if now.saturating_since(self.maintained) >= self.idle_timeout() {
            self.maintained = now;
            self.maintain()?;
            self.shared.signals.clear_full_table();
        }
        Ok(())
    }

    fn handle_events(&mut self) -> Result<(), Error> {
        loop {
            let event = self
                .events
                .poll_event()
                .map_err(|source| Error::Socket { request: "listen to ports", source })?;
            match event {
                None => return Ok(()),
                Some(VportEvent::Present(vport)) => {
                    self.shared.add_vport(&mut self.client, vport)?;
                }
                Some(VportEvent::Deleted(vport)) => self.shared.remove_vport(&vport),
                Some(VportEvent::Lost) => self.shared.list_vports(&mut self.client)?,
                Some(VportEvent::Malformed(error)) => log_malformed(&error),
            }
        }
    }

    /// Changes the flows that should do something else now.
    fn revalidate(&mut self) {
        let Self { shared, client, .. } = self;
        shared.counters.revalidations.increment();
        let mut table = shared.state.flows();
        let changes = shared.with_planner(&shared.switch.table(), |planner| {
            table.changes(|matches, actions| planner.revalidate(matches, actions))
        });
        for (matches, actions) in changes {
            let replaced = actions.map(|actions| Flow { matches: matches.clone(), actions });
            match replaced {
                Some(flow) if client.put_flow(shared.datapath, &flow).is_ok() => {
                    shared.counters.flows_put.increment();
                    table.put(&flow);
                }
                _ => {
                    delete(shared, client, &matches);
                    table.remove(&matches);
                }
            }
        }
    }

    /// Deletes unused flows, and refreshes the stations of the others. There may be thousands, and
    /// the table is unlocked in between, so that misses do not wait for all of them.
    fn maintain(&mut self) -> Result<(), Error> {
        let Self { shared, client, .. } = self;
        let steps = {
            let mut table = shared.state.flows();
            let dump = client.flows(shared.datapath)?;
            dump.skipped.iter().for_each(log_malformed);
            table.maintain(&dump.flows)
        };
        for step in steps {
            match step {
                Maintenance::Delete(matches) => {
                    // In this order: a packet that misses afterwards may put the flow again.
                    shared.state.flows().remove(&matches);
                    delete(shared, client, &matches);
                }
                Maintenance::Reset(matches) => {
                    refresh_station(shared, &matches);
                    let mut table = shared.state.flows();
                    // Its actions may have changed since.
                    let Some(flow) = table.flow(matches) else { continue };
                    if let Err(error) = client.clear_flow(shared.datapath, &flow) {
                        tracing::debug!("flow {} is not reset: {error}", flow.matches);
                        table.remove(&flow.matches);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Notes that the sender of packets that the kernel has carried by a flow is where it was.
fn refresh_station(shared: &Shared, matches: &FlowMatch) {
    let Some(input) = Input::of_flow(matches) else { return };
    let Some(addresses) = input.addresses else { return };
    let own = shared.switch.own();
    match input.tunnel {
        None if shared.state.local(|local| local.own_port()) == Some(input.port) => {
            shared.learn(addresses.source, BridgePort::Router);
        }
        None => {
            if shared.switch.refresh_station(shared.now(), addresses.source, own) {
                shared.learn(addresses.source, BridgePort::Vport(input.port));
            }
        }
        Some(tunnel) => {
            let sender = shared.tunnel_ports().sender(&tunnel);
            if let Some(sender) = sender.filter(|sender| sender.destination == own)
                && shared.switch.refresh_station(shared.now(), addresses.source, sender.source)
            {
                shared.learn(addresses.source, BridgePort::Router);
            }
        }
    }
}

fn delete(shared: &Shared, client: &mut Client, matches: &FlowMatch) {
    match client.delete_flow(shared.datapath, matches) {
        Ok(()) => shared.counters.flows_deleted.increment(),
        Err(error) if error.errno() == Some(Errno::ENOENT) => {}
        Err(error) => tracing::warn!("flow {matches} is not deleted: {error}"),
    }
}

fn log_malformed(error: &DecodeError) {
    tracing::debug!("ignored an entry that the kernel lists: {error}");
}
