//! The state that the threads of the engine share under locks, and the order of the locks.
//!
//! Five locks are involved in the engine. A thread that holds one takes only those below it:
//!
//! ```text
//!   link           of a link, in its inbox: overlay.rs
//!     └─▶ client   of a data thread, while the kernel executes its packets: worker_clients.rs
//!
//!   flows          while flows are written to the kernel, so that the table says what is in it
//!     └─▶ local    while something is looked up, learned or planned; never during a request
//!
//!   on_failure     alone, once, when the engine stops: shared.rs
//! ```
//!
//! `flows` and `local` are here. `local` is lent to closures, which take no lock. A revalidation of
//! all flows, up to 8192, plans them under one loan; unused flows are deleted one by one, so that
//! misses get the table in between. An inbox is called under none of the other locks. Tunnel ports
//! are under no lock: they are replaced as a whole.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::flow_table::FlowTable;
use super::local_ports::LocalPorts;

/// The flows in the kernel, and the part of what plans depend on that is about this host.
#[derive(Default)]
pub(super) struct State {
    flows: Mutex<FlowTable>,
    local: Mutex<LocalPorts>,
}

impl State {
    /// Locks the flow table, in order to put, delete or list flows.
    pub(super) fn flows(&self) -> MutexGuard<'_, FlowTable> {
        lock(&self.flows)
    }

    /// Lends the local ports to a closure that reads or changes them.
    pub(super) fn local<R>(&self, work: impl FnOnce(&mut LocalPorts) -> R) -> R {
        work(&mut lock(&self.local))
    }
}

/// Locks a mutex, also after a panic of another thread: everything under these locks is a cache
/// that can be rebuilt.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
