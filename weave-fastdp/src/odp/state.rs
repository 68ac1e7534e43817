//! What the threads of the engine know, and the locks it is under.
//!
//! ```text
//!   flows         while the kernel is told of flows, so that the book says what is in it
//!     └─▶ ground  while something is looked up, noted or planned, never while the kernel is asked
//! ```
//!
//! They are taken in this order: who has the book may look at the ground. The ground is lent to
//! closures, which take neither. A revision of all flows, up to 8192, plans them under one loan; those
//! that nothing used are deleted one by one, so that misses get the book in between. Roads are under no
//! lock, they are replaced as a whole; what carries frames for a data thread is under one of its own,
//! which is the last to be taken.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::book::Book;
use super::ground::Ground;

/// The book of flows, and what plans depend on that is in one place of this host.
#[derive(Default)]
pub(super) struct State {
    flows: Mutex<Book>,
    ground: Mutex<Ground>,
}

impl State {
    /// For whoever is going to put, delete or list flows.
    pub(super) fn flows(&self) -> MutexGuard<'_, Book> {
        lock(&self.flows)
    }

    /// A look at the ground, or a change of it.
    pub(super) fn ground<R>(&self, look: impl FnOnce(&mut Ground) -> R) -> R {
        look(&mut lock(&self.ground))
    }
}

/// A panic elsewhere leaves nothing half done that matters: what is cached here can be made anew.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
