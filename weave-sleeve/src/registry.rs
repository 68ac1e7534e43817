//! The links that datagrams belong to: changed by the control plane, read by the receiving threads.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use weave_core::mesh::PeerName;

use crate::forwarder::SleeveForwarder;

/// The receiving links by neighbour.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// Replaced as a whole, so that receiving threads never wait.
    links: ArcSwap<Links>,
    changing: Mutex<()>,
}

/// One link per neighbour, sorted by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links(Vec<Arc<SleeveForwarder>>);

impl Links {
    /// Returns the link of this neighbour.
    pub(crate) fn of(&self, neighbour: PeerName) -> Option<&Arc<SleeveForwarder>> {
        let place = self.0.binary_search_by_key(&neighbour, |forwarder| forwarder.remote).ok()?;
        self.0.get(place)
    }
}

impl Registry {
    pub(crate) fn links(&self) -> Guard<Arc<Links>> {
        self.links.load()
    }

    /// Makes this the link of its neighbour.
    pub(crate) fn insert(&self, forwarder: Arc<SleeveForwarder>) {
        self.change(|links| {
            links.retain(|other| other.remote != forwarder.remote);
            let place = links.partition_point(|other| other.remote < forwarder.remote);
            links.insert(place, forwarder);
        });
    }

    /// Removes this link, but not another one of the same neighbour.
    pub(crate) fn remove(&self, forwarder: &Arc<SleeveForwarder>) {
        self.change(|links| links.retain(|other| !Arc::ptr_eq(other, forwarder)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<SleeveForwarder>>)) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut links = self.links.load().as_ref().clone();
        change(&mut links.0);
        self.links.store(Arc::new(links));
    }
}
