//! Memory for what waits until peers read it, over all connections.
//!
//! Each connection is bounded, but a host can have many. What they hold in all is bounded, too, and
//! those of the host that holds most have to go first.

use std::collections::BTreeMap;

use super::Mesh;
use crate::mesh::ConnectionId;
use crate::mesh::accept::Source;
use crate::mesh::connection::Connection;
use crate::mesh::error::ConnectionError;

/// For all connections together: all records of a large mesh for dozens of neighbours.
pub(super) const BUDGET: usize = 64 << 20;

impl Mesh {
    /// Counts what waits for the peer of a connection.
    pub(super) fn count_held(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let now = connection.waiting();
        let before = std::mem::replace(&mut connection.held, now);
        self.held = self.held + now - before;
    }

    /// The connection that has to go, if all together hold too much.
    pub(super) fn over_budget(&mut self) -> Option<(ConnectionId, ConnectionError)> {
        if self.held <= BUDGET {
            return None;
        }
        let id = self.greediest(|connection| connection.held)?;
        let held = self.connections.get(&id)?.held;
        self.counters.backlog_exhausted += 1;
        Some((id, ConnectionError::BacklogBudget { held, budget: BUDGET }))
    }

    /// The connection that holds most, of those from where most is held.
    pub(super) fn greediest(&self, held: fn(&Connection) -> usize) -> Option<ConnectionId> {
        let mut sources: BTreeMap<Source, usize> = BTreeMap::new();
        for connection in self.connections.values() {
            *sources.entry(Source::of(connection.remote.ip())).or_default() += held(connection);
        }
        let (source, _) = sources.into_iter().max_by_key(|(_, held)| *held)?;
        let of_source =
            self.connections.iter().filter(|(_, c)| Source::of(c.remote.ip()) == source);
        of_source.max_by_key(|(_, connection)| held(connection)).map(|(id, _)| *id)
    }
}
