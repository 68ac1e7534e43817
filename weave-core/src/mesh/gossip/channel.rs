//! What a gossip channel is to the mesh (spec mesh.md, section 9).

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use crate::mesh::{PeerName, Routes};
use crate::time::Instant;

/// One conversation of the whole mesh, such as that of the address allocators.
///
/// The mesh calls it with what comes in and passes on what it returns. What a channel wants to
/// say on its own account goes into the [`Outbox`].
pub trait Channel: Send {
    /// A message from `source` to this peer alone.
    ///
    /// # Errors
    /// If the message is malformed or does not fit the own settings: it is dropped.
    fn handle_unicast(
        &mut self,
        now: Instant,
        source: PeerName,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), GossipError>;

    /// A message from `source` to everyone. Returns what is to be passed on.
    ///
    /// # Errors
    /// As for [`Self::handle_unicast`].
    fn handle_broadcast(
        &mut self,
        now: Instant,
        source: PeerName,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError>;

    /// State of a neighbour. Returns what was new in it, which is passed on.
    ///
    /// # Errors
    /// As for [`Self::handle_unicast`].
    fn handle_gossip(
        &mut self,
        now: Instant,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError>;

    /// All this peer knows, sent to new neighbours and from time to time to some others.
    fn complete_state(&mut self, now: Instant) -> Option<Arc<dyn Data>>;

    /// These peers left the mesh.
    fn peers_removed(&mut self, _now: Instant, _peers: &[PeerName], _out: &mut Outbox) {}

    /// Messages take other ways from now on, and get to other peers.
    fn routes_changed(&mut self, _now: Instant, _routes: &Routes, _out: &mut Outbox) {}

    /// The time of [`Self::poll_timeout`] has come.
    fn handle_timeout(&mut self, _now: Instant, _out: &mut Outbox) {}

    /// When [`Self::handle_timeout`] is wanted next.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Something to tell, which can grow while it waits for a slow neighbour. It is encoded only
/// when it is sent, and shared among the neighbours it goes to.
pub trait Data: Any + Send + Sync {
    /// This and what came after it as one. `newer` is of the same channel.
    fn merge(&self, newer: &dyn Data) -> Arc<dyn Data>;

    /// The messages that say it, usually one.
    fn encode(&self) -> Vec<Bytes>;

    /// Bytes it holds on to while it waits, if that grows with each merge. State that is bounded
    /// by its nature may say 0.
    fn size(&self) -> usize {
        0
    }
}

/// What a channel wants sent.
#[derive(Default)]
pub struct Outbox {
    pub(crate) wishes: Vec<Wish>,
}

/// One thing a channel wants sent.
pub(crate) enum Wish {
    Unicast(PeerName, Bytes),
    Broadcast(Arc<dyn Data>),
    Gossip(Arc<dyn Data>),
}

impl Outbox {
    /// To one peer, over as many hops as it takes. May get lost.
    pub fn unicast(&mut self, to: PeerName, payload: Bytes) {
        self.wishes.push(Wish::Unicast(to, payload));
    }

    /// To every peer, once. May miss some while the mesh changes.
    pub fn broadcast(&mut self, data: Arc<dyn Data>) {
        self.wishes.push(Wish::Broadcast(data));
    }

    /// To some neighbours, who pass on what is news to them, until everyone knows.
    pub fn gossip(&mut self, data: Arc<dyn Data>) {
        self.wishes.push(Wish::Gossip(data));
    }
}

/// Why a channel refuses a message, in one line. Nothing of the message is passed on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GossipError {
    /// The content is wrong. Routers relay unicasts unread, and all messages of channels they do
    /// not take part in, so the neighbour need not have made it: it is dropped, counted and
    /// reported.
    #[error("{0}")]
    Content(String),
    /// No router relays such a message, so the neighbour made it: its connection is closed.
    #[error("{0}")]
    Neighbour(String),
}
