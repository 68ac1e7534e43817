//! The control plane of one router as a state machine.
//!
//! ```text
//!   handle_*, link_*, user's wishes           poll_output, poll_timeout
//!        |                                           ^
//!        v                                           |
//!   lifecycle: connections come and go ---+          |
//!   messages:  what neighbours say        +--> run_pending: routes, connector,
//!   deadlines: what time brings ----------+            gossip encoded and sent
//! ```

mod backlog;
mod deadlines;
mod duplicate;
mod gaps;
mod lifecycle;
mod messages;
mod reassembly;
mod refusals;
mod report;
mod sources;
mod spread;
mod sync;
#[cfg(test)]
mod tests;
mod topology;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::deadlines::Deadlines;
use self::duplicate::{DuplicateResolution, NameConflicts};
use self::refusals::Refusals;
use self::sources::KnownSources;
use self::spread::{Audience, Deferred, Encoded};
use self::sync::{Announced, Asked, Summary};
use super::accept::AcceptLimit;
use super::circles::Circles;
use super::config::Config;
use super::connection::Connection;
use super::connector::{Action, Candidates, Connector, Ids};
use super::error::{ConnectionError, TargetError};
use super::gossip::sender::Pending;
use super::gossip::{Channel, Data};
use super::output::{Control, Event, Output};
use super::random::Random;
use super::report::{Counters, Report};
use super::{ConnectionId, PeerName, Peers, Routes, ShortId};
use crate::time::Instant;

/// How often the complete state of each channel goes to some neighbours.
const GOSSIP_INTERVAL: Duration = Duration::from_secs(30);

