//! Which links datagrams are for: changed by the control plane, read by the receiving thread.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use weave_core::mesh::PeerName;

use crate::carrier::Carrier;

/// The links that may receive, by neighbour.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// Replaced whole, so that the receiving thread never waits.
    links: ArcSwap<Links>,
    changing: Mutex<()>,
}

/// Sorted by the name of the neighbour; one for each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links(Vec<Arc<Carrier>>);

impl Links {
    /// The link of this neighbour.
    pub(crate) fn of(&self, neighbour: PeerName) -> Option<&Arc<Carrier>> {
        let place = self.0.binary_search_by_key(&neighbour, |carrier| carrier.remote).ok()?;
        self.0.get(place)
    }
}

impl Registry {
    pub(crate) fn links(&self) -> Guard<Arc<Links>> {
        self.links.load()
    }

    /// Makes this the link of its neighbour.
    pub(crate) fn insert(&self, carrier: Arc<Carrier>) {
        self.change(|links| {
            links.retain(|other| other.remote != carrier.remote);
            let place = links.partition_point(|other| other.remote < carrier.remote);
            links.insert(place, carrier);
        });
    }

    /// Removes this link, but not another of the same neighbour.
    pub(crate) fn remove(&self, carrier: &Arc<Carrier>) {
        self.change(|links| links.retain(|other| !Arc::ptr_eq(other, carrier)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Carrier>>)) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut links = self.links.load().as_ref().clone();
        change(&mut links.0);
        self.links.store(Arc::new(links));
    }
}
