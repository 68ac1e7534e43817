//! The keys of one link, between the key exchange and the thread that installs keys.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weave_core::switch::Waker;

use super::announcement::ANNOUNCEMENT_LEN;
use super::error::IpsecError;
use super::key_exchange::{KeyCommand, KeyExchange};
use super::nonce::nonce;
use super::worker::{KeyOutcome, WorkerHandle};

/// The keys of a link whose connection has a session key. Dropping it removes them from the kernel.
///
/// After each call, and each time the waker is called, the caller drains [`Self::poll`].
pub struct LinkKeys {
    worker: WorkerHandle,
    exchange: KeyExchange,
    /// Whether the thread is installing a key for sending.
    installing: bool,
    /// Key for sending that follows. A neighbour that sends many does not get a longer queue.
    next: Option<KeyCommand>,
    outcomes: Arc<Mutex<VecDeque<KeyOutcome>>>,
    waker: Waker,
    events: VecDeque<KeyEvent>,
    ready: bool,
    failed: bool,
}

/// An event about the keys of a link.
#[derive(Debug)]
pub enum KeyEvent {
    /// This message 1 is to be sent to the neighbour.
    Announce([u8; ANNOUNCEMENT_LEN]),
    /// Frames may leave. This event comes once.
    Ready,
    /// Frames will never leave. This is the last event.
    Failed(IpsecError),
}

impl LinkKeys {
    pub(super) fn new(worker: WorkerHandle, exchange: KeyExchange, waker: Waker) -> Self {
        Self {
            worker,
            exchange,
            installing: false,
            next: None,
            outcomes: Arc::default(),
            waker,
            events: VecDeque::new(),
            ready: false,
            failed: false,
        }
    }

    /// Starts the key exchange, since the connection is registered.
    pub fn confirm(&mut self) {
        match nonce() {
            Ok(nonce) => {
                if let Some(command) = self.exchange.confirm(nonce) {
                    self.install(command);
                }
            }
            Err(error) => self.fail(error),
        }
    }

    /// Renews the key with which the kernel receives, if there is one.
    pub fn renew(&mut self) {
        match nonce() {
            Ok(nonce) if !self.failed => {
                if let Some(command) = self.exchange.renew(nonce) {
                    self.install(command);
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("a key of IPsec is not renewed: {error}"),
        }
    }

    /// Handles message 1 of the neighbour. A malformed one ends the link, as in Weave Net, since no
    /// other will come.
    pub fn handle_announcement(&mut self, data: &[u8]) {
        match self.exchange.handle_announcement(data) {
            Ok(command) if self.installing => self.next = Some(command),
            Ok(command) => {
                self.installing = true;
                self.install(command);
            }
            Err(error) => self.fail(error.into()),
        }
    }

    /// Returns the next event.
    pub fn poll(&mut self) -> Option<KeyEvent> {
        let outcomes = std::mem::take(&mut *lock(&self.outcomes));
        for outcome in outcomes {
            self.handle_outcome(outcome);
        }
        self.events.pop_front()
    }

    /// Returns what the keys wait for, for the operator; `None` if they are ready.
    pub const fn problem(&self) -> Option<&'static str> {
        self.exchange.problem()
    }

    fn handle_outcome(&mut self, outcome: KeyOutcome) {
        match outcome {
            KeyOutcome::Receiving(spi) => {
                let message = self.exchange.handle_receiving(spi);
                self.events.extend(message.map(KeyEvent::Announce));
            }
            KeyOutcome::Sending => {
                self.exchange.handle_sending();
                self.installing = false;
                if let Some(command) = self.next.take() {
                    self.installing = true;
                    self.install(command);
                }
            }
            KeyOutcome::NotReceiving(error) if self.exchange.handle_refusal() => {
                tracing::warn!("a key of IPsec is not renewed: {error}");
            }
            KeyOutcome::NotReceiving(error) | KeyOutcome::NotSending(error) => self.fail(error),
        }
        if self.exchange.is_ready() && !self.failed && !std::mem::replace(&mut self.ready, true) {
            self.events.push_back(KeyEvent::Ready);
        }
    }

    fn install(&self, command: KeyCommand) {
        let (queue, waker) = (Arc::clone(&self.outcomes), self.waker.clone());
        self.worker.install(command, move |outcome| {
            lock(&queue).push_back(outcome);
            waker.wake();
        });
    }

    fn fail(&mut self, error: IpsecError) {
        if !std::mem::replace(&mut self.failed, true) {
            self.events.push_back(KeyEvent::Failed(error));
        }
    }
}

/// Locks a queue, also after a panic, which leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
