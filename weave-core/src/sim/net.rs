//! The simulated network: hosts, and one queue of things to come.

mod streams;
mod time;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::host::{Bridge, Delivery, Host};
use super::names::{HostId, Side, StreamId};
use super::overlay::Datagram;
use super::quality::Quality;
use super::tcp::Stream;
use crate::mesh::{Config, ConnectionId, PeerName, Random};
use crate::router::{Event, Router};
use crate::switch::Frame;
use crate::time::Instant;

/// Simulated hosts with routers, and the network between them.
pub struct Net {
    now: Instant,
    random: Random,
    pub(super) hosts: Vec<Host>,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    queue: BTreeMap<(Instant, u64), Happening>,
    next_happening: u64,
    quality: Quality,
    exceptions: BTreeMap<(HostId, HostId), Quality>,
    /// Frames that each host can send.
    frame_limit: u64,
    /// Host names, for targets given by name.
    names: BTreeMap<String, Vec<std::net::IpAddr>>,
}

/// Something that is going to happen.
enum Happening {
    /// The timer of a router, of this incarnation.
    Timer(HostId, u64),
    /// The request for a connection arrives.
    Request(StreamId),
    /// The listener's router accepts the connection.
    Accept(StreamId),
    /// The dialler hears that it is up.
    Up(StreamId),
    /// The dialler hears that nobody listens.
    Refused(HostId, ConnectionId),
    /// The next chunk from this side arrives at the other.
    Chunk(StreamId, Side),
    /// This side hears that the connection is gone.
    Reset(StreamId, Side),
    Resolved(HostId, String, String),
    Datagram(HostId, HostId, Datagram),
}

impl Net {
    /// A network without hosts. The seed decides everything that is left to chance.
    pub fn new(seed: u64) -> Self {
        let mut block = [0; 32];
        block[..8].copy_from_slice(&seed.to_be_bytes());
        Self {
            now: Instant::ORIGIN + Duration::from_secs(1000),
            random: Random::new(block),
            hosts: Vec::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            queue: BTreeMap::new(),
            next_happening: 0,
            quality: Quality::default(),
            exceptions: BTreeMap::new(),
            frame_limit: u64::MAX,
            names: BTreeMap::new(),
        }
    }

    /// Adds a host with a running router.
    pub fn add_host(&mut self) -> HostId {
        self.add_host_with(|_| {})
    }

    /// Adds a host with a running router of these settings.
    pub fn add_host_with(
        &mut self,
        configure: impl Fn(&mut Config) + Send + Sync + 'static,
    ) -> HostId {
        let id = HostId(self.hosts.len());
        self.hosts.push(Host::new(id, Arc::new(configure)));
        self.start(id);
        id
    }

    /// Adds so many hosts with running routers.
    pub fn add_hosts(&mut self, count: usize) -> Vec<HostId> {
        (0..count).map(|_| self.add_host()).collect()
    }

    /// Each host can send so many frames and no more, so that a storm of them comes to an end.
    pub const fn set_frame_limit(&mut self, limit: u64) {
        self.frame_limit = limit;
    }

