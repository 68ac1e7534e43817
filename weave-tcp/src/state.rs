//! What both halves of a link and the receiving thread share.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use weave_core::mesh::{ConnectionId, LinkRequest, PeerName, SessionKey};
use weave_core::metric::Counter;
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
    pub(crate) rx_frames: Counter,
    pub(crate) rx_bytes: Counter,
    pub(crate) tx_frames: Counter,
    pub(crate) tx_bytes: Counter,
    pub(crate) tx_dropped_queue_full: Counter,
    pub(crate) tx_dropped_too_long: Counter,
    pub(crate) connections: Counter,
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
            counters.tx_dropped_too_long.increment();
            return Forwarded::Dropped;
        }
        match self.outgoing().push(&content) {
            Queued::Yes => {
                counters.tx_frames.increment();
                counters.tx_bytes.add(envelope.frame.bytes.len());
                Forwarded::Accepted
            }
            Queued::Full => {
                counters.tx_dropped_queue_full.increment();
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
