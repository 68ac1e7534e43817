//! The control plane of one router as a state machine.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::accept::AcceptLimit;
use super::config::Config;
use super::error::TargetError;
use super::gossip::{Channel, Data};
use super::output::{Control, Output};
use super::random::Random;
use super::report::{Counters, Report};
use super::{ConnectionId, PeerName, Routes, ShortId};
use crate::time::Instant;

/// The control plane of one router: connections, topology, gossip, routes.
///
/// No I/O happens here. Whoever runs it feeds the `handle_*` methods with what happened, the
/// `link_*` methods with what the transports say and the others with what the user wants; after
/// each call it drains [`Self::poll_output`] and then asks [`Self::poll_timeout`] when
/// [`Self::handle_timeout`] is wanted. Calls about connections that have ended are ignored.
pub struct Mesh {
    config: Config,
    short_id: ShortId,
    accept_limit: AcceptLimit,
    routes: Arc<Routes>,
    outputs: VecDeque<Output>,
    counters: Counters,
    next_id: u64,
}

impl Mesh {
    /// A router without neighbours. `seed` is all the randomness it gets: it must be secret and
    /// never used twice.
    pub fn new(config: Config, seed: [u8; 32], now: Instant) -> Self {
        let mut random = Random::new(seed);
        let short_id = config.short_id.unwrap_or_else(|| {
            let number = random.below(u64::from(ShortId::COUNT));
            u16::try_from(number).ok().and_then(ShortId::new).expect("below the count")
        });
        Self {
            short_id,
            accept_limit: AcceptLimit::new(now),
            routes: Arc::new(Routes::alone(config.name)),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            next_id: 0,
            config,
        }
    }

    /// When the next connection may be accepted (spec mesh.md, section 2): at once, or when the
    /// token bucket has a token again.
    pub fn accept_allowed_at(&mut self, now: Instant) -> Instant {
        self.accept_limit.allowed_at(now)
    }

    /// A TCP connection was accepted.
    pub fn handle_accepted(
        &mut self,
        now: Instant,
        _local: SocketAddr,
        _remote: SocketAddr,
    ) -> ConnectionId {
        self.accept_limit.take(now);
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        id
    }

    /// An [`Output::Dial`] succeeded.
    pub fn handle_dialled(
        &mut self,
        _now: Instant,
        _id: ConnectionId,
        _local: SocketAddr,
        _remote: SocketAddr,
    ) {
    }

    /// An [`Output::Dial`] failed.
    pub fn handle_dial_failed(&mut self, _now: Instant, _id: ConnectionId, _error: String) {}

    /// The answer to [`Output::Resolve`]: all addresses of the host.
    pub fn handle_resolved(
        &mut self,
        _now: Instant,
        _target: &str,
        _result: Result<Vec<IpAddr>, String>,
    ) {
    }

    /// TCP delivered these bytes, cut anywhere.
    pub fn handle_bytes(&mut self, _now: Instant, _id: ConnectionId, _bytes: &[u8]) {}

    /// `len` more bytes of earlier [`Output::Send`]s were written.
    pub fn handle_written(&mut self, _now: Instant, _id: ConnectionId, _len: usize) {}

    /// TCP ended: why.
    pub fn handle_closed(&mut self, _now: Instant, _id: ConnectionId, _reason: String) {}

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// The link asked for by [`Output::Prepare`] is ready.
    pub fn link_prepared(&mut self, _now: Instant, _id: ConnectionId) {}

    /// A transport of the connection carries frames.
    pub fn link_established(&mut self, _now: Instant, _id: ConnectionId) {}

    /// No transport of the connection will work any more.
    pub fn link_failed(&mut self, _now: Instant, _id: ConnectionId, _reason: String) {}

    /// The transports of the connection say something to those of the neighbour.
    pub fn send_control(&mut self, _now: Instant, _id: ConnectionId, _control: Control) {}

    /// Keep up connections to these targets, `host` or `host:port`; with `replace` to no other
    /// ones. Good targets are taken even if others are refused.
    ///
    /// # Errors
    /// The targets that are no such text.
    pub fn connect(
        &mut self,
        _now: Instant,
        _targets: &[String],
        _replace: bool,
    ) -> Result<(), Vec<TargetError>> {
        Ok(())
    }

    /// No longer keep up connections to these targets, written as they were given. Connections
    /// that exist stay.
    pub fn forget(&mut self, _now: Instant, _targets: &[String]) {}

    /// The targets as they were given.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// Takes part in a gossip channel. Until then what comes in for it is only passed on.
    pub fn add_channel(&mut self, _name: &str, _channel: Box<dyn Channel>) {}

    /// Tells every peer once.
    pub fn broadcast(&mut self, _now: Instant, _channel: &str, _data: Arc<dyn Data>) {}

    /// Tells some neighbours, who pass on what is news to them.
    pub fn gossip(&mut self, _now: Instant, _channel: &str, _data: Arc<dyn Data>) {}

    /// Tells one peer.
    pub fn unicast(&mut self, _now: Instant, _channel: &str, _to: PeerName, _payload: Bytes) {}

    /// The state of things.
    pub fn report(&self) -> Report {
        Report {
            name: self.config.name,
            nickname: self.config.nickname.clone(),
            uid: self.config.uid,
            short_id: self.short_id,
            port: self.config.port,
            encrypted: self.config.password.is_some(),
            discovery: self.config.discovery,
            protocol_versions: (self.config.minimum_version, 2),
            peers: Vec::new(),
            unicast_routes: Vec::new(),
            broadcast_routes: Vec::new(),
            connections: Vec::new(),
            targets: Vec::new(),
            direct_peers: Vec::new(),
            trusted_subnets: self.config.trusted_subnets.clone(),
            counters: self.counters,
        }
    }

    /// The present routes.
    pub fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
