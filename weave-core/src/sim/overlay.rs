//! A transport over simulated datagrams: a greeting, an answer, and frames.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::tap::TappedFrame;
use crate::mesh::{ConnectionUid, LinkRequest, PeerName};
use crate::switch::{
    Envelope, Forwarded, Forwarder, Link, LinkEvent, LinkStatus, Overlay, PrepareError, Waker,
    WorkerId,
};
use crate::time::Instant;

/// Between two greetings to a neighbour that has not answered.
const GREETING_INTERVAL: Duration = Duration::from_millis(500);

/// What travels between two links.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    /// Of which connection.
    pub(super) connection: ConnectionUid,
    pub(super) to: PeerName,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Hello,
    Answer,
    Frame { source: PeerName, destination: PeerName, relays: u8, bytes: Vec<u8> },
}

/// The transport of one simulated host.
#[derive(Clone, Default)]
pub(super) struct SimOverlay(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    outgoing: Vec<Datagram>,
    links: BTreeMap<ConnectionUid, State>,
}

struct State {
    remote: PeerName,
    waker: Waker,
    confirmed: bool,
    established: bool,
    told: bool,
}

struct SimLink {
    overlay: SimOverlay,
    connection: ConnectionUid,
    greet_at: Option<Instant>,
}

struct SimForwarder {
    overlay: SimOverlay,
    connection: ConnectionUid,
    remote: PeerName,
}

impl SimOverlay {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the links want sent.
    pub(super) fn take_outgoing(&self) -> Vec<Datagram> {
        std::mem::take(&mut self.lock().outgoing)
    }

    /// Whether one of the links here is of this connection.
    pub(super) fn has(&self, connection: ConnectionUid) -> bool {
        self.lock().links.contains_key(&connection)
    }

    /// Sends a frame to a neighbour. Returns whether there is a link to it.
    pub(super) fn send_frame(&self, to: PeerName, frame: TappedFrame) -> bool {
        let mut shared = self.lock();
        let link = shared.links.iter().find(|(_, state)| state.remote == to);
        let Some(connection) = link.map(|(connection, _)| *connection) else { return false };
        let TappedFrame { source, destination, relays, bytes } = frame;
        let content = Content::Frame { source, destination, relays, bytes };
        shared.outgoing.push(Datagram { connection, to, content });
        true
    }

    /// A datagram for a link here. Returns the neighbour, and a frame if it brought one.
    pub(super) fn handle(&self, datagram: Datagram) -> Option<(PeerName, Content)> {
        let mut shared = self.lock();
        let connection = datagram.connection;
        let state = shared.links.get_mut(&connection)?;
        let to = state.remote;
        match datagram.content {
            Content::Hello if state.confirmed => {
                shared.outgoing.push(Datagram { connection, to, content: Content::Answer });
                None
            }
            Content::Hello => None,
            Content::Answer => {
                state.established = true;
                let waker = state.waker.clone();
                drop(shared);
                waker.wake();
                None
            }
            frame @ Content::Frame { .. } => Some((to, frame)),
        }
    }
}

impl Overlay for SimOverlay {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn prepare(
        &mut self,
        _: Instant,
        request: &LinkRequest,
        waker: Waker,
    ) -> Result<Box<dyn Link>, PrepareError> {
        let connection = request.connection_uid;
        let state = State {
            remote: request.remote,
            waker,
            confirmed: false,
            established: false,
            told: false,
        };
        self.lock().links.insert(connection, state);
        Ok(Box::new(SimLink { overlay: self.clone(), connection, greet_at: None }))
    }
}

impl SimLink {
    fn greet(&mut self, now: Instant) {
        let mut shared = self.overlay.lock();
        let connection = self.connection;
        if let Some(state) = shared.links.get(&connection) {
            let (to, done) = (state.remote, state.established);
            self.greet_at = (!done).then_some(now + GREETING_INTERVAL);
            if !done {
                shared.outgoing.push(Datagram { connection, to, content: Content::Hello });
            }
        }
    }
}

impl Link for SimLink {
    fn confirm(&mut self, now: Instant) {
        if let Some(state) = self.overlay.lock().links.get_mut(&self.connection) {
            state.confirmed = true;
        }
        self.greet(now);
    }

    fn handle_control(&mut self, _: Instant, _: u8, _: &[u8]) {}

    fn handle_timeout(&mut self, now: Instant) {
        if self.greet_at.is_some_and(|at| at <= now) {
            self.greet(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.greet_at
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        let mut shared = self.overlay.lock();
        let state = shared.links.get_mut(&self.connection)?;
        if !state.established {
            return None;
        }
        self.greet_at = None;
        (!std::mem::replace(&mut state.told, true)).then_some(LinkEvent::Established)
    }

    fn forwarder(&self) -> Arc<dyn Forwarder> {
        let remote = self.overlay.lock().links.get(&self.connection).map(|state| state.remote);
        Arc::new(SimForwarder {
            overlay: self.overlay.clone(),
            connection: self.connection,
            remote: remote.unwrap_or(PeerName::UNKNOWN),
        })
    }

    fn status(&self) -> LinkStatus {
        LinkStatus::default()
    }
}

impl Drop for SimLink {
    fn drop(&mut self) {
        self.overlay.lock().links.remove(&self.connection);
    }
}

impl Forwarder for SimForwarder {
    fn forward(&self, _: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let Envelope { source, destination, frame, relays, .. } = envelope;
        let bytes = frame.bytes.to_vec();
        let content = Content::Frame { source, destination, relays, bytes };
        let datagram = Datagram { connection: self.connection, to: self.remote, content };
        self.overlay.lock().outgoing.push(datagram);
        Forwarded::Accepted
    }

    fn flush(&self, _: WorkerId) {}
}
