//! Where connections come from, and how many one host may have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Mesh, TcpSide};
use crate::mesh::ConnectionId;
use crate::mesh::accept::Source;
use crate::mesh::connection::Connection;
use crate::mesh::error::ConnectionError;
use crate::time::Instant;

/// Inbound connections in the middle of their handshake. Honest ones need a few round trips;
/// when there are more, the oldest from where most come from makes room.
const MAX_HALF_OPEN: usize = 256;
/// Those of one source: a few racks behind one address that start at once.
const MAX_HALF_OPEN_OF_SOURCE: usize = 64;
/// One source has no more than half of the connections there may be, unless there may be few.
const MIN_SHARE_OF_SOURCE: usize = 16;
/// How old the list of known sources may be: it takes a look at all peers.
const MEMORY: Duration = Duration::from_secs(10);

/// Where peers are known to be.
#[derive(Default)]
pub(super) struct KnownSources {
    sources: Arc<BTreeSet<Source>>,
    until: Option<Instant>,
}

impl Mesh {
    /// From where peers may come that are worth sparing when too many connections come in: targets
    /// of the user, neighbours, and addresses at which others reached peers. A few seconds old at
    /// most.
    pub fn known_sources(&mut self, now: Instant) -> Arc<BTreeSet<Source>> {
        self.advance(now);
        if self.known.until.is_none_or(|until| until <= self.now) {
            let neighbours = self.by_peer.values().filter_map(|id| self.connections.get(id));
            let neighbours = neighbours.map(|connection| connection.remote.ip());
            let records = self.peers.iter().flat_map(|peer| &peer.connections);
            let reached = records.filter(|connection| connection.outbound);
            let reached = reached.filter_map(|connection| connection.address.socket());
            let reached = reached.map(|address| address.ip());
            let all = neighbours.chain(reached).chain(self.connector.direct_addresses());
            self.known.sources = Arc::new(all.map(Source::of).collect());
            self.known.until = Some(self.now + MEMORY);
        }
        Arc::clone(&self.known.sources)
    }

    /// Makes room for one more handshake from this source, if it needs any.
    pub(super) fn make_room(&mut self, newcomer: Source) {
        let mut sources: BTreeMap<Source, (usize, ConnectionId)> = BTreeMap::new();
        let mut count = 0;
        for (id, connection) in self.connections.iter().filter(|(_, c)| c.is_half_open()) {
            sources.entry(Source::of(connection.remote.ip())).or_insert((0, *id)).0 += 1;
            count += 1;
        }
        let own = sources.get(&newcomer).filter(|(count, _)| *count >= MAX_HALF_OPEN_OF_SOURCE);
        let gone = match own {
            Some((_, oldest)) => *oldest,
            None if count >= MAX_HALF_OPEN => match self.crowd(&sources) {
                Some(oldest) => oldest,
                None => return,
            },
            None => return,
        };
        self.counters.crowded_out += 1;
        self.end(gone, ConnectionError::CrowdedOut, TcpSide::Open);
    }

    /// The oldest from where most come from, of sources that nobody knows if there are any. Chance
    /// decides between equals, since any rule could be used to keep somebody out.
    fn crowd(&mut self, sources: &BTreeMap<Source, (usize, ConnectionId)>) -> Option<ConnectionId> {
        let known = self.known_sources(self.now);
        let strangers = |source: &Source| !known.contains(source);
        let any_stranger = sources.keys().any(strangers);
        let candidates = || {
            let candidates = sources.iter();
            candidates.filter(|(source, _)| !any_stranger || strangers(source)).map(|(_, of)| *of)
        };
        let most = candidates().map(|(count, _)| count).max()?;
        let largest: Vec<ConnectionId> =
            candidates().filter(|(count, _)| *count == most).map(|(_, oldest)| oldest).collect();
        let drawn = self.random.below(u64::try_from(largest.len()).unwrap_or(1));
        largest.get(usize::try_from(drawn).unwrap_or(0)).copied()
    }

    /// Why a connection may not be registered, if its source has too many already.
    pub(super) fn beyond_share(&self, id: ConnectionId) -> Option<ConnectionError> {
        let share = (self.config.connection_limit? / 2).max(MIN_SHARE_OF_SOURCE);
        let connection = self.connections.get(&id).filter(|connection| !connection.outbound)?;
        let source = Source::of(connection.remote.ip());
        let is_inbound = |c: &&Connection| !c.outbound && Source::of(c.remote.ip()) == source;
        let registered = self.by_peer.values().filter_map(|id| self.connections.get(id));
        let count = registered.filter(is_inbound).count();
        (count >= share).then_some(ConnectionError::LimitOfSource(share))
    }
}
