//! The allocator as a part of the mesh.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use weave_core::mesh::gossip::{Channel, Data, GossipError, Outbox};
use weave_core::mesh::{PeerName, Routes};
use weave_core::time::Instant;
use weave_ipam::Allocator;
use weave_ipam::allocator::Refusal;

use super::{IpamService, Message, lock};

/// Hands what other allocators say to ours.
pub(super) struct IpamChannel {
    service: Arc<Mutex<IpamService>>,
}

impl IpamChannel {
    pub(super) const fn new(service: Arc<Mutex<IpamService>>) -> Self {
        Self { service }
    }

    fn handle<T>(&self, out: &mut Outbox, act: impl FnOnce(&mut Allocator) -> T) -> T {
        let mut service = lock(&self.service);
        let result = act(&mut service.allocator);
        for message in service.flush_outputs() {
            match message {
                Message::Unicast(to, payload) => out.unicast(to, payload),
                Message::Broadcast => out.broadcast(Everything::of(&self.service)),
            }
        }
        result
    }
}

fn refused(refusal: Refusal) -> GossipError {
    GossipError::Content(refusal.to_string())
}

impl Channel for IpamChannel {
    fn handle_unicast(
        &mut self,
        now: Instant,
        source: PeerName,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), GossipError> {
        self.handle(out, |allocator| allocator.handle_unicast(now, source, payload))
            .map_err(refused)
    }

    fn handle_broadcast(
        &mut self,
        now: Instant,
        source: PeerName,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        self.handle(out, |allocator| allocator.handle_gossip(now, Some(source), payload))
            .map_err(refused)?;
        Ok(Some(Everything::of(&self.service)))
    }

    fn handle_gossip(
        &mut self,
        now: Instant,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        self.handle(out, |allocator| allocator.handle_gossip(now, None, payload))
            .map_err(refused)?;
        Ok(None)
    }

    fn complete_state(&mut self, _: Instant) -> Option<Arc<dyn Data>> {
        Some(Everything::of(&self.service))
    }

    fn peers_removed(&mut self, _: Instant, peers: &[PeerName], out: &mut Outbox) {
        self.handle(out, |allocator| allocator.handle_peers_removed(peers));
    }

    fn routes_changed(&mut self, _: Instant, routes: &Routes, out: &mut Outbox) {
        let reachable: BTreeSet<PeerName> =
            routes.unicast_all_table().map(|(peer, _)| peer).collect();
        let linked: BTreeSet<PeerName> = routes.unicast_table().map(|(peer, _)| peer).collect();
        self.handle(out, |allocator| {
            allocator.set_reachable(reachable);
            allocator.set_linked(linked);
        });
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.handle(out, |allocator| allocator.handle_timeout(now));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(lock(&self.service).allocator.poll_timeout())
    }
}

/// All that this peer knows, as it is when it is sent.
pub(super) struct Everything(Arc<Mutex<IpamService>>);

impl Everything {
    pub(super) fn of(service: &Arc<Mutex<IpamService>>) -> Arc<dyn Data> {
        Arc::new(Self(Arc::clone(service)))
    }
}

impl Data for Everything {
    fn merge(&self, _: &dyn Data) -> Arc<dyn Data> {
        Self::of(&self.0)
    }

    fn encode(&self) -> Vec<Bytes> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_clock = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let service = lock(&self.0);
        // What could not be stored is not told.
        if service.is_mute() {
            return Vec::new();
        }
        vec![service.allocator.state(wall_clock).encode().into()]
    }
}
