//! The thread that keeps ports and flows as they should be (spec fastdp.md, section 8).

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weave_core::switch::SWEEP_INTERVAL;
use weave_core::time::Instant;
use weave_odp::{Client, DecodeError, Errno, Error, Flow, FlowMatch, VportEvent, VportEvents};

use super::book::Upkeep;
use super::bridge::Place;
use super::engine::{Shared, bump};
use super::plan::Input;

/// Flows that nothing used for that long are deleted (spec fastdp.md, section 8).
const UPKEEP_INTERVAL: Duration = Duration::from_secs(300);
/// The same while there is no room for new ones.
const CROWDED_INTERVAL: Duration = Duration::from_secs(5);
/// How often to look whether the datapath is there, and does what it is to: one request.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two revisions: a mesh that comes together changes its routes many times in a row. The
/// first change after a time of rest is dealt with at once.
const REVISION_INTERVAL: Duration = Duration::from_millis(50);

pub(super) struct Keeper {
    shared: Arc<Shared>,
    events: VportEvents,
    client: Client,
    revised: Instant,
    swept: Instant,
    maintained: Instant,
    looked: Instant,
}

/// Why there is nothing to keep any more.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("somebody deleted the datapath")]
    Deleted,
    #[error(transparent)]
    Kernel(#[from] Error),
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, events: VportEvents) -> Result<Self, Error> {
        let now = shared.now();
        let client = Client::open()?;
        Ok(Self { shared, events, client, revised: now, swept: now, maintained: now, looked: now })
    }

    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let limit = self.next().saturating_since(shared.now());
            match shared.wait(&[shared.alarm.as_fd(), self.events.as_fd()], Some(limit)) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return shared.fail(&format!("waiting: {error}")),
            }
            // Nothing to read is as good.
            let _ = shared.alarm.read();
            if let Err(error) = self.turn() {
                return shared.fail(&error.to_string());
            }
        }
    }

    /// When something is due.
    fn next(&self) -> Instant {
        let upkeep = if self.shared.crowded.load(Ordering::Relaxed) {
            CROWDED_INTERVAL
        } else {
            UPKEEP_INTERVAL
        };
        let due = (self.maintained + upkeep).min(self.swept + SWEEP_INTERVAL);
        let due = due.min(self.looked + LOOK_INTERVAL);
        let due = self.shared.roads.load().next_to_forget().map_or(due, |end| due.min(end));
        if self.shared.stale.load(Ordering::Acquire) {
            due.min(self.revised + REVISION_INTERVAL)
        } else {
            due
        }
    }

    fn turn(&mut self) -> Result<(), End> {
        self.handle_events()?;
        let now = self.shared.now();
        if now.saturating_since(self.looked) >= LOOK_INTERVAL {
            self.looked = now;
            if !self.shared.look_at_datapath(&mut self.client)? {
                return Err(End::Deleted);
            }
        }
        if self.shared.roads.load().next_to_forget().is_some_and(|end| end <= now) {
            self.shared.change_roads(|roads| roads.forget_ended(now));
        }
        if now.saturating_since(self.revised) >= REVISION_INTERVAL
            && self.shared.stale.swap(false, Ordering::AcqRel)
        {
            self.revise();
            self.revised = now;
        }
        if now.saturating_since(self.swept) >= SWEEP_INTERVAL {
            self.shared.state.ground(|ground| ground.bridge.sweep(now));
            self.swept = now;
        }
        let crowded = self.shared.crowded.load(Ordering::Relaxed);
        let interval = if crowded { CROWDED_INTERVAL } else { UPKEEP_INTERVAL };
        if now.saturating_since(self.maintained) >= interval {
            self.maintained = now;
            self.maintain()?;
            self.shared.crowded.store(false, Ordering::Relaxed);
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
                    self.shared.vport_is_there(&mut self.client, vport)?;
                }
                Some(VportEvent::Deleted(vport)) => self.shared.vport_is_gone(&vport),
                Some(VportEvent::Lost) => self.shared.list_vports(&mut self.client)?,
                Some(VportEvent::Malformed(error)) => unreadable(&error),
            }
        }
    }

    /// Brings flows in line with what they should do now; those that do it already stay.
    fn revise(&mut self) {
        let Self { shared, client, .. } = self;
        bump(&shared.counters.revisions);
        let mut book = shared.state.flows();
        let changes = shared.with_planner(|planner| {
            book.revise(|matches, actions| planner.revise(matches, actions))
        });
        for (matches, actions) in changes {
            let replaced = actions.map(|actions| Flow { matches: matches.clone(), actions });
            match replaced {
                Some(flow) if client.put_flow(shared.datapath, &flow).is_ok() => {
                    bump(&shared.counters.flows_put);
                    book.put(&flow);
                }
                _ => {
                    delete(shared, client, &matches);
                    book.remove(&matches);
                }
            }
        }
    }

    /// Deletes flows that nothing used, and notes that the stations of the others are alive. There
    /// may be thousands, and packets that miss meanwhile do not wait for all of them.
    fn maintain(&mut self) -> Result<(), Error> {
        let Self { shared, client, .. } = self;
        let listed = {
            let mut book = shared.state.flows();
            let dump = client.flows(shared.datapath)?;
            dump.skipped.iter().for_each(unreadable);
            book.maintain(&dump.flows)
        };
        for upkeep in listed {
            match upkeep {
                Upkeep::Delete(matches) => {
                    // In this order: what misses is put again after it is deleted, and written down.
                    shared.state.flows().remove(&matches);
                    delete(shared, client, &matches);
                }
                Upkeep::Keep(matches) => {
                    touch(shared, &matches);
                    let mut book = shared.state.flows();
                    // It may have got other actions since.
                    let Some(flow) = book.flow(matches) else { continue };
                    if let Err(error) = client.clear_flow(shared.datapath, &flow) {
                        tracing::debug!("flow {} is not cleared: {error}", flow.matches);
                        book.remove(&flow.matches);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The kernel carried packets by this flow: their sender is alive, and where it was.
fn touch(shared: &Shared, matches: &FlowMatch) {
    let Some(input) = Input::of_flow(matches) else { return };
    let Some(addresses) = input.addresses else { return };
    let own = shared.switch.own();
    match input.tunnel {
        None if shared.state.ground(|ground| ground.own_port()) == Some(input.port) => {
            shared.learn(addresses.source, Place::Router);
        }
        None => {
            shared.switch.refresh_station(shared.now(), addresses.source, own);
            shared.learn(addresses.source, Place::Port(input.port));
        }
        Some(tunnel) => {
            let sender = shared.roads.load().sender(&tunnel);
            if let Some(sender) = sender.filter(|sender| sender.destination == own) {
                shared.switch.refresh_station(shared.now(), addresses.source, sender.source);
                shared.learn(addresses.source, Place::Router);
            }
        }
    }
}

fn delete(shared: &Shared, client: &mut Client, matches: &FlowMatch) {
    match client.delete_flow(shared.datapath, matches) {
        Ok(()) => bump(&shared.counters.flows_deleted),
        Err(error) if error.errno() == Some(Errno::ENOENT) => {}
        Err(error) => tracing::warn!("flow {matches} is not deleted: {error}"),
    }
}

fn unreadable(error: &DecodeError) {
    tracing::debug!("left out of what the kernel lists: {error}");
}
