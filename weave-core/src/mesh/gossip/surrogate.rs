//! A channel that nobody here takes part in: its messages are only passed on (spec mesh.md,
//! section 15).

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::channel::{Channel, Data, GossipError, Outbox};
use crate::mesh::PeerName;
use crate::time::Instant;

/// A payload that comes again within this time is not passed on again.
const MEMORY: Duration = Duration::from_secs(30);
/// Payloads remembered at most; beyond that the oldest are forgotten early.
const MAX_REMEMBERED: usize = 1024;
/// Messages that wait for one slow neighbour at most, and their bytes; beyond that the oldest
/// are dropped. Gossip repeats itself, so that is a delay and no loss.
const MAX_WAITING: usize = 256;
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Passes on what others gossip.
#[derive(Default)]
pub(crate) struct Surrogate {
    /// By time, and the hash of the payload.
    seen: VecDeque<(Instant, [u8; 32])>,
}

impl Surrogate {
    fn is_news(&mut self, now: Instant, payload: &[u8]) -> bool {
        let hash = Sha256::digest(payload).into();
        if self.seen.iter().any(|(_, seen)| *seen == hash) {
            return false;
        }
        while self.seen.front().is_some_and(|(at, _)| now.saturating_since(*at) > MEMORY)
            || self.seen.len() >= MAX_REMEMBERED
        {
            self.seen.pop_front();
        }
        self.seen.push_back((now, hash));
        true
    }
}

impl Channel for Surrogate {
    fn handle_unicast(
        &mut self,
        _: Instant,
        _: PeerName,
        _: &[u8],
        _: &mut Outbox,
    ) -> Result<(), GossipError> {
        Ok(())
    }

    fn handle_broadcast(
        &mut self,
        _: Instant,
        _: PeerName,
        payload: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        Ok(Some(relayed(payload)))
    }

    fn handle_gossip(
        &mut self,
        now: Instant,
        payload: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        Ok(if self.is_news(now, payload) { Some(relayed(payload)) } else { None })
    }

    fn complete_state(&mut self, _: Instant) -> Option<Arc<dyn Data>> {
        None
    }
}

/// Messages to pass on, one after the other.
struct Relayed(Vec<Bytes>);

fn relayed(payload: &[u8]) -> Arc<dyn Data> {
    Arc::new(Relayed(vec![Bytes::copy_from_slice(payload)]))
}

impl Data for Relayed {
    fn merge(&self, newer: &dyn Data) -> Arc<dyn Data> {
        let newer: &dyn Any = newer;
        let newer = newer.downcast_ref::<Self>().map_or(&[] as &[Bytes], |newer| &newer.0);
        let all = || self.0.iter().chain(newer).rev();
        let mut bytes = 0;
        let fitting = all().take(MAX_WAITING).take_while(|payload| {
            bytes += payload.len();
            bytes <= MAX_WAITING_BYTES
        });
        // The newest is kept whatever its size: it is one message.
        let kept = fitting.count().max(1);
        let mut payloads: Vec<Bytes> = all().take(kept).cloned().collect();
        payloads.reverse();
        Arc::new(Self(payloads))
    }

    fn encode(&self) -> Vec<Bytes> {
        self.0.clone()
    }

    fn size(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::since_origin(Duration::from_secs(secs))
    }

    fn gossip(surrogate: &mut Surrogate, secs: u64, payload: &[u8]) -> Option<Arc<dyn Data>> {
        surrogate.handle_gossip(at(secs), payload, &mut Outbox::default()).unwrap()
    }

    fn payloads(data: &dyn Data) -> Vec<Vec<u8>> {
        data.encode().iter().map(|payload| payload.to_vec()).collect()
    }

    #[test]
    fn gossip_is_passed_on_once_in_half_a_minute() {
        let mut surrogate = Surrogate::default();
        assert!(gossip(&mut surrogate, 0, b"a").is_some());
        assert!(gossip(&mut surrogate, 10, b"a").is_none());
        assert!(gossip(&mut surrogate, 31, b"b").is_some(), "storing b forgets a");
        assert!(gossip(&mut surrogate, 32, b"a").is_some());
    }

    #[test]
    fn broadcasts_are_passed_on_each_time() {
        let mut surrogate = Surrogate::default();
        let source = PeerName::from_u64(1).unwrap();
        for _ in 0..2 {
            let out = &mut Outbox::default();
            let data = surrogate.handle_broadcast(at(0), source, b"a", out).unwrap().unwrap();
            assert_eq!(payloads(&*data), [b"a"]);
        }
        assert!(surrogate.complete_state(at(0)).is_none());
    }

    #[test]
    fn waiting_messages_keep_their_order() {
        let (a, b) = (relayed(b"a"), relayed(b"b"));
        let both = a.merge(&*b).merge(&*relayed(b"c"));
        assert_eq!(payloads(&*both), [b"a", b"b", b"c"]);
        assert_eq!(both.size(), 3);
    }

    #[test]
    fn what_waits_for_a_slow_neighbour_is_bounded() {
        let mut waiting = relayed(b"first");
        for number in 0..1000_u32 {
            waiting = waiting.merge(&*relayed(&number.to_be_bytes()));
        }
        assert_eq!(payloads(&*waiting).len(), MAX_WAITING);
        assert_eq!(payloads(&*waiting).pop().unwrap(), 999_u32.to_be_bytes());

        let big = vec![0; MAX_WAITING_BYTES / 2];
        for _ in 0..10 {
            waiting = waiting.merge(&*relayed(&big));
        }
        assert!(waiting.size() <= MAX_WAITING_BYTES);
        let huge = waiting.merge(&*relayed(&vec![0; 2 * MAX_WAITING_BYTES]));
        assert_eq!(payloads(&*huge).len(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut surrogate = Surrogate::default();
        for number in 0..5000_u32 {
            assert!(gossip(&mut surrogate, 0, &number.to_be_bytes()).is_some());
        }
        assert_eq!(surrogate.seen.len(), MAX_REMEMBERED);
    }
}
