//! Work in turns: a connection whose messages cost much waits, the others do not.
//!
//! ```text
//!   bytes ──▶ session ──▶ messages, while the connection has credit
//!                │
//!                └─ none left: it is behind. The rest stays where it is, the driver reads no more
//!                   of its socket, and TCP makes the peer wait. When there is credit again the
//!                   rest is dealt with, some connections a turn.
//! ```

use std::time::Duration;

use super::{Mesh, TcpSide};
use crate::mesh::connection::Connection;
use crate::mesh::error::ConnectionError;
use crate::mesh::gossip::{hops, sync};
use crate::mesh::{ConnectionId, Message};
use crate::time::Instant;

/// Connections that go on in one turn. What else is due has the next turn, after whatever else
/// the driver has to do.
const RESUMED_PER_TURN: usize = 4;

/// For a record that has to be found, compared or encoded for one connection.
const PER_RECORD: Duration = Duration::from_micros(4);
/// For an entry of an inventory.
const PER_ENTRY: Duration = Duration::from_nanos(500);

impl Mesh {
    /// Whether messages of a connection wait since it has used up its share of the router's time.
    /// Until this turns false, which happens in [`Self::handle_timeout`], no more should be read
    /// of its socket.
    pub fn is_behind(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.resumes_at.is_some())
    }

    /// Deals with the messages that are complete, as far as the credit of the connection goes.
    pub(super) fn read_messages(&mut self, id: ConnectionId) {
        loop {
            let entries = self.peers.count();
            let Some(connection) = self.connections.get_mut(&id) else { return };
            if connection.resumes_at.is_some() {
                return;
            }
            let has_credit = connection.credit.is_left(self.now);
            let Some(peered) = connection.peered_mut().filter(|peered| peered.is_registered())
            else {
                return;
            };
            if !has_credit {
                if peered.has_message() {
                    self.fall_behind(id);
                }
                return;
            }
            let result = match peered.next_message() {
                Ok(None) => return,
                Ok(Some(message)) => {
                    connection.credit.spend(price(&message, entries));
                    connection.message_complete(self.now);
                    self.counters.messages_received += 1;
                    self.counters.bytes_received += message.len() as u64;
                    self.handle_message(id, &message)
                }
                Err(error) => Err(ConnectionError::Malformed(error.to_string())),
            };
            if let Err(error) = result {
                return self.end(id, error, TcpSide::Open);
            }
        }
    }

    fn fall_behind(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let at = connection.credit.returns_at();
        connection.resumes_at = Some(at);
        self.behind.insert((at, id));
        self.counters.messages_delayed += 1;
    }

    /// Goes on with connections that have credit again, those first that have waited longest.
    pub(super) fn resume_behind(&mut self) {
        for _ in 0..RESUMED_PER_TURN {
            let due = self.behind.first().copied().filter(|(at, _)| *at <= self.now);
            let Some((at, id)) = due else { return };
            self.behind.remove(&(at, id));
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.resumes_at = None;
            self.read_messages(id);
            self.count_partial(id);
        }
    }

    pub(super) fn next_resumption(&self) -> Option<Instant> {
        self.behind.first().map(|(at, _)| *at)
    }

    /// A connection ended that may have been behind.
    pub(super) fn leave_behind(&mut self, id: ConnectionId, connection: &mut Connection) {
        if let Some(at) = connection.resumes_at.take() {
            self.behind.remove(&(at, id));
        }
    }

    /// A neighbour made this router handle so many records.
    pub(super) fn charge_records(&mut self, id: ConnectionId, count: usize) {
        self.charge(id, PER_RECORD, count);
    }

    /// A neighbour gets an inventory of all that is known.
    pub(super) fn charge_inventory(&mut self, id: ConnectionId) {
        self.charge(id, PER_ENTRY, self.peers.count());
    }

    fn charge(&mut self, id: ConnectionId, price: Duration, count: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            connection.credit.spend(price.saturating_mul(count));
        }
    }
}

/// What it takes to read a message and to do what it says, apart from what its contents turn out to
/// ask for, if so many peers are known.
fn price(message: &[u8], peers: usize) -> Duration {
    let (base, per_byte) = match Message::decode(message) {
        // Records are decoded field by field, and compared.
        Some(Message::Gossip(_) | Message::Broadcast(_)) => (10_000, 20),
        // Mostly passed on: what it costs here it costs the next one as well.
        Some(Message::Unicast(_) | Message::Unknown { tag: hops::TAG, .. }) => (10_000, 15),
        Some(Message::Control(_) | Message::LegacyControl(..)) => (20_000, 1),
        Some(Message::Unknown { tag: sync::TAG, payload }) => {
            let compared = if sync::compares(payload) { peers } else { 0 };
            (5_000 + 250 * compared as u64, 30)
        }
        _ => (2_000, 1),
    };
    Duration::from_nanos(base + per_byte * message.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_questions_about_a_large_mesh_are_dear() {
        let heartbeat = price(&[0], 4000);
        let question = price(&[sync::TAG, 1], 4000);
        assert!(question > 100 * heartbeat, "{question:?} {heartbeat:?}");
        assert!(price(&[sync::TAG, 1], 2) < Duration::from_micros(10));
        assert!(price(&[], 4000) <= heartbeat);
    }
}
