//! What happens because time passes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{GOSSIP_INTERVAL, Mesh, TcpSide};
use crate::mesh::ConnectionId;
use crate::mesh::Message;
use crate::mesh::connection::Connection;
use crate::mesh::gossip::Outbox;
use crate::time::Instant;

/// From the first reason to calculate routes to the calculation (spec mesh.md, section 17.3).
const ROUTES_DEFERRAL: Duration = Duration::from_millis(100);
/// From the first change of the own record to its announcement, after a time of rest. A link is
/// added, and established some milliseconds later: both go in one announcement.
const ANNOUNCEMENT_DEFERRAL: Duration = Duration::from_millis(100);
/// From one announcement to the next. The original waits that long before the first one too (spec
/// mesh.md, section 12.5), and what containers send meanwhile to those behind a new link is lost.
const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(1);
/// From the latest update of the topology to the collection of what is out of reach (12.4). The
/// original waits for one second from the first one, which is also how long the link that leads
/// there takes to be announced: too often it comes just after.
const COLLECTION_DEFERRAL: Duration = Duration::from_secs(2);
/// From the first update to the collection, if there is no end of them.
const MAX_COLLECTION_DEFERRAL: Duration = Duration::from_secs(10);
/// Between two looks at the targets that the topology or connections bring about. While a mesh
/// forms there are hundreds of reasons a second, and each look goes through all peers.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The timers of a router. Those of connections are kept as one queue.
pub(super) struct Deadlines {
    /// One entry for each connection: when to look at it. May be early.
    connections: BTreeSet<(Instant, ConnectionId)>,
    pub(super) routes: Option<Instant>,
    pub(super) announcement: Option<Instant>,
    last_announcement: Option<Instant>,
    pub(super) collection: Option<Instant>,
    collection_limit: Instant,
    pub(super) gaps: Option<Instant>,
    pub(super) comparison: Option<Instant>,
    gossip: Instant,
    check: Option<Instant>,
    last_check: Option<Instant>,
}

impl Deadlines {
    pub(super) fn new(gossip: Instant) -> Self {
        Self {
            connections: BTreeSet::new(),
            routes: None,
            announcement: None,
            last_announcement: None,
            collection: None,
            collection_limit: gossip,
            gaps: None,
            comparison: None,
            gossip,
            check: None,
            last_check: None,
        }
    }

    pub(super) fn routes_soon(&mut self, now: Instant) {
        self.routes.get_or_insert(now + ROUTES_DEFERRAL);
    }

    pub(super) fn announce_soon(&mut self, now: Instant) {
        let soon = now + ANNOUNCEMENT_DEFERRAL;
        let earliest =
            self.last_announcement.map_or(soon, |last| soon.max(last + ANNOUNCEMENT_INTERVAL));
        self.announcement.get_or_insert(earliest);
    }

    /// Whether it is time to announce the own record.
    fn take_announcement(&mut self, now: Instant) -> bool {
        let due = take_due(&mut self.announcement, now);
        if due {
            self.last_announcement = Some(now);
        }
        due
    }

    pub(super) fn collect_soon(&mut self, now: Instant) {
        if self.collection.is_none() {
            self.collection_limit = now + MAX_COLLECTION_DEFERRAL;
        }
        self.collection = Some((now + COLLECTION_DEFERRAL).min(self.collection_limit));
    }

    /// The user is waiting.
    pub(super) fn check_now(&mut self, now: Instant) {
        self.check = Some(now);
    }

    /// At once, unless there was a check just before.
    pub(super) fn check_soon(&mut self, now: Instant) {
        let earliest = self.last_check.map_or(now, |last| now.max(last + CHECK_INTERVAL));
        self.check.get_or_insert(earliest);
    }

    /// Whether it is time to look at the targets.
    pub(super) fn take_check(&mut self, now: Instant) -> bool {
        let due = self.check.is_some_and(|at| at <= now);
        if due {
            self.check = None;
            self.last_check = Some(now);
        }
        due
    }

    /// Sees to it that the connection is looked at in time.
    pub(super) fn arm(&mut self, id: ConnectionId, connection: &mut Connection) {
        let at = connection.next_deadline();
        if connection.armed.is_some_and(|armed| armed <= at) {
            return;
        }
        self.disarm(id, connection);
        connection.armed = Some(at);
        self.connections.insert((at, id));
    }

    pub(super) fn disarm(&mut self, id: ConnectionId, connection: &mut Connection) {
        if let Some(armed) = connection.armed.take() {
            self.connections.remove(&(armed, id));
        }
    }

    fn pop_connection(&mut self, now: Instant) -> Option<ConnectionId> {
        let (at, id) = *self.connections.first()?;
        if at > now {
            return None;
        }
        self.connections.remove(&(at, id));
        Some(id)
    }
}

fn take_due(deadline: &mut Option<Instant>, now: Instant) -> bool {
    deadline.take_if(|at| *at <= now).is_some()
}

impl Mesh {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = &self.deadlines;
        let channels = self.channels.values().filter_map(|channel| channel.poll_timeout());
        [
            deadlines.connections.first().map(|(at, _)| *at),
            deadlines.routes,
            deadlines.announcement,
            deadlines.collection,
            deadlines.gaps,
            deadlines.comparison,
            Some(deadlines.gossip),
            deadlines.check,
            self.connector.poll_timeout(),
            self.next_duplicate_deadline(),
            self.next_resumption(),
        ]
        .into_iter()
        .flatten()
        .chain(channels)
        .min()
    }

    /// Ends connections that took too long, and tells the others that we are alive.
    pub(super) fn expire_connections(&mut self) {
        while let Some(id) = self.deadlines.pop_connection(self.now) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.armed = None;
            if let Some(error) = connection.expired(self.now) {
                self.end(id, error, TcpSide::Open);
                continue;
            }
            // While something waits to be written, the peer hears from us anyway.
            if connection.take_heartbeat(self.now) && connection.unsent() == 0 {
                self.transmit(id, &Message::Heartbeat);
            }
            if let Some(connection) = self.connections.get_mut(&id) {
                self.deadlines.arm(id, connection);
            }
        }
    }

    pub(super) fn run_deadlines(&mut self) {
        let now = self.now;
        if take_due(&mut self.deadlines.collection, now) {
            self.collect_garbage();
        }
        if take_due(&mut self.deadlines.routes, now) {
            self.calculate_routes();
        }
        if take_due(&mut self.deadlines.comparison, now) {
            self.compare_with_one();
        }
        if take_due(&mut self.deadlines.gaps, now) {
            self.ask_for_gaps();
        }
        if self.deadlines.take_announcement(now) {
            self.announce_changes();
        }
        if self.deadlines.gossip <= now {
            self.deadlines.gossip = now + GOSSIP_INTERVAL;
            self.gossip_complete_states();
        }
        if self.connector.poll_timeout().is_some_and(|at| at <= now) {
            self.deadlines.check_now(now);
        }
        self.run_channel_timeouts();
    }

    fn run_channel_timeouts(&mut self) {
        let now = self.now;
        let due = |channel: &dyn crate::mesh::gossip::Channel| {
            channel.poll_timeout().is_some_and(|at| at <= now)
        };
        let names: Vec<_> = self
            .channels
            .iter()
            .filter(|(_, channel)| due(&***channel))
            .map(|(name, _)| std::sync::Arc::clone(name))
            .collect();
        for name in names {
            let mut out = Outbox::default();
            if let Some(channel) = self.channels.get_mut(&name) {
                channel.handle_timeout(now, &mut out);
            }
            self.fulfil(&name, out);
        }
    }
}
