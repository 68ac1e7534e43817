//! The connector: keeps up connections to the targets of the user and to the peers
//! others have told of (spec mesh.md, section 16).
//!
//! ```text
//!             due                  TCP up, registered
//!   Waiting ------> Attempting ---------------------> Connected
//!     ^  ^             | failed: later                    | ended: now or later
//!     |  +-------------+<---------------------------------+
//!     | its peer is gone again
//!   Suspended   <- while its peer is connected in another way
//! ```

mod backoff;
mod discovery;
mod syntax;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use self::backoff::Backoff;
pub(super) use self::discovery::Candidates;
use self::syntax::{Host, TargetSpec};
use super::branches::{Branch, Shares};
use super::error::{ConnectionError, TargetError};
use super::report::{TargetReport, TargetState};
use super::{ConnectionId, PeerName, Random};
use crate::time::Instant;

/// Attempts under way at one time, at targets of the user and at others, which are shared by branch
/// of the tellers: addresses where nothing answers take half a minute each.
const MAX_ATTEMPTS: usize = 64;
/// Addresses of one host name that are tried.
const MAX_ADDRESSES: usize = 16;
/// How long the end that was not chosen to dial waits for the other: a round of gossip by which
/// that one learns of us, and its handshake.
const DEFERENCE: Duration = Duration::from_secs(2);
/// Added to it at random.
const DEFERENCE_JITTER_MS: u64 = 1000;

/// Decides whom to dial and when.
pub(super) struct Connector {
    own: PeerName,
    own_port: u16,
    limit: Option<usize>,
    /// The targets of the user, by their text.
    direct: BTreeMap<String, TargetSpec>,
    targets: BTreeMap<Key, Target>,
    /// Dialled connections, from the dialling to their end.
    dialled: BTreeMap<ConnectionId, Dialled>,
    /// Registered connections.
    live: BTreeMap<ConnectionId, Live>,
    /// When a target becomes due, as of the last check.
    wake_at: Option<Instant>,
}

/// What is dialled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Address(SocketAddr),
    /// A host name given by the user, as it was given.
    Name(String),
}

struct Target {
    backoff: Backoff,
    state: State,
    last_error: Option<String>,
    /// It was this router that answered the last attempt.
    itself: bool,
    /// Who answered there last. While that peer is connected in another way, dialling it would
    /// only make a duplicate.
    identity: Option<PeerName>,
    /// Of a host name: all its addresses.
    addresses: Vec<SocketAddr>,
    /// Of a host name: those not yet tried in this attempt.
    untried: Vec<SocketAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Resolving,
    Dialling,
    Connected,
    Suspended,
}

struct Dialled {
    key: Key,
    /// The branch of the peer that told of it; none for targets of the user.
    told_by: Option<Branch>,
}

struct Live {
    peer: PeerName,
    address: SocketAddr,
    outbound: bool,
}

/// What the connector wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Dial { id: ConnectionId, address: SocketAddr },
    Resolve { target: String, host: String },
}

/// Hands out the ids of connections.
#[derive(Default)]
pub(super) struct Ids(u64);

impl Ids {
    pub(super) fn next(&mut self) -> ConnectionId {
        self.0 += 1;
        ConnectionId(self.0)
    }
}

impl Connector {
    pub(super) fn new(own: PeerName, own_port: u16, limit: Option<usize>) -> Self {
        Self {
            own,
            own_port,
            limit,
            direct: BTreeMap::new(),
            targets: BTreeMap::new(),
            dialled: BTreeMap::new(),
            live: BTreeMap::new(),
            wake_at: None,
        }
    }

