//! What the control halves of the links share with the thread that receives.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;
use subtle::ConstantTimeEq as _;
use weave_core::mesh::ConnectionId;

use crate::state::LinkState;
use crate::wire::Token;

/// What the control halves of the links share with the thread.
pub(crate) struct Shared {
    pub(crate) address: SocketAddr,
    links: Mutex<BTreeMap<ConnectionId, Arc<LinkState>>>,
    commands: Mutex<VecDeque<Command>>,
    waker: Waker,
    closing: AtomicBool,
}

/// What a link wants done.
pub(crate) enum Command {
    /// Open a TCP connection and show the token.
    Dial(Arc<LinkState>, SocketAddr, Token),
    /// Close the TCP connection of the link.
    HangUp(ConnectionId),
}

impl Shared {
    pub(crate) fn new(address: SocketAddr, waker: Waker) -> Self {
        Self {
            address,
            links: Mutex::default(),
            commands: Mutex::default(),
            waker,
            closing: AtomicBool::new(false),
        }
    }

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, link: Arc<LinkState>) {
        Self::lock(&self.links).insert(link.id, link);
    }

    pub(crate) fn remove(&self, id: ConnectionId) {
        Self::lock(&self.links).remove(&id);
        self.command(Command::HangUp(id));
    }

    pub(crate) fn command(&self, command: Command) {
        Self::lock(&self.commands).push_back(command);
        self.wake();
    }

    /// Returns what the links want done.
    pub(crate) fn take_commands(&self) -> VecDeque<Command> {
        std::mem::take(&mut *Self::lock(&self.commands))
    }

    /// Has the thread end.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::warn!(%error, "waking the thread of the tcp overlay");
        }
    }

    pub(crate) fn accepts_from(&self, remote: IpAddr) -> bool {
        let links = Self::lock(&self.links);
        links.values().any(|link| link.remote == remote && link.machine().accepts())
    }

    /// The link whose token this is. All are compared, in the same time.
    pub(crate) fn link_of(&self, remote: IpAddr, token: &Token) -> Option<Arc<LinkState>> {
        let links = Self::lock(&self.links);
        let mut found = None;
        for link in links.values().filter(|link| link.remote == remote) {
            let machine = link.machine();
            if machine.accepts() && machine.token().ct_eq(token).into() {
                found = Some(link.clone());
            }
        }
        found
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).finish_non_exhaustive()
    }
}
