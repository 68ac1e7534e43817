//! The queue of what is ready.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use tokio::sync::Notify;

use crate::mesh::ConnectionId;

/// Connections whose socket can be read or written, in the order in which they became so. Holds
/// each at most once, and is thereby bounded.
#[derive(Default)]
pub(super) struct Ready {
    queue: Mutex<VecDeque<Arc<Ticket>>>,
    /// The links of the router want to be polled.
    links: AtomicBool,
    notify: Notify,
}

/// The place of one connection in the queue.
pub(super) struct Ticket {
    id: ConnectionId,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Ready {
    pub(super) fn ticket(self: &Arc<Self>, id: ConnectionId) -> Arc<Ticket> {
        Arc::new(Ticket { id, queued: AtomicBool::new(false), ready: Arc::clone(self) })
    }

    /// The next connection. It may be queued again from now on.
    pub(super) fn pop(&self) -> Option<ConnectionId> {
        let ticket = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        ticket.queued.store(false, Ordering::Release);
        Some(ticket.id)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn wake_links(&self) {
        self.links.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    pub(super) fn take_links(&self) -> bool {
        self.links.swap(false, Ordering::AcqRel)
    }

    /// Lets the next [`Self::wait`] return at once.
    pub(super) fn again(&self) {
        self.notify.notify_one();
    }

    /// Waits until something has been queued since the last time this returned.
    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }
}

impl Ticket {
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let mut queue = self.ready.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push_back(Arc::clone(self));
            drop(queue);
            self.ready.notify.notify_one();
        }
    }
}
