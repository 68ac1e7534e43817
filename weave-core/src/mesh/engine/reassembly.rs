//! Memory for messages that have not come completely, over all connections.
//!
//! A message may have 10 MiB, and without a password anybody may open as many connections as are
//! allowed and begin one on each.

use super::{Mesh, TcpSide};
use crate::mesh::connection::Peered;
use crate::mesh::error::ConnectionError;
use crate::mesh::{ConnectionId, MAX_MESSAGE_LEN};

/// For all of them together: the longest message for half a dozen neighbours at one time, and
/// what our own routers send, at most 1 MiB, for dozens.
pub(super) const BUDGET: usize = 64 << 20;
const _: () = assert!(BUDGET > 4 * MAX_MESSAGE_LEN);

impl Mesh {
    /// For the simulator: less room for peers and their connections than there is.
    #[cfg(any(test, feature = "sim"))]
    pub const fn set_room(&mut self, peers: usize, links: usize) {
        self.peers.set_room(peers, links);
    }

    /// For the simulator and fuzzers: what is kept of connections fits the connections.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn assert_consistent(&self) {
        let partial: usize = self.connections.values().map(|connection| connection.partial).sum();
        assert_eq!(self.partial, partial, "bytes of incomplete messages");
        assert!(self.partial <= BUDGET, "memory for incomplete messages");
        let held: usize = self.connections.values().map(|connection| connection.held).sum();
        assert_eq!(self.held, held, "bytes that wait for peers");
        assert!(self.held <= super::backlog::BUDGET, "memory for what waits for peers");
        for (id, connection) in &self.connections {
            assert_eq!(connection.held, connection.waiting(), "bytes that wait for {id:?}");
            let behind = connection.resumes_at.is_none_or(|at| self.behind.contains(&(at, *id)));
            assert!(behind, "{id:?} would never go on");
        }
        for (peer, duplicate) in &self.duplicates {
            assert!(
                duplicate.is_about(*peer, &self.by_peer, &self.connections),
                "duplicate of {peer}"
            );
        }
    }

    /// Counts what a connection keeps of messages that are incomplete or not dealt with. If that is
    /// too much in all, the one that keeps most has to go, of those from where most is kept.
    pub(super) fn count_partial(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let now = connection.peered().map_or(0, Peered::unread);
        let before = std::mem::replace(&mut connection.partial, now);
        self.partial = self.partial + now - before;
        if self.partial <= BUDGET {
            return;
        }
        let Some(id) = self.greediest(|connection| connection.partial) else { return };
        let Some(connection) = self.connections.get(&id) else { return };
        let error = ConnectionError::Reassembly { held: connection.partial, budget: BUDGET };
        self.counters.reassembly_exhausted += 1;
        self.end(id, error, TcpSide::Open);
    }
}
