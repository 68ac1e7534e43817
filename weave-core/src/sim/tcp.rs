//! A TCP connection between two simulated hosts, as far as routers notice.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;

use super::names::{HostId, Side};
use crate::mesh::ConnectionId;
use crate::time::Instant;

/// Bytes that a sender may have on the way: the buffers of both kernels.
const WINDOW: usize = 256 << 10;

/// Both ends.
pub(super) struct Stream {
    pub(super) dialler: End,
    pub(super) listener: End,
}

/// One end, and what is on the way from it to the other.
pub(super) struct End {
    pub(super) host: HostId,
    pub(super) address: SocketAddr,
    /// What its router calls it; none before it was accepted.
    pub(super) id: Option<ConnectionId>,
    /// Its router, or the kernel of its dead host, knows nothing of it any more.
    pub(super) closed: bool,
    /// Not yet in the window.
    waiting: VecDeque<Bytes>,
    flying: VecDeque<Bytes>,
    flying_bytes: usize,
    /// When the last byte in flight arrives.
    pub(super) last_arrival: Instant,
}

impl End {
    pub(super) fn new(host: HostId, address: SocketAddr, now: Instant) -> Self {
        Self {
            host,
            address,
            id: None,
            closed: false,
            waiting: VecDeque::new(),
            flying: VecDeque::new(),
            flying_bytes: 0,
            last_arrival: now,
        }
    }

    /// Bytes that are not yet in the window.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(Bytes::len).sum()
    }

    pub(super) fn write(&mut self, bytes: Bytes) {
        self.waiting.push_back(bytes);
    }

    /// Moves the next chunk into the window: its length, which counts as written.
    pub(super) fn take_off(&mut self) -> Option<usize> {
        let len = self.waiting.front()?.len();
        if self.flying_bytes > 0 && self.flying_bytes + len > WINDOW {
            return None;
        }
        self.flying.push_back(self.waiting.pop_front()?);
        self.flying_bytes += len;
        Some(len)
    }

    /// The chunk that arrives next.
    pub(super) fn land(&mut self) -> Option<Bytes> {
        let bytes = self.flying.pop_front()?;
        self.flying_bytes -= bytes.len();
        Some(bytes)
    }

    /// Forgets what was on the way: there was a reset.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
        self.flying.clear();
        self.flying_bytes = 0;
    }
}

impl Stream {
    pub(super) const fn end(&self, side: Side) -> &End {
        match side {
            Side::Dialler => &self.dialler,
            Side::Listener => &self.listener,
        }
    }

    pub(super) const fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Dialler => &mut self.dialler,
            Side::Listener => &mut self.listener,
        }
    }
}
