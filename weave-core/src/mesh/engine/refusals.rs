//! What is dropped since its content is wrong, without blame for the neighbour it came from.
//!
//! Routers relay unicasts without reading them, and so they do with all messages of channels they
//! take no part in. If the receiver closed the connection over which such a message came, as the
//! original does, a peer far away could part any two routers between which its messages travel.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Mesh;
use crate::mesh::connection::Connection;
use crate::mesh::error::ConnectionError;
use crate::mesh::gossip::{GossipError, TOPOLOGY};
use crate::mesh::output::Event;
use crate::mesh::{GossipMessageError, PeerName};
use crate::time::Instant;

/// What comes over one neighbour is reported once in this time.
const INTERVAL: Duration = Duration::from_secs(60);
/// Neighbours that are told apart. One that appears beyond that is reported with the next report
/// that ages out.
const MAX_NEIGHBOURS: usize = 256;

/// What was dropped of late, by the neighbour it came from.
#[derive(Default)]
pub(super) struct Refusals(BTreeMap<PeerName, Refused>);

struct Refused {
    told_at: Instant,
    untold: u64,
}

impl Refusals {
    /// Counts one message. How many there are to report, if it is time for that.
    fn count(&mut self, now: Instant, from: PeerName) -> Option<u64> {
        let is_recent = |refused: &Refused| now.saturating_since(refused.told_at) < INTERVAL;
        if self.0.len() >= MAX_NEIGHBOURS && !self.0.contains_key(&from) {
            self.0.retain(|_, refused| is_recent(refused));
            if self.0.len() >= MAX_NEIGHBOURS {
                return None;
            }
        }
        let Some(refused) = self.0.get_mut(&from) else {
            self.0.insert(from, Refused { told_at: now, untold: 0 });
            return Some(1);
        };
        refused.untold += 1;
        if is_recent(refused) {
            return None;
        }
        refused.told_at = now;
        Some(std::mem::take(&mut refused.untold))
    }
}

impl Mesh {
    /// What a channel made of a message that came from a neighbour: `None` if the message was
    /// dropped.
    pub(super) fn accept_or_drop<T>(
        &mut self,
        from: PeerName,
        source: Option<PeerName>,
        channel: &str,
        result: Result<Option<T>, GossipError>,
    ) -> Result<Option<T>, ConnectionError> {
        match result {
            Ok(accepted) => Ok(accepted),
            Err(GossipError::Content(reason)) => {
                self.counters.gossip_refused += 1;
                self.report_refusal(from, source, channel, reason);
                Ok(None)
            }
            Err(GossipError::Neighbour(reason)) => {
                Err(ConnectionError::Gossip { channel: channel.to_owned(), reason })
            }
        }
    }

    /// A message is not even well-formed, which relays do not look at.
    pub(super) fn drop_malformed(&mut self, from: PeerName, error: &GossipMessageError) {
        self.counters.gossip_malformed += 1;
        self.report_refusal(from, None, "", error.to_string());
    }

    /// Whether a message is said to be of a neighbour, and did not come from it. A neighbour sends
    /// its unicasts to us over its connection to us, and its broadcasts as well. Messages are not
    /// signed, so this is all there is against somebody who speaks in the name of others.
    ///
    /// A link that is lost, but not yet at this end, costs the messages that go around it.
    pub(super) fn is_forged(&self, from: PeerName, channel: &str, source: PeerName) -> bool {
        // The original passes on what we send to ourselves: so it shows that it is there.
        let is_own = source == self.config.name && channel != TOPOLOGY;
        source != from && (is_own || self.by_peer.contains_key(&source))
    }

    /// A message is not of whom it is said to be.
    pub(super) fn drop_forged(&mut self, from: PeerName, channel: &str, source: PeerName) {
        self.counters.gossip_refused += 1;
        let reason = format!("{source} is a neighbour, and would have told us itself");
        self.report_refusal(from, Some(source), channel, reason);
    }

    fn report_refusal(
        &mut self,
        from: PeerName,
        source: Option<PeerName>,
        channel: &str,
        reason: String,
    ) {
        let Some(count) = self.refusals.count(self.now, from) else { return };
        let connection = self.by_peer.get(&from).and_then(|id| self.connections.get(id));
        let peered = connection.and_then(Connection::peered);
        let nickname = peered.map_or_else(String::new, |peered| peered.nickname.clone());
        let channel = channel.to_owned();
        self.event(Event::GossipDropped { peer: from, nickname, channel, source, reason, count });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> PeerName {
        PeerName::from_u64(number).unwrap()
    }

    fn at(secs: u64) -> Instant {
        Instant::since_origin(Duration::from_secs(secs))
    }

    #[test]
    fn a_flood_is_reported_once_a_minute_with_its_number() {
        let mut refusals = Refusals::default();
        let reports: Vec<u64> =
            (0..130).filter_map(|second| refusals.count(at(second), name(2))).collect();
        assert_eq!(reports, [1, 60, 60]);
        assert_eq!(refusals.count(at(130), name(3)), Some(1), "another neighbour");
    }

    #[test]
    fn many_neighbours_take_bounded_memory() {
        let mut refusals = Refusals::default();
        let told = (1..1000).filter(|peer| refusals.count(at(1), name(*peer)).is_some());
        assert_eq!(told.count(), MAX_NEIGHBOURS);
        assert_eq!(refusals.0.len(), MAX_NEIGHBOURS);
        assert_eq!(refusals.count(at(62), name(2000)), Some(1));
    }
}
