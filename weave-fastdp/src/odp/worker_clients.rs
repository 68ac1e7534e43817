//! The clients by which data threads hand packets to the kernel.

use std::sync::{Mutex, MutexGuard};

use weave_core::switch::WorkerId;
use weave_odp::Client;

use super::state::lock;

/// A client for each data thread, so that no data thread waits for another.
pub(super) struct WorkerClients([Mutex<WorkerClient>; WorkerId::MAX]);

/// The client of one data thread, opened when it is first needed.
#[derive(Default)]
pub(super) struct WorkerClient {
    client: Option<Client>,
    /// Buffer for the segments of a frame, kept to be used again.
    pub(super) buffer: Vec<u8>,
}

impl Default for WorkerClients {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl WorkerClients {
    /// Locks the client of a data thread.
    pub(super) fn of(&self, worker: WorkerId) -> Option<MutexGuard<'_, WorkerClient>> {
        self.0.get(worker.get()).map(lock)
    }

    /// Locks the client for frames that belong to no data thread, which are few.
    pub(super) fn first(&self) -> MutexGuard<'_, WorkerClient> {
        let [first, ..] = &self.0;
        lock(first)
    }
}

impl WorkerClient {
    /// Splits into the client and the buffer.
    pub(super) fn parts(&mut self) -> (LazyClient<'_>, &mut Vec<u8>) {
        (LazyClient(&mut self.client), &mut self.buffer)
    }
}

/// A client that is opened when it is first needed.
pub(super) struct LazyClient<'a>(&'a mut Option<Client>);

impl LazyClient<'_> {
    /// Returns the client; `None` if it cannot be opened.
    pub(super) fn get(&mut self) -> Option<&mut Client> {
        if self.0.is_none() {
            match Client::open() {
                Ok(client) => *self.0 = Some(client),
                Err(error) => tracing::debug!("cannot hand packets to the datapath: {error}"),
            }
        }
        self.0.as_mut()
    }
}
