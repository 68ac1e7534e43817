//! Time, and what happens in it.

use std::time::Duration;

use super::super::names::HostId;
use super::super::tcp::Stream;
use super::{Happening, Net};
use crate::mesh::ConnectionId;
use crate::router::Router;
use crate::time::Instant;

impl Net {
    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Lets time pass until something is the case, looking every tenth of a second.
    ///
    /// # Errors
    /// What is not the case after `limit`.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut condition: impl FnMut(&Self) -> Result<(), String>,
    ) -> Result<Duration, String> {
        let start = self.now;
        loop {
            match condition(self) {
                Ok(()) => return Ok(self.now.saturating_since(start)),
                Err(error) if self.now >= start + limit => {
                    return Err(format!("after {limit:?}: {error}"));
                }
                Err(_) => self.run_for(Duration::from_millis(100)),
            }
        }
    }

    /// Lets the next thing happen, if it does so before `end`. Else it is `end` now.
    fn step(&mut self, end: Instant) -> bool {
        match self.queue.first_entry() {
            Some(entry) if entry.key().0 <= end => {
                let ((at, _), happening) = entry.remove_entry();
                self.now = self.now.max(at);
                self.happen(happening);
                true
            }
            _ => {
                self.now = self.now.max(end);
                false
            }
        }
    }

    pub(super) fn schedule(&mut self, delay: Duration, happening: Happening) {
        self.schedule_at(self.now + delay, happening);
    }

    pub(super) fn schedule_at(&mut self, at: Instant, happening: Happening) {
        self.next_happening += 1;
        self.queue.insert((at, self.next_happening), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Timer(host, incarnation) => self.fire_timer(host, incarnation),
            Happening::Request(stream) => self.handle_request(stream),
            Happening::Accept(stream) => self.accept(stream),
            Happening::Up(stream) => {
                let Some(Stream { dialler, listener }) = self.streams.get(&stream) else { return };
                let (host, id) = (dialler.host, dialler.id);
                let (local, remote) = (dialler.address, listener.address);
                self.tell(host, id, |router, now, id| {
                    router.handle_dialled(now, id, local, remote);
                });
            }
            Happening::Refused(host, id) => {
                self.tell(host, Some(id), |router, now, id| {
                    router.handle_dial_failed(now, id, "connection refused".to_owned());
                });
            }
            Happening::Chunk(stream, side) => self.deliver(stream, side),
            Happening::Reset(stream, side) => self.handle_reset(stream, side),
            Happening::Resolved(host, target, name) => {
                let result = self.names.get(&name).cloned().ok_or("no such host".to_owned());
                self.ask(host, |router, now| router.handle_resolved(now, &target, result));
            }
            Happening::Datagram(from, to, datagram) => self.handle_datagram(from, to, datagram),
        }
    }

    pub(super) fn tell(
        &mut self,
        host: HostId,
        id: Option<ConnectionId>,
        tell: impl FnOnce(&mut Router, Instant, ConnectionId),
    ) {
        if let Some(id) = id {
            self.ask(host, |router, now| tell(router, now, id));
        }
    }

    fn fire_timer(&mut self, host: HostId, incarnation: u64) {
        let entry = &mut self.hosts[host.0];
        let now = entry.clock(self.now);
        if entry.incarnation != incarnation {
            return;
        }
        let Some(running) = &mut entry.running else { return };
        if running.timer_at.is_some_and(|at| at <= self.now) {
            running.timer_at = None;
        }
        if running.router.poll_timeout().is_some_and(|at| at <= now) {
            running.router.handle_timeout(now);
        }
        self.settle(host);
    }
}
