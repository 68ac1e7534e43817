//! A tunnel, as the transport above sees it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use weave_core::mesh::PeerName;
use weave_core::switch::{Envelope, Forwarded, Forwarder, WorkerId};
use weave_core::wire::complete_checksum;
use weave_odp::{Client, Error};

use super::engine::{Shared, bump, lock};
use super::misses::execute;
use super::roads::Road;
use crate::engine::Tunnel;

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

pub(super) struct OdpTunnel {
    shared: Arc<Shared>,
    road: Arc<Road>,
}

/// A way into the kernel for each data thread.
pub(super) struct Lanes([Mutex<Lane>; WorkerId::MAX]);

impl Default for Lanes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

#[derive(Default)]
struct Lane {
    client: Option<Client>,
    /// Room for a frame whose checksum is filled in.
    frame: Vec<u8>,
}

impl Lane {
    fn client(&mut self) -> Result<&mut Client, Error> {
        match &mut self.client {
            Some(client) => Ok(client),
            none => Ok(none.insert(Client::open()?)),
        }
    }
}

impl OdpTunnel {
    pub(super) const fn new(shared: Arc<Shared>, road: Arc<Road>) -> Self {
        Self { shared, road }
    }

    /// Sends a frame between these peers. Whether it was handed to the kernel.
    fn send(&self, lane: &mut Lane, ends: (PeerName, PeerName), frame: Option<&[u8]>) -> bool {
        let Some(vni) = self.shared.roads.load().vni(ends.0, ends.1) else { return false };
        let buffer = std::mem::take(&mut lane.frame);
        let sent = match lane.client() {
            Ok(client) => {
                let actions = self.road.actions(vni);
                execute(&self.shared, client, frame.unwrap_or(&buffer), &actions);
                true
            }
            Err(error) => {
                tracing::debug!("no way into the kernel: {error}");
                false
            }
        };
        lane.frame = buffer;
        sent
    }
}

impl Forwarder for OdpTunnel {
    fn forward(&self, worker: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let Envelope { source, destination, frame, .. } = envelope;
        // The kernel takes none here; the next transport does.
        if frame.segmentation.is_some() {
            bump(&self.road.refused);
            return Forwarded::Refused;
        }
        let mtu = self.shared.config.mtu;
        if frame.bytes.len() > mtu + ETHERNET {
            return Forwarded::TooBig { mtu };
        }
        let Some(lane) = self.shared.lanes.0.get(worker.get()) else {
            return Forwarded::Refused;
        };
        let lane = &mut *lock(lane);
        let complete = match frame.checksum {
            None => Some(frame.bytes),
            Some(request) => {
                lane.frame.clear();
                lane.frame.extend_from_slice(frame.bytes);
                let (start, offset) = (request.start.into(), request.offset.into());
                if complete_checksum(&mut lane.frame, start, offset).is_err() {
                    return Forwarded::Dropped;
                }
                None
            }
        };
        if self.send(lane, (source, destination), complete) {
            bump(&self.road.sent);
            Forwarded::Taken
        } else {
            bump(&self.road.refused);
            Forwarded::Refused
        }
    }

    fn flush(&self, _: WorkerId) {}
}

impl Tunnel for OdpTunnel {
    fn send_special(&self, frame: &[u8]) {
        let ends = (self.shared.switch.own(), self.road.params.remote);
        // Any lane will do: heartbeats are few.
        if let [lane, ..] = &self.shared.lanes.0
            && !self.send(&mut lock(lane), ends, Some(frame))
        {
            bump(&self.road.refused);
        }
    }

    fn carry(&self, carry: bool) {
        if self.road.carry(carry) {
            self.shared.invalidate();
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        // Without those that the kernel carries by itself: flows count them.
        vec![("tx_by_hand", read(&self.road.sent)), ("tx_refused", read(&self.road.refused))]
    }

    fn forwarder(self: Arc<Self>) -> Arc<dyn Forwarder> {
        self
    }
}

impl Drop for OdpTunnel {
    fn drop(&mut self) {
        self.road.carry(false);
        let remote = self.road.params.remote;
        self.shared.change_roads(|roads| {
            // Another connection may have taken its place.
            if roads.by_neighbour.get(&remote).is_some_and(|road| Arc::ptr_eq(road, &self.road)) {
                roads.by_neighbour.remove(&remote);
            }
        });
    }
}
