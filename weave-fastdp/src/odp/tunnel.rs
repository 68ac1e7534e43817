//! A tunnel, as the transport above sees it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use weave_core::mesh::PeerName;
use weave_core::switch::{Envelope, Forwarded, Forwarder, Frame, WorkerId};
use weave_core::wire::Ethernet;
use weave_odp::Client;

use super::engine::{Shared, bump};
use super::misses::execute;
use super::roads::Road;
use super::state::lock;
use crate::engine::Tunnel;

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
    /// Room for a frame on its way.
    room: Vec<u8>,
}

/// Makes of a frame, which may be a super-frame or lack its checksum, frames as they are on a wire,
/// of at most `longest` bytes: hands each to `each`. There may be room for them in `room`.
pub type Cut = fn(
    frame: Frame<'_>,
    longest: usize,
    room: &mut Vec<u8>,
    each: &mut dyn FnMut(&[u8]),
) -> Result<(), CutError>;

/// A frame that there is no wire for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CutError {
    /// It cannot be cut, or not short enough.
    TooLong,
    /// It is not what it is said to be.
    Malformed,
}

impl OdpTunnel {
    pub(super) const fn new(shared: Arc<Shared>, road: Arc<Road>) -> Self {
        Self { shared, road }
    }

    /// Sends a frame between these peers. Whether it was handed to the kernel.
    fn send(&self, client: &mut Option<Client>, ends: (PeerName, PeerName), frame: &[u8]) -> bool {
        let Some(vni) = self.shared.roads.load().vni(ends.0, ends.1) else { return false };
        let client = match client {
            Some(client) => client,
            none => match Client::open() {
                Ok(client) => none.insert(client),
                Err(error) => {
                    tracing::debug!("no way into the kernel: {error}");
                    return false;
                }
            },
        };
        execute(&self.shared, client, frame, &self.road.actions(vni));
        true
    }
}

impl Forwarder for OdpTunnel {
    fn forward(&self, worker: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let Envelope { source, destination, frame, .. } = envelope;
        let Some(lane) = self.shared.lanes.0.get(worker.get()) else {
            return Forwarded::Refused;
        };
        let mtu = self.shared.config.mtu;
        // A tag of a VLAN comes on top of what the MTU counts.
        let header = Ethernet::new(frame.bytes).map_or(0, |frame| frame.network().offset);
        let Lane { client, room } = &mut *lock(lane);
        let mut sent = true;
        let cut = (self.shared.cut)(frame, mtu + header, room, &mut |frame| {
            sent = sent && self.send(client, (source, destination), frame);
        });
        match cut {
            Err(CutError::TooLong) => Forwarded::TooBig { mtu },
            Err(CutError::Malformed) => Forwarded::Dropped,
            Ok(()) if sent => {
                bump(&self.road.sent);
                Forwarded::Taken
            }
            Ok(()) => {
                bump(&self.road.refused);
                Forwarded::Refused
            }
        }
    }

    fn flush(&self, _: WorkerId) {}
}

impl Tunnel for OdpTunnel {
    fn send_special(&self, frame: &[u8]) {
        let ends = (self.shared.switch.own(), self.road.params.remote);
        // Any lane will do: heartbeats are few.
        if let [lane, ..] = &self.shared.lanes.0
            && !self.send(&mut lock(lane).client, ends, frame)
        {
            bump(&self.road.refused);
        }
    }

    fn carry(&self, carry: bool) {
        if self.road.carry(carry) {
            self.shared.invalidate();
        }
    }

    fn connection_ended(&self) {
        // Without keys nothing of a sealed tunnel arrives.
        if self.road.is_carried() && !self.road.params.sealed {
            let now = self.shared.now();
            self.shared.change_roads(|roads| roads.end(now, self.road.remote()));
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