    /// Takes targets of the user; those that are given again are tried at once.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        texts: &[String],
        replace: bool,
    ) -> Result<(), Vec<TargetError>> {
        if replace {
            self.direct.clear();
        }
        let mut errors = Vec::new();
        for text in texts {
            match TargetSpec::parse(text) {
                Ok(wanted) => {
                    let key = self.key(text, &wanted);
                    if let Some(target) = self.targets.get_mut(&key) {
                        target.backoff.now(now);
                        target.itself = false;
                    }
                    self.direct.insert(text.clone(), wanted);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    pub(super) fn forget(&mut self, texts: &[String]) {
        for text in texts {
            self.direct.remove(text);
        }
    }

    /// The targets of the user.
    pub(super) fn direct_peers(&self) -> impl Iterator<Item = &str> {
        self.direct.keys().map(String::as_str)
    }

    /// The addresses of the targets of the user, as far as they are known.
    pub(super) fn direct_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let keys = self.direct.iter().map(|(text, wanted)| self.key(text, wanted));
        keys.flat_map(|key| match key {
            Key::Address(address) => vec![address.ip()],
            Key::Name(_) => {
                let target = self.targets.get(&key);
                let addresses = target.into_iter().flat_map(|target| &target.addresses);
                addresses.map(SocketAddr::ip).collect()
            }
        })
    }

    /// Whether the user asked for the address of this dialled connection: then its peer need
    /// not be known from others.
    pub(super) fn is_direct(&self, id: ConnectionId) -> bool {
        self.dialled.get(&id).is_some_and(|dialled| dialled.told_by.is_none())
    }

    /// The other end of a connection told its name.
    pub(super) fn identified(&mut self, id: ConnectionId, peer: PeerName) {
        if let Some(target) = self.target_of(id) {
            target.identity = Some(peer);
        }
    }

    /// A connection was registered.
    pub(super) fn added(
        &mut self,
        id: ConnectionId,
        peer: PeerName,
        address: SocketAddr,
        outbound: bool,
    ) {
        self.live.insert(id, Live { peer, address, outbound });
        if let Some(target) = self.target_of(id) {
            target.state = State::Connected;
            target.last_error = None;
        }
    }

    /// A connection, or the attempt at one, ended. Returns the next address to try if the host
    /// has more.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        id: ConnectionId,
        error: &ConnectionError,
        random: &mut Random,
        ids: &mut Ids,
    ) -> Option<Action> {
        let was_live = self.live.remove(&id).is_some();
        let Dialled { key, .. } = self.dialled.remove(&id)?;
        let target = self.targets.get_mut(&key)?;
        target.state = State::Waiting;
        target.last_error = Some(error.to_string());
        target.itself = matches!(error, ConnectionError::ConnectedToSelf);
        match error {
            ConnectionError::NameCollision { .. } | ConnectionError::ConnectedToSelf => {
                target.backoff.never();
            }
            _ if was_live => target.backoff.after_connection(now, random),
            ConnectionError::Duplicate(_) => target.backoff.later(now, random),
            _ if target.untried.is_empty() => target.backoff.later(now, random),
            _ => return self.dial_next(now, key, random, ids),
        }
        None
    }

    /// The addresses of a host name were looked up, or not. Returns the first one to dial.
    pub(super) fn resolved(
        &mut self,
        now: Instant,
        text: &str,
        result: Result<Vec<IpAddr>, String>,
        random: &mut Random,
        ids: &mut Ids,
    ) -> Option<Action> {
        let key = Key::Name(text.to_owned());
        let wanted = self.direct.get(text);
        let target = self.targets.get_mut(&key).filter(|t| t.state == State::Resolving)?;
        target.state = State::Waiting;
        let wanted = wanted?;
        let addresses = result.and_then(|addresses| {
            if addresses.is_empty() {
                Err("the host has no address".to_owned())
            } else {
                Ok(addresses)
            }
        });
        match addresses {
            Ok(addresses) => {
                let at = |ip: &IpAddr| wanted.at(*ip, self.own_port);
                target.addresses = addresses.iter().take(MAX_ADDRESSES).map(at).collect();
                target.untried = target.addresses.iter().rev().copied().collect();
                self.dial_next(now, key, random, ids)
            }
            Err(error) => {
                target.last_error = Some(format!("cannot look up the host: {error}"));
                target.backoff.later(now, random);
                None
            }
        }
    }

    /// Looks through all targets: forgets, suspends, wakes and tries them.
    pub(super) fn check(
        &mut self,
        now: Instant,
        candidates: &Candidates,
        random: &mut Random,
        ids: &mut Ids,
    ) -> Vec<Action> {
        let connected = Connected::of(&self.live);
        let valid_direct = self.valid_direct_targets(now, &connected);
        for (address, peer) in candidates.iter() {
            if !connected.addresses.contains(&address) {
                let deference =
                    if dials(self.own, peer) { Duration::ZERO } else { deference(random) };
                self.targets
                    .entry(Key::Address(address))
                    .or_insert_with(|| Target::due(now + deference));
            }
        }
        let direct_keys: BTreeSet<Key> =
            self.direct.iter().map(|(text, wanted)| self.key(text, wanted)).collect();
        let mut due = Vec::new();
        self.targets.retain(|key, target| {
            if !matches!(target.state, State::Waiting | State::Suspended) {
                return true;
            }
            let discovered = match key {
                Key::Address(address) => {
                    candidates.get(address).is_some() && !connected.addresses.contains(address)
                }
                Key::Name(_) => false,
            };
            if !discovered && !valid_direct.contains(key) {
                target.state = State::Suspended;
                return direct_keys.contains(key);
            }
            target.state = State::Waiting;
            if target.backoff.try_after().is_some_and(|at| at <= now) {
                due.push(key.clone());
            }
            true
        });
        let mut slots = Slots::of(self);
        let actions = due
            .into_iter()
            .filter_map(|key| {
                let told_by = match &key {
                    Key::Address(address) if !direct_keys.contains(&key) => {
                        Some(candidates.get(address)?.branch.clone())
                    }
                    _ => None,
                };
                self.attempt(now, key, told_by, &mut slots, random, ids)
            })
            .collect();
        self.wake_at = self.earliest_due(now);
        actions
    }

    /// When the next check is wanted for the sake of time.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.wake_at
    }

    /// The targets that are not connected.
    pub(super) fn report(&self) -> impl Iterator<Item = TargetReport> {
        let direct_keys: BTreeSet<Key> =
            self.direct.iter().map(|(text, wanted)| self.key(text, wanted)).collect();
        self.targets.iter().filter_map(move |(key, target)| {
            let state = match target.state {
                State::Waiting if target.itself => TargetState::Itself,
                State::Waiting => TargetState::Waiting { until: target.backoff.try_after() },
                State::Resolving | State::Dialling => TargetState::Attempting,
                State::Connected | State::Suspended => return None,
            };
            let address = match key {
                Key::Address(address) => address.to_string(),
                Key::Name(text) => text.clone(),
            };
            let direct = direct_keys.contains(key);
            Some(TargetReport { address, direct, state, last_error: target.last_error.clone() })
        })
    }

    fn key(&self, text: &str, wanted: &TargetSpec) -> Key {
        match wanted.host {
            Host::Address(ip) => Key::Address(wanted.at(ip, self.own_port)),
            Host::Name(_) => Key::Name(text.to_owned()),
        }
    }

    fn target_of(&mut self, id: ConnectionId) -> Option<&mut Target> {
        self.targets.get_mut(&self.dialled.get(&id)?.key)
    }

    /// Makes the targets that are missing, and returns those that are not connected already.
    fn valid_direct_targets(&mut self, now: Instant, connected: &Connected) -> BTreeSet<Key> {
        let mut valid = BTreeSet::new();
        for (text, wanted) in &self.direct {
            let key = self.key(text, wanted);
            let target = self.targets.entry(key.clone()).or_insert_with(|| Target::due(now));
            let is_connected = |address: &SocketAddr| {
                connected.addresses.contains(address)
                    || (wanted.port.is_none() && connected.inbound_ips.contains(&address.ip()))
            };
            let reached = match &key {
                Key::Address(address) => is_connected(address),
                Key::Name(_) => target.addresses.iter().any(is_connected),
            };
            let met = target.identity.is_some_and(|peer| connected.peers.contains(&peer));
            if !reached && !met {
                valid.insert(key);
            }
        }
        valid
    }

    fn attempt(
        &mut self,
        now: Instant,
        key: Key,
        told_by: Option<Branch>,
        slots: &mut Slots,
        random: &mut Random,
        ids: &mut Ids,
    ) -> Option<Action> {
        let target = self.targets.get_mut(&key)?;
        if let Some(limit) = self.limit.filter(|limit| self.live.len() >= *limit) {
            target.last_error = Some(ConnectionError::Limit(limit).to_string());
            target.backoff.later(now, random);
            return None;
        }
        if !slots.take(told_by.as_ref()) {
            return None;
        }
        match &key {
            Key::Address(address) => {
                let address = *address;
                target.state = State::Dialling;
                let id = ids.next();
                self.dialled.insert(id, Dialled { key, told_by });
                Some(Action::Dial { id, address })
            }
            Key::Name(text) => {
                let Host::Name(host) = &self.direct.get(text)?.host else { return None };
                target.state = State::Resolving;
                Some(Action::Resolve { target: text.clone(), host: host.clone() })
            }
        }
    }

    fn dial_next(
        &mut self,
        now: Instant,
        key: Key,
        random: &mut Random,
        ids: &mut Ids,
    ) -> Option<Action> {
        let target = self.targets.get_mut(&key)?;
        let taken = |address: &SocketAddr| self.live.values().any(|live| live.address == *address);
        match target.untried.pop() {
            Some(address) if !taken(&address) => {
                target.state = State::Dialling;
                let id = ids.next();
                self.dialled.insert(id, Dialled { key, told_by: None });
                Some(Action::Dial { id, address })
            }
            // Connected already, which the next check will see.
            Some(_) | None => {
                target.untried.clear();
                target.backoff.later(now, random);
                None
            }
        }
    }

    fn earliest_due(&self, now: Instant) -> Option<Instant> {
        let waiting = self.targets.values().filter(|target| target.state == State::Waiting);
        waiting.filter_map(|target| target.backoff.try_after()).filter(|at| *at > now).min()
    }
}

