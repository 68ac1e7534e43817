//! Who wants to be polled: written by data threads, read by the router's task.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mesh::ConnectionId;
use crate::switch::Waker;

/// The wishes since they were last taken. Each is kept once, however often it is made.
#[derive(Default)]
pub(super) struct Wakes {
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    links: BTreeSet<ConnectionId>,
    moved: bool,
    notify: Option<Waker>,
}

impl Wakes {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Calls `waker` for what is pending already and for every wish to come.
    pub(super) fn on_wake(&self, waker: Waker) {
        self.lock().notify = Some(waker.clone());
        waker.wake();
    }

    /// The link of a connection has news.
    pub(super) fn link(&self, id: ConnectionId) {
        let mut pending = self.lock();
        if pending.links.insert(id) {
            Self::notify(pending);
        }
    }

    /// Stations changed their peers.
    pub(super) fn stations_moved(&self) {
        let mut pending = self.lock();
        if !std::mem::replace(&mut pending.moved, true) {
            Self::notify(pending);
        }
    }

    pub(super) fn take(&self) -> (BTreeSet<ConnectionId>, bool) {
        let mut pending = self.lock();
        (std::mem::take(&mut pending.links), std::mem::take(&mut pending.moved))
    }

    /// Outside the lock: the waker may do what it likes, short of blocking.
    fn notify(pending: MutexGuard<'_, Pending>) {
        let waker = pending.notify.clone();
        drop(pending);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
