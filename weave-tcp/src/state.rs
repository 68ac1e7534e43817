//! What both halves of a link and the receiving thread share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weave_core::mesh::{ConnectionId, LinkRequest, PeerName, SessionKey};
use weave_core::switch::{Envelope, Forwarded, Forwarder, Waker, WorkerId};

use crate::link::Machine;
use crate::outgoing::{Outgoing, Queued};
use crate::wire::Content;

/// The state of a link, and its data half.
pub(crate) struct LinkState {
    pub(crate) id: ConnectionId,
    pub(crate) neighbour: PeerName,
    pub(crate) remote: IpAddr,
    pub(crate) session_key: Option<SessionKey>,
    machine: Mutex<Machine>,
    outgoing: Mutex<Outgoing>,
    waker: Waker,
    pub(crate) counters: Counters,
}

/// Counted per link.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) rx_frames: AtomicU64,
    pub(crate) rx_bytes: AtomicU64,
    pub(crate) tx_frames: AtomicU64,
    pub(crate) tx_bytes: AtomicU64,
    pub(crate) tx_dropped_queue_full: AtomicU64,
    pub(crate) tx_dropped_too_long: AtomicU64,
    pub(crate) connections: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, number: usize) {
    counter.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl LinkState {
    pub(crate) fn new(request: &LinkRequest, machine: Machine, waker: Waker) -> Self {
        Self {
            id: request.id,
            neighbour: request.remote,
            remote: request.remote_address.ip().to_canonical(),
            session_key: request.session_key.clone(),
            machine: Mutex::new(machine),
            outgoing: Mutex::default(),
            waker,
            counters: Counters::default(),
        }
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state from the receiving thread, and has the router poll the link.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Machine)) {
        change(&mut self.machine());
        self.waker.wake();
    }

    /// Sends a record that says that this router is there.
    pub(crate) fn send_keepalive(&self) {
        let mut outgoing = self.outgoing();
        outgoing.push(&Content::Keepalive);
        // Who reads from the connection notices that it is broken.
        let _ = outgoing.write();
    }
}

impl Forwarder for LinkState {
    fn forward(&self, _: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let content = Content::of(&envelope);
        let counters = &self.counters;
        if !content.fits() {
            count(&counters.tx_dropped_too_long, 1);
            return Forwarded::Dropped;
        }
        match self.outgoing().push(&content) {
            Queued::Yes => {
                count(&counters.tx_frames, 1);
                count(&counters.tx_bytes, envelope.frame.bytes.len());
                Forwarded::Accepted
            }
            Queued::Full => {
                count(&counters.tx_dropped_queue_full, 1);
                Forwarded::Dropped
            }
            Queued::NotConnected => Forwarded::Refused,
        }
    }

    fn flush(&self, _: WorkerId) {
        // Who reads from the connection notices that it is broken.
        let _ = self.outgoing().write();
    }
}
