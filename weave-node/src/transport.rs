//! Transports of an embedder's own, and where they stand in the order of preference.

use std::sync::Arc;

use weave_core::mesh::PeerName;
use weave_core::switch::{Overlay, Switch};
use weave_sleeve::Clock;

use crate::device::LocalInjector;

/// What a transport gets of the node that it is made for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransportContext {
    /// Name of this peer.
    pub name: PeerName,
    /// What decides about each frame that comes in; see [`weave_core::switch::Worker`].
    pub switch: Arc<Switch>,
    /// The way to stations on this host, for [`weave_core::switch::Worker::pass`].
    pub injector: LocalInjector,
    /// The time of the node.
    pub clock: Clock,
}

/// A transport that is made when a node starts.
///
/// Whatever is an [`Overlay`] and needs nothing of the node is one. Threads that it starts end when
/// the overlay is dropped, which is when the node shuts down.
pub trait Transport: Send + 'static {
    /// Makes the transport.
    ///
    /// # Errors
    /// The transport cannot be had: the node does not start, for this reason.
    fn start(self: Box<Self>, context: TransportContext) -> Result<Box<dyn Overlay>, String>;
}

impl<T: Overlay + 'static> Transport for T {
    fn start(self: Box<Self>, _: TransportContext) -> Result<Box<dyn Overlay>, String> {
        Ok(self)
    }
}

/// Where a transport stands in the order of preference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Preference {
    /// Before all others.
    First,
    /// After the fast datapath, and before the UDP encapsulation in user space.
    BeforeSleeve,
    /// After all others.
    Last,
}
