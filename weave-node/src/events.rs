//! What happens in a node, as a stream for each who asks.
//!
//! ```text
//!  mesh: routes ──▶ PeerWatch ──┐
//!  driver: transports ──────────┼──▶ EventSender ──bounded──▶ Events, one for each subscriber
//!  addresses, reaper ───────────┘
//! ```

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use weave_core::mesh::gossip::{Channel, Data, GossipError, Outbox};
use weave_core::mesh::{PeerName, Routes};
use weave_core::router;
use weave_core::time::Instant;
use weave_ipam::Cidr;

/// Events that wait for a subscriber; one that falls behind further is told how many it missed.
const WAITING: usize = 1024;

/// Something that happened in a node.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Frames get to this peer, over as many hops as it takes.
    PeerUp(PeerName),
    /// Frames get to this peer no more.
    PeerDown(PeerName),
    /// Another transport carries the frames of a neighbour.
    LinkChanged {
        /// The neighbour.
        peer: PeerName,
        /// Name of the transport before; none at first.
        from: Option<&'static str>,
        /// Name of the transport now.
        to: &'static str,
    },
    /// A holder was given an address, or its claim was granted.
    AddressGiven {
        /// The holder.
        holder: String,
        /// The address, with the length of the prefix of its subnet.
        cidr: Cidr,
    },
    /// An address of a holder is free again.
    AddressReturned {
        /// The holder.
        holder: String,
        /// The address.
        cidr: Cidr,
    },
    /// The container of this holder ended without a word; its addresses are returned soon.
    ContainerEnded(String),
    /// So many events were dropped since this subscriber did not keep up.
    Lagged(u64),
}

/// A subscription to the events of a node, from its making on.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// Waits for the next event; `None` once the node has been shut down.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(count)) => Some(Event::Lagged(count)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Where events come in, until the stream is closed. Clones are of the same stream.
#[derive(Clone, Debug)]
pub(crate) struct EventSender(Arc<Mutex<Option<broadcast::Sender<Event>>>>);

impl EventSender {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(broadcast::Sender::new(WAITING)))))
    }

    pub(crate) fn send(&self, event: Event) {
        if let Some(sender) = &*self.lock() {
            // Nobody listens: then nobody misses it.
            let _unheard = sender.send(event);
        }
    }

    pub(crate) fn subscribe(&self) -> Events {
        let subscribe = |sender: &broadcast::Sender<_>| sender.subscribe();
        Events(self.lock().as_ref().map_or_else(|| broadcast::channel(1).1, subscribe))
    }

    /// Ends the stream for all subscribers, whoever still holds on to a part of the node.
    pub(crate) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<broadcast::Sender<Event>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the router says that is of interest here.
    pub(crate) fn router_event(&self, event: &router::Event) {
        if let router::Event::OverlayInUse { peer, from, to, .. } = event {
            self.send(Event::LinkChanged { peer: *peer, from: *from, to });
        }
    }
}

/// Follows which peers frames get to. It is a channel of the mesh since those learn of new routes;
/// it says nothing.
pub(crate) struct PeerWatch {
    events: EventSender,
    reachable: BTreeSet<PeerName>,
}

impl PeerWatch {
    /// No other router has a channel of this name.
    pub(crate) const CHANNEL: &str = "weave-node/peers";

    pub(crate) fn new(events: EventSender) -> Self {
        Self { events, reachable: BTreeSet::new() }
    }
}

fn unexpected() -> GossipError {
    GossipError::Content("nobody says anything on this channel".to_owned())
}

impl Channel for PeerWatch {
    fn handle_unicast(
        &mut self,
        _: Instant,
        _: PeerName,
        _: &[u8],
        _: &mut Outbox,
    ) -> Result<(), GossipError> {
        Err(unexpected())
    }

    fn handle_broadcast(
        &mut self,
        _: Instant,
        _: PeerName,
        _: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        Err(unexpected())
    }

    fn handle_gossip(
        &mut self,
        _: Instant,
        _: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        Err(unexpected())
    }

    fn complete_state(&mut self, _: Instant) -> Option<Arc<dyn Data>> {
        None
    }

    fn routes_changed(&mut self, _: Instant, routes: &Routes, _: &mut Outbox) {
        let reachable: BTreeSet<PeerName> = routes.unicast_table().map(|(peer, _)| peer).collect();
        for gone in self.reachable.difference(&reachable) {
            self.events.send(Event::PeerDown(*gone));
        }
        for new in reachable.difference(&self.reachable) {
            self.events.send(Event::PeerUp(*new));
        }
        self.reachable = reachable;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_subscriber_is_told_how_much_it_missed() {
        let sender = EventSender::new();
        let mut events = sender.subscribe();
        let peer = PeerName::from_u64(1).unwrap();
        for _ in 0..WAITING + 7 {
            sender.send(Event::PeerUp(peer));
        }
        assert_eq!(events.next().await, Some(Event::Lagged(7)));
        assert_eq!(events.next().await, Some(Event::PeerUp(peer)));
        sender.close();
        let mut left = 0;
        while events.next().await.is_some() {
            left += 1;
        }
        assert_eq!(left, WAITING - 1);
    }
}