    /// The time on the network's clock.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// All hosts.
    pub fn host_ids(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..self.hosts.len()).map(HostId)
    }

    /// The peer name of a host's router.
    pub fn name(&self, host: HostId) -> PeerName {
        self.hosts[host.0].name
    }

    /// Where the router of a host listens.
    pub fn address(&self, host: HostId) -> SocketAddr {
        self.hosts[host.0].address()
    }

    /// The router of a host, if it is running.
    pub fn router(&self, host: HostId) -> Option<&Router> {
        self.hosts[host.0].running.as_ref().map(|running| &running.router)
    }

    /// Everything the routers of a host have told so far.
    pub fn events(&self, host: HostId) -> &[Event] {
        &self.hosts[host.0].events
    }

    /// Asks something of the router of a host, with the time on its clock.
    pub fn ask<T>(
        &mut self,
        host: HostId,
        ask: impl FnOnce(&mut Router, Instant) -> T,
    ) -> Option<T> {
        let entry = &mut self.hosts[host.0];
        let now = entry.clock(self.now);
        let answer = entry.running.as_mut().map(|running| ask(&mut running.router, now));
        self.settle(host);
        answer
    }

    // What happens to hosts.

    /// Tells one router to connect to another.
    pub fn connect(&mut self, from: HostId, to: HostId) {
        let target = self.address(to).to_string();
        self.connect_to(from, &target);
    }

    /// Tells a router to connect to a target.
    ///
    /// # Panics
    /// If that is not a target.
    pub fn connect_to(&mut self, from: HostId, target: &str) {
        let targets = [target.to_owned()];
        let result = self.ask(from, |router, now| router.connect(now, &targets, false));
        assert!(result.is_none_or(|result| result.is_ok()), "{target} is no target");
    }

    /// Makes a host name known, with the addresses of these hosts.
    pub fn set_name(&mut self, name: &str, hosts: &[HostId]) {
        let addresses = hosts.iter().map(|host| self.address(*host).ip()).collect();
        self.names.insert(name.to_owned(), addresses);
    }

    /// Ends the router of a host; the kernel resets its connections.
    pub fn kill(&mut self, host: HostId) {
        let Some(running) = self.hosts[host.0].running.take() else { return };
        for (stream, side) in running.streams.values().copied() {
            self.close(stream, side);
        }
    }

    /// Takes the power from a host: nobody is told.
    pub fn power_off(&mut self, host: HostId) {
        self.hosts[host.0].powered = false;
        let Some(running) = self.hosts[host.0].running.take() else { return };
        for (stream, side) in running.streams.values() {
            if let Some(stream) = self.streams.get_mut(stream) {
                stream.end_mut(*side).close();
            }
        }
    }

    /// Starts the router of a host that has none running, as a new incarnation.
    pub fn start(&mut self, host: HostId) {
        let entry = &mut self.hosts[host.0];
        entry.powered = true;
        if entry.running.is_none() {
            entry.start(self.now, &mut self.random);
        }
        self.settle(host);
    }

    /// The clock of a host leaps ahead.
    pub fn jump_clock(&mut self, host: HostId, ahead: Duration) {
        let entry = &mut self.hosts[host.0];
        entry.clock_lead += ahead;
        if let Some(running) = &mut entry.running {
            running.timer_at = None;
        }
        self.settle(host);
    }

    /// Whether the router of a host takes what comes in on TCP.
    pub fn set_reading(&mut self, host: HostId, reading: bool) {
        self.hosts[host.0].reading = reading;
    }

    // What happens to the network.

    /// How good all paths are for which nothing else is said.
    pub fn set_quality(&mut self, quality: Quality) {
        self.quality = quality;
    }

    /// How good the path between two hosts is.
    pub fn set_path(&mut self, a: HostId, b: HostId, quality: Quality) {
        self.exceptions.insert((a.min(b), a.max(b)), quality);
    }

    /// How good the path between two hosts is.
    pub fn path(&self, a: HostId, b: HostId) -> Quality {
        self.exceptions.get(&(a.min(b), a.max(b))).copied().unwrap_or(self.quality)
    }

    /// Cuts all paths between these hosts and all others.
    pub fn partition(&mut self, island: &[HostId]) {
        self.set_cut(island, true);
    }

    /// Mends all paths between these hosts and all others.
    pub fn heal(&mut self, island: &[HostId]) {
        self.set_cut(island, false);
    }

    fn set_cut(&mut self, island: &[HostId], cut: bool) {
        for a in island.iter().copied() {
            for b in self.host_ids().filter(|b| !island.contains(b)) {
                let quality = Quality { cut, ..self.path(a, b) };
                self.set_path(a, b, quality);
            }
        }
    }

    /// Resets the TCP connections between two hosts, at both ends.
    pub fn reset_connections(&mut self, a: HostId, b: HostId) {
        let between = |stream: &Stream| {
            let hosts = (stream.dialler.host, stream.listener.host);
            hosts == (a, b) || hosts == (b, a)
        };
        let found: Vec<StreamId> =
            self.streams.iter().filter(|(_, s)| between(s)).map(|(id, _)| *id).collect();
        for stream in found {
            self.schedule(Duration::ZERO, Happening::Reset(stream, Side::Dialler));
            self.schedule(Duration::ZERO, Happening::Reset(stream, Side::Listener));
        }
    }

    // Frames.

    /// A frame shows up on the bridge of a host.
    pub fn capture(&mut self, host: HostId, frame: &[u8]) {
        let entry = &mut self.hosts[host.0];
        let now = entry.clock(self.now);
        if let Some(running) = &mut entry.running {
            let mut bridge = Bridge(&mut entry.frames);
            running.worker.pass(now, &mut bridge).captured(Frame::plain(frame));
        }
        self.settle(host);
    }

    /// Takes the frames that the bridges got since the last call.
    pub fn take_deliveries(&mut self) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for host in &mut self.hosts {
            let frames = std::mem::take(&mut host.frames);
            deliveries.extend(frames.into_iter().map(|frame| Delivery { host: host.id, frame }));
        }
        deliveries
    }

    /// The connected hosts, as far as paths allow: each in the group of those it can reach.
    pub(super) fn components(&self) -> Vec<BTreeSet<HostId>> {
        let mut groups: Vec<BTreeSet<HostId>> = Vec::new();
        let mut rest: BTreeSet<HostId> =
            self.hosts.iter().filter(|host| host.running.is_some()).map(|host| host.id).collect();
        while let Some(first) = rest.pop_first() {
            let mut group = BTreeSet::from([first]);
            let mut fresh = vec![first];
            while let Some(host) = fresh.pop() {
                let near: Vec<HostId> =
                    rest.iter().filter(|other| !self.path(host, **other).cut).copied().collect();
                for other in near {
                    rest.remove(&other);
                    group.insert(other);
                    fresh.push(other);
                }
            }
            groups.push(group);
        }
        groups
    }
}
