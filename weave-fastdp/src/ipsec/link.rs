//! The keys of one link: between the state machine and the thread that talks to the kernel.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use weave_core::switch::Waker;

use super::announcement::ANNOUNCEMENT_LEN;
use super::exchange::{Exchange, Order};
use super::{Done, Orders, nonce};

/// The keys of a link whose connection has a session key. Dropping it takes them out of the
/// kernel.
///
/// After each call and each time the waker fired, drain [`Self::poll`].
pub struct SealedLink {
    orders: Orders,
    exchange: Exchange,
    /// A key to send with is on its way into the kernel.
    replacing: bool,
    /// The one that is to follow. A neighbour that sends many gets no longer queue.
    next: Option<Order>,
    done: Arc<Mutex<VecDeque<Done>>>,
    waker: Waker,
    events: VecDeque<SealEvent>,
    ready: bool,
    failed: bool,
}

/// What a link is told of its keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SealEvent {
    /// Send this as message 1.
    Announce([u8; ANNOUNCEMENT_LEN]),
    /// Frames may leave. Told once.
    Ready,
    /// Frames will never leave; why, in one line for the log. The last event.
    Failed(String),
}

impl SealedLink {
    pub(super) fn new(orders: Orders, exchange: Exchange, waker: Waker) -> Self {
        Self {
            orders,
            exchange,
            replacing: false,
            next: None,
            done: Arc::default(),
            waker,
            events: VecDeque::new(),
            ready: false,
            failed: false,
        }
    }

    /// The connection is registered.
    pub fn confirm(&mut self) {
        match nonce() {
            Ok(nonce) => {
                if let Some(order) = self.exchange.confirm(nonce) {
                    self.give(order);
                }
            }
            Err(reason) => self.fail(reason),
        }
    }

    /// Renews the key with which the kernel receives, if there is one.
    pub fn renew(&mut self) {
        match nonce() {
            Ok(nonce) if !self.failed => {
                if let Some(order) = self.exchange.renew(nonce) {
                    self.give(order);
                }
            }
            Ok(_) => {}
            Err(reason) => tracing::warn!("a key of IPsec stays in use: {reason}"),
        }
    }

    /// The neighbour sent message 1. One that makes no sense is the end of the link, as in Weave
    /// Net: no other will come.
    pub fn handle_announcement(&mut self, data: &[u8]) {
        match self.exchange.handle_announcement(data) {
            Ok(order) if self.replacing => self.next = Some(order),
            Ok(order) => {
                self.replacing = true;
                self.give(order);
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// What happened.
    pub fn poll(&mut self) -> Option<SealEvent> {
        let done = std::mem::take(&mut *lock(&self.done));
        for done in done {
            self.handle_done(done);
        }
        self.events.pop_front()
    }

    /// What it waits for, for the operator; none if it is ready.
    pub const fn waits_for(&self) -> Option<&'static str> {
        self.exchange.waits_for()
    }

    fn handle_done(&mut self, done: Done) {
        match done {
            Done::Receiving(spi) => {
                let message = self.exchange.handle_receiving(spi);
                self.events.extend(message.map(SealEvent::Announce));
            }
            Done::Sending => {
                self.exchange.handle_sending();
                self.replacing = false;
                if let Some(order) = self.next.take() {
                    self.replacing = true;
                    self.give(order);
                }
            }
            Done::NotReceiving(reason) if self.exchange.handle_refusal() => {
                tracing::warn!("a key of IPsec stays in use: {reason}");
            }
            Done::NotReceiving(reason) | Done::Failed(reason) => self.fail(reason),
        }
        if self.exchange.is_ready() && !self.failed && !std::mem::replace(&mut self.ready, true) {
            self.events.push_back(SealEvent::Ready);
        }
    }

    fn give(&self, order: Order) {
        let (queue, waker) = (Arc::clone(&self.done), self.waker.clone());
        self.orders.give(order, move |done| {
            lock(&queue).push_back(done);
            waker.wake();
        });
    }

    fn fail(&mut self, reason: String) {
        if !std::mem::replace(&mut self.failed, true) {
            self.events.push_back(SealEvent::Failed(reason));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A queue is whole between any two calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
