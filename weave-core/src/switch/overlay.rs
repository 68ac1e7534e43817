//! The traits a transport implements.
//!
//! An [`Overlay`] is one per router, a [`Link`] one per connection to a neighbour. A link has
//! two halves: the control half, called by the router's own task, and the [`Forwarder`], shared
//! with the data threads. A transport whose network events come in on a thread of its own tells
//! the router through the [`Waker`], which then polls the link.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Frame;
use crate::mesh::{ConnectionId, LinkRequest, PeerName, ShortIdTable};
use crate::metric::Reading;
use crate::time::Instant;

/// A way to carry frames to neighbours.
pub trait Overlay: Send {
    /// The name in the handshake feature `Overlays` and in the status, e.g. `sleeve`.
    fn name(&self) -> &'static str;

    /// What the handshake's feature map says of this transport beyond its name: what it can do
    /// that Weave Net 2.x cannot. The neighbour's are in [`LinkRequest::remote_features`].
    fn features(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Makes the (still passive) link for a connection whose handshake is done. `waker` is to be
    /// called, from any thread, when [`Link::poll_event`] or [`Link::poll_timeout`] have news that
    /// no call of the control half brought about.
    ///
    /// # Errors
    /// When this transport cannot reach that neighbour; the connection then goes on with the
    /// other transports they have in common.
    fn prepare(
        &mut self,
        now: Instant,
        request: &LinkRequest,
        waker: Waker,
    ) -> Result<Box<dyn Link>, PrepareError>;

    /// The forwarding table changed: forget what was derived from it.
    fn invalidate_routes(&mut self) {}

    /// This is what short ids stand for from now on. Told at the start and after each change.
    fn handle_short_ids(&mut self, _ids: &Arc<ShortIdTable>) {}
}

/// A transport cannot serve a connection: why, in one line for the log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PrepareError(pub String);

/// Tells the router from any thread that the link of a connection wants to be polled.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`, which must not block.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Asks for a poll.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// The control half of one transport on one connection. Dropping it stops the link.
///
/// After each call, and after the waker fired, the router drains [`Link::poll_event`] and then
/// asks for [`Link::poll_timeout`].
pub trait Link: Send {
    /// The connection is registered: the link may send (spec mesh.md, step 7.9).
    fn confirm(&mut self, now: Instant);

    /// The same transport of the neighbour says something over the mesh connection.
    fn handle_control(&mut self, now: Instant, message: u8, data: &[u8]);

    /// The time of [`Link::poll_timeout`] has come.
    fn handle_timeout(&mut self, now: Instant);

    /// When [`Link::handle_timeout`] is wanted next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// What happened.
    fn poll_event(&mut self) -> Option<LinkEvent>;

    /// The data half.
    fn forwarder(&self) -> Arc<dyn Forwarder>;

    /// For status, report and metrics.
    fn status(&self) -> LinkStatus;
}

/// What a link tells the router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// Carry this to the same transport of the neighbour.
    Control {
        /// The transport's own message number.
        message: u8,
        /// Its data.
        data: Vec<u8>,
    },
    /// Frames get through in both directions.
    Established,
    /// The link will not work any more; why.
    Failed(String),
    /// The link stopped (`false`) or started (`true`) to get frames through. One that is not
    /// healthy is held in reserve until it recovers.
    Healthy(bool),
}

/// What is known of a link.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkStatus {
    /// Largest IP packet that fits, in bytes; none until one of that size got through.
    pub mtu: Option<usize>,
    /// Whether frames are sealed.
    pub encrypted: bool,
    /// Further attributes in display order, e.g. `("cipher", "xsalsa20poly1305")`.
    pub attributes: Vec<(&'static str, String)>,
    /// What keeps the link from carrying frames, for the operator: one line without a full stop.
    pub problem: Option<String>,
    /// What is counted; names with their classes are unique and never change.
    pub counters: Vec<Reading>,
}

/// Which data thread calls. A transport keeps what it builds for each thread apart, so that no
/// thread ever waits for another. Small numbers, from zero, below [`WorkerId::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorkerId(usize);

impl WorkerId {
    /// How many data threads a router can have.
    pub const MAX: usize = 64;

    /// The worker with this number; `None` from [`Self::MAX`] up.
    pub const fn new(number: usize) -> Option<Self> {
        if number < Self::MAX { Some(Self(number)) } else { None }
    }

    /// The number, below [`Self::MAX`].
    pub const fn get(self) -> usize {
        self.0
    }
}

/// A frame and the peers it travels between.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The peer that captured the frame.
    pub source: PeerName,
    /// The peer that is to inject it; for a flooded frame the next hop.
    pub destination: PeerName,
    /// The frame.
    pub frame: Frame<'a>,
    /// The frame is flooded: nobody wants to hear that it was too big.
    pub broadcast: bool,
    /// How often it has been relayed, this time included: at most
    /// [`MAX_RELAYS`](super::MAX_RELAYS). A transport that can tells the neighbour.
    pub relays: u8,
}

/// The data half of a link: takes frames from data threads.
pub trait Forwarder: Send + Sync {
    /// Takes a frame, or says why not. It may stay buffered until [`Forwarder::flush`] by the
    /// same worker. Never blocks.
    fn forward(&self, worker: WorkerId, envelope: Envelope<'_>) -> Forwarded;

    /// Sends what this worker has buffered.
    fn flush(&self, worker: WorkerId);

    /// Returns the identity by which a transport recognises its own forwarder in the forwarding
    /// table; `None` for forwarders of transports that never look for theirs.
    fn id(&self) -> Option<ForwarderId> {
        None
    }
}

/// The identity of a forwarder. A transport has at most one forwarder for each connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ForwarderId {
    /// Name of the transport, or of the part of it that has the forwarder.
    pub transport: &'static str,
    /// Connection that the forwarder serves.
    pub connection: ConnectionId,
}

/// What became of a frame that was handed to a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forwarded {
    /// Sent or buffered.
    Accepted,
    /// This link cannot carry it now: try the next transport.
    Refused,
    /// Dropped because it does not fit and must not be cut; its sender should be told that the
    /// largest IP packet is `mtu` bytes.
    TooBig {
        /// The overlay MTU in bytes.
        mtu: usize,
    },
    /// Dropped and counted by the link.
    Dropped,
}