/// The control plane of one router: connections, topology, gossip, routes.
///
/// No I/O happens here. Whoever runs it feeds the `handle_*` methods with what happened, the
/// `link_*` methods with what the transports say and the others with what the user wants; after
/// each call it drains [`Self::poll_output`] and then asks [`Self::poll_timeout`] when
/// [`Self::handle_timeout`] is wanted. Calls about connections that have ended are ignored, and
/// a clock that goes back stands still.
pub struct Mesh {
    config: Config,
    random: Random,
    /// The latest time that was told.
    now: Instant,
    accept_limit: AcceptLimit,
    ids: Ids,
    connections: BTreeMap<ConnectionId, Connection>,
    /// The registered ones.
    by_peer: BTreeMap<PeerName, ConnectionId>,
    peers: Peers,
    /// The edition of the short ids that was last told.
    short_ids_told: u64,
    routes: Arc<Routes>,
    /// Records besides the own one that are to be told with it.
    unannounced: BTreeSet<PeerName>,
    /// The peers that gossip could get to when it was last told.
    reached: BTreeSet<PeerName>,
    connector: Connector,
    channels: BTreeMap<Arc<str>, Box<dyn Channel>>,
    /// How many of the channels only relay.
    surrogates: usize,
    /// Gossip that waits for the routes.
    deferred: Deferred,
    encoded: Encoded,
    announced: Announced,
    /// What is compared with neighbours, if it was needed since the last change.
    summary: Option<Summary>,
    /// Records that neighbours were asked for.
    asked: BTreeMap<PeerName, Asked>,
    /// From one time that neighbours are asked for missing records to the next.
    gap_interval: Duration,
    /// Connections for which there may be something to encode.
    ready: BTreeSet<ConnectionId>,
    /// Connections that must end, once the present input has been dealt with.
    doomed: VecDeque<(ConnectionId, ConnectionError)>,
    deadlines: Deadlines,
    known: KnownSources,
    /// Bytes of incomplete messages on all connections.
    partial: usize,
    /// Bytes that wait for peers to read, on all connections.
    held: usize,
    /// Connections without credit, by the time at which they go on.
    behind: BTreeSet<(Instant, ConnectionId)>,
    /// Connections that have to show that they work, by their peer.
    duplicates: BTreeMap<PeerName, DuplicateResolution>,
    /// Connections that waited for the end of another one, which has come.
    unopposed: VecDeque<ConnectionId>,
    name_conflicts: NameConflicts,
    refusals: Refusals,
    circles: Circles,
    /// When it was last told that another router says that it is this one.
    duplicate_self_reported_at: Option<Instant>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Mesh {
    /// A router without neighbours. `seed` is all the randomness it gets: it must be secret and
    /// never used twice.
    pub fn new(config: Config, seed: [u8; 32], now: Instant) -> Self {
        let mut random = Random::new(seed);
        let short_id = config.short_id.unwrap_or_else(|| draw_short_id(&mut random));
        let peers = Peers::new(config.name, config.nickname.clone(), config.uid, short_id);
        Self {
            now,
            accept_limit: AcceptLimit::new(now),
            ids: Ids::default(),
            connections: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            announced: Announced::new(&peers),
            summary: None,
            short_ids_told: peers.short_ids().edition(),
            peers,
            routes: Arc::new(Routes::alone(config.name)),
            unannounced: BTreeSet::new(),
            reached: BTreeSet::new(),
            connector: Connector::new(config.name, config.port, config.connection_limit),
            channels: BTreeMap::new(),
            surrogates: 0,
            deferred: Deferred::default(),
            encoded: Encoded::default(),
            asked: BTreeMap::new(),
            gap_interval: Duration::ZERO,
            ready: BTreeSet::new(),
            doomed: VecDeque::new(),
            deadlines: Deadlines::new(now + GOSSIP_INTERVAL),
            known: KnownSources::default(),
            partial: 0,
            held: 0,
            behind: BTreeSet::new(),
            duplicates: BTreeMap::new(),
            unopposed: VecDeque::new(),
            name_conflicts: NameConflicts::default(),
            refusals: Refusals::default(),
            circles: Circles::new(random.number(), now),
            duplicate_self_reported_at: None,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            random,
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
        local: SocketAddr,
        remote: SocketAddr,
    ) -> ConnectionId {
        self.advance(now);
        self.accept_limit.take(now);
        let id = self.ids.next();
        self.accept(id, local, remote);
        self.run_pending();
        id
    }

    /// Counts a TCP connection that the driver did not let wait for its handshake, since too many
    /// did.
    pub fn count_turned_away(&mut self) {
        self.counters.turned_away += 1;
    }

    /// An [`Output::Dial`] succeeded.
    pub fn handle_dialled(
        &mut self,
        now: Instant,
        id: ConnectionId,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        self.advance(now);
        self.dialled(id, local, remote);
        self.run_pending();
    }

    /// An [`Output::Dial`] failed.
    pub fn handle_dial_failed(&mut self, now: Instant, id: ConnectionId, error: String) {
        self.advance(now);
        self.end(id, ConnectionError::Dial(error), TcpSide::Gone);
        self.run_pending();
    }

    /// The answer to [`Output::Resolve`]: all addresses of the host.
    pub fn handle_resolved(
        &mut self,
        now: Instant,
        target: &str,
        result: Result<Vec<IpAddr>, String>,
    ) {
        self.advance(now);
        if let Err(error) = &result {
            let (target, error) = (target.to_owned(), error.clone());
            self.event(Event::ResolveFailed { target, error });
        }
        let action =
            self.connector.resolved(self.now, target, result, &mut self.random, &mut self.ids);
        action.into_iter().for_each(|action| self.act(action));
        self.deadlines.check_soon(self.now);
        self.run_pending();
    }

    /// TCP delivered these bytes, cut anywhere.
    pub fn handle_bytes(&mut self, now: Instant, id: ConnectionId, bytes: &[u8]) {
        self.advance(now);
        self.receive(id, bytes);
        self.run_pending();
    }

    /// `len` more bytes of earlier [`Output::Send`]s were written.
    pub fn handle_written(&mut self, now: Instant, id: ConnectionId, len: usize) {
        self.advance(now);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.written(self.now, len);
            self.ready.insert(id);
            self.count_held(id);
        }
        self.run_pending();
    }

    /// TCP ended: why.
    pub fn handle_closed(&mut self, now: Instant, id: ConnectionId, reason: String) {
        self.advance(now);
        if let Some(error) = self.connections.get(&id).map(|connection| connection.lost(reason)) {
            self.end(id, error, TcpSide::Gone);
        }
        self.run_pending();
    }

    /// The host has lost this address: connections from and to it carry nothing any more.
    pub fn handle_address_gone(&mut self, now: Instant, address: IpAddr) {
        self.advance(now);
        let lost = self.connections.iter().filter(|(_, c)| c.local.ip() == address);
        let lost: Vec<ConnectionId> = lost.map(|(id, _)| *id).collect();
        for id in lost {
            let error = ConnectionError::Lost(format!("the local address {address} is gone"));
            self.end(id, error, TcpSide::Open);
        }
        self.run_pending();
    }

    /// The addresses at this end of the connections that are up.
    pub fn local_addresses(&self) -> BTreeSet<IpAddr> {
        let addresses = self.connections.values().map(|connection| connection.local.ip());
        addresses.filter(|address| !address.is_unspecified()).collect()
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        self.expire_connections();
        self.expire_duplicates();
        self.run_deadlines();
        self.resume_behind();
        self.run_pending();
    }

    /// The link asked for by [`Output::Prepare`] is ready.
    pub fn link_prepared(&mut self, now: Instant, id: ConnectionId) {
        self.advance(now);
        self.register(id);
        self.run_pending();
    }

    /// A transport of the connection carries frames.
    pub fn link_established(&mut self, now: Instant, id: ConnectionId) {
        self.advance(now);
        self.establish(id);
        self.run_pending();
    }

    /// No transport of the connection will work any more.
    pub fn link_failed(&mut self, now: Instant, id: ConnectionId, reason: String) {
        self.advance(now);
        if self.connections.get(&id).is_some_and(|connection| connection.peered().is_some()) {
            self.end(id, ConnectionError::Link(reason), TcpSide::Open);
        }
        self.run_pending();
    }

    /// The transports of the connection say something to those of the neighbour.
    pub fn send_control(&mut self, now: Instant, id: ConnectionId, control: Control) {
        self.advance(now);
        self.transmit_control(id, &control);
        self.run_pending();
    }

    /// Keep up connections to these targets, `host` or `host:port`; with `replace` to no other
    /// ones. Good targets are taken even if others are refused.
    ///
    /// # Errors
    /// The targets that are no such text.
    pub fn connect(
        &mut self,
        now: Instant,
        targets: &[String],
        replace: bool,
    ) -> Result<(), Vec<TargetError>> {
        self.advance(now);
        let result = self.connector.connect(self.now, targets, replace);
        self.deadlines.check_now(self.now);
        self.run_pending();
        result
    }

    /// No longer keep up connections to these targets, written as they were given. Connections
    /// that exist stay.
    pub fn forget(&mut self, now: Instant, targets: &[String]) {
        self.advance(now);
        self.connector.forget(targets);
        self.deadlines.check_now(self.now);
        self.run_pending();
    }

    /// The targets as they were given.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.connector.direct_peers()
    }