impl Target {
    const fn due(at: Instant) -> Self {
        Self {
            backoff: Backoff::due(at),
            state: State::Waiting,
            last_error: None,
            itself: false,
            identity: None,
            addresses: Vec::new(),
            untried: Vec::new(),
        }
    }
}

/// Attempts that are under way.
struct Slots {
    direct: usize,
    discovered: Shares,
}

impl Slots {
    fn of(connector: &Connector) -> Self {
        let mut slots = Self { direct: 0, discovered: Shares::of(MAX_ATTEMPTS) };
        let under_way =
            connector.dialled.iter().filter(|(id, _)| !connector.live.contains_key(*id));
        for (_, dialled) in under_way {
            match &dialled.told_by {
                Some(branch) => slots.discovered.count(branch),
                None => slots.direct += 1,
            }
        }
        slots
    }

    fn take(&mut self, told_by: Option<&Branch>) -> bool {
        match told_by {
            Some(branch) => self.discovered.take(branch),
            None => {
                let takes = self.direct < MAX_ATTEMPTS;
                self.direct += usize::from(takes);
                takes
            }
        }
    }
}

/// Who is connected, and from where.
#[derive(Default)]
struct Connected {
    peers: BTreeSet<PeerName>,
    addresses: BTreeSet<SocketAddr>,
    inbound_ips: BTreeSet<IpAddr>,
}

impl Connected {
    fn of(live: &BTreeMap<ConnectionId, Live>) -> Self {
        let mut connected = Self::default();
        for connection in live.values() {
            connected.peers.insert(connection.peer);
            connected.addresses.insert(connection.address);
            if !connection.outbound {
                connected.inbound_ips.insert(connection.address.ip());
            }
        }
        connected
    }
}

/// Which of two peers that have heard of each other dials first: each of them half of the
/// others. Without that both would dial, and one of the connections would be thrown away.
fn dials(own: PeerName, other: PeerName) -> bool {
    let odd = (own.to_u64() ^ other.to_u64()).count_ones() % 2 == 1;
    (own < other) == odd
}

fn deference(random: &mut Random) -> Duration {
    DEFERENCE + Duration::from_millis(random.below(DEFERENCE_JITTER_MS))
}
