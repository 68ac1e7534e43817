//! A channel on honest hosts, to see who hears what how often.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use weave_core::mesh::PeerName;
use weave_core::mesh::gossip::{Channel, Data, GossipError, Outbox};
use weave_core::sim::{HostId, Net};
use weave_core::time::Instant;

/// The name of the channel.
pub const CHANNEL: &str = "watched";

/// How often a host heard which broadcast.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<BTreeMap<Vec<u8>, usize>>>);

/// Words of one host; those that wait for one neighbour go together.
pub struct Words(Vec<Bytes>);

impl Watch {
    /// The router of the host runs (again).
    pub fn start(&self, net: &mut Net, host: HostId) {
        let channel = Box::new(self.clone());
        net.ask(host, |router, now| {
            router.update(now, |mesh| mesh.add_channel(CHANNEL, channel));
        });
    }

    /// The host tells everybody.
    pub fn broadcast(net: &mut Net, host: HostId, word: &[u8]) {
        let words = Arc::new(Words(vec![Bytes::copy_from_slice(word)]));
        net.ask(host, |router, now| {
            router.update(now, |mesh| mesh.broadcast(now, CHANNEL, words));
        });
    }

    /// How often the host heard it.
    pub fn times(&self, word: &[u8]) -> usize {
        self.lock().get(word).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel for Watch {
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
        *self.lock().entry(payload.to_vec()).or_default() += 1;
        Ok(Some(Arc::new(Words(vec![Bytes::copy_from_slice(payload)]))))
    }

    fn handle_gossip(
        &mut self,
        _: Instant,
        _: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        Ok(None)
    }

    fn complete_state(&mut self, _: Instant) -> Option<Arc<dyn Data>> {
        None
    }
}

impl Data for Words {
    fn merge(&self, newer: &dyn Data) -> Arc<dyn Data> {
        let newer: &dyn std::any::Any = newer;
        let newer = newer.downcast_ref::<Self>().map(|words| &words.0[..]).unwrap_or_default();
        Arc::new(Self(self.0.iter().chain(newer).cloned().collect()))
    }

    fn encode(&self) -> Vec<Bytes> {
        self.0.clone()
    }

    fn size(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}