    /// Takes part in a gossip channel. Until then what comes in for it is only passed on. The
    /// channel of that name before, if any, is gone.
    pub fn add_channel(&mut self, name: &str, channel: Box<dyn Channel>) {
        self.replace_channel(name, channel);
    }

    /// Tells every peer once.
    pub fn broadcast(&mut self, now: Instant, channel: &str, data: Arc<dyn Data>) {
        self.advance(now);
        let audience = Audience::Broadcast { source: self.config.name };
        self.spread(channel.into(), audience, Pending::Data(data));
        self.run_pending();
    }

    /// Tells some neighbours, who pass on what is news to them.
    pub fn gossip(&mut self, now: Instant, channel: &str, data: Arc<dyn Data>) {
        self.advance(now);
        self.spread(channel.into(), Audience::Neighbours { except: None }, Pending::Data(data));
        self.run_pending();
    }

    /// Tells one peer.
    pub fn unicast(&mut self, now: Instant, channel: &str, to: PeerName, payload: Bytes) {
        self.advance(now);
        self.send_unicast(channel, to, &payload);
        self.run_pending();
    }

    /// The state of things.
    pub fn report(&self) -> Report {
        self.make_report()
    }

    /// All that is known of the peers.
    pub fn peers(&self) -> &Peers {
        &self.peers
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
        self.next_deadline()
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Brings everything up to date after an input: ends what must end, looks at the targets,
    /// and sends what can be sent.
    fn run_pending(&mut self) {
        loop {
            if let Some((id, error)) = self.doomed.pop_front() {
                self.end(id, error, TcpSide::Open);
            } else if let Some(id) = self.unopposed.pop_front() {
                self.register_unopposed(id);
            } else if self.deadlines.take_check(self.now) {
                self.check_targets();
            } else if let Some(id) = self.ready.pop_first() {
                self.send_waiting(id);
                self.count_held(id);
            } else if let Some((id, error)) = self.over_budget() {
                self.end(id, error, TcpSide::Open);
            } else {
                break;
            }
        }
    }

    fn check_targets(&mut self) {
        let candidates =
            if self.config.discovery { self.candidates() } else { Candidates::default() };
        let actions = self.connector.check(self.now, &candidates, &mut self.random, &mut self.ids);
        actions.into_iter().for_each(|action| self.act(action));
    }

    fn act(&mut self, action: Action) {
        let output = match action {
            Action::Dial { id, address } => {
                self.insert(id, Connection::dialling(self.now, address));
                Output::Dial { id, address }
            }
            Action::Resolve { target, host } => Output::Resolve { target, host },
        };
        self.outputs.push_back(output);
    }

    fn short_id(&self) -> ShortId {
        self.peers.own().short_id.expect("the own record has had a short id from the start")
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

fn draw_short_id(random: &mut Random) -> ShortId {
    let number = u16::try_from(random.below(u64::from(ShortId::COUNT))).ok();
    number.and_then(ShortId::new).expect("the number is below the count")
}

/// What is left of TCP when a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TcpSide {
    /// To be closed.
    Open,
    /// It ended by itself, or never came up.
    Gone,
}
