//! The simulated network: hosts, and one queue of things to come.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::host::{Bridge, Delivery, Host, Running, host_at};
use super::names::{HostId, Side, StreamId};
use super::overlay::{Content, Datagram};
use super::quality::Quality;
use super::tcp::{End, Stream};
use crate::mesh::{Config, ConnectionId, PeerName, Random};
use crate::router::{Event, Output, Router};
use crate::switch::{Arrival, Frame};
use crate::time::Instant;

/// After this time TCP tries again what a cut path swallowed.
const RETRANSMISSION: Duration = Duration::from_millis(500);
/// After this time a host that does not read is offered its input again.
const OFFER_INTERVAL: Duration = Duration::from_millis(100);

/// Simulated hosts with routers, and the network between them.
pub struct Net {
    now: Instant,
    random: Random,
    pub(super) hosts: Vec<Host>,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    queue: BTreeMap<(Instant, u64), Happening>,
    next_happening: u64,
    quality: Quality,
    exceptions: BTreeMap<(HostId, HostId), Quality>,
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

    // Time.

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Lets time pass until something is the case, looking every tenth of a second.
    ///
    /// # Errors
    /// What is not the case after `limit`.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut condition: impl FnMut(&Self) -> Result<(), String>,
    ) -> Result<Duration, String> {
        let start = self.now;
        loop {
            match condition(self) {
                Ok(()) => return Ok(self.now.saturating_since(start)),
                Err(error) if self.now >= start + limit => {
                    return Err(format!("after {limit:?}: {error}"));
                }
                Err(_) => self.run_for(Duration::from_millis(100)),
            }
        }
    }

    /// Lets the next thing happen, if it does so before `end`. Else it is `end` now.
    fn step(&mut self, end: Instant) -> bool {
        match self.queue.first_entry() {
            Some(entry) if entry.key().0 <= end => {
                let ((at, _), happening) = entry.remove_entry();
                self.now = self.now.max(at);
                self.happen(happening);
                true
            }
            _ => {
                self.now = self.now.max(end);
                false
            }
        }
    }

    fn schedule(&mut self, delay: Duration, happening: Happening) {
        self.schedule_at(self.now + delay, happening);
    }

    fn schedule_at(&mut self, at: Instant, happening: Happening) {
        self.next_happening += 1;
        self.queue.insert((at, self.next_happening), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Timer(host, incarnation) => self.fire_timer(host, incarnation),
            Happening::Request(stream) => self.handle_request(stream),
            Happening::Accept(stream) => self.accept(stream),
            Happening::Up(stream) => {
                let Some(Stream { dialler, listener }) = self.streams.get(&stream) else { return };
                let (host, id) = (dialler.host, dialler.id);
                let (local, remote) = (dialler.address, listener.address);
                self.tell(host, id, |router, now, id| {
                    router.handle_dialled(now, id, local, remote);
                });
            }
            Happening::Refused(host, id) => {
                self.tell(host, Some(id), |router, now, id| {
                    router.handle_dial_failed(now, id, "connection refused".to_owned());
                });
            }
            Happening::Chunk(stream, side) => self.deliver(stream, side),
            Happening::Reset(stream, side) => self.handle_reset(stream, side),
            Happening::Resolved(host, target, name) => {
                let result = self.names.get(&name).cloned().ok_or("no such host".to_owned());
                self.ask(host, |router, now| router.handle_resolved(now, &target, result));
            }
            Happening::Datagram(from, to, datagram) => self.handle_datagram(from, to, datagram),
        }
    }

    fn tell(
        &mut self,
        host: HostId,
        id: Option<ConnectionId>,
        tell: impl FnOnce(&mut Router, Instant, ConnectionId),
    ) {
        if let Some(id) = id {
            self.ask(host, |router, now| tell(router, now, id));
        }
    }

    fn fire_timer(&mut self, host: HostId, incarnation: u64) {
        let entry = &mut self.hosts[host.0];
        let now = entry.clock(self.now);
        if entry.incarnation != incarnation {
            return;
        }
        let Some(running) = &mut entry.running else { return };
        if running.timer_at.is_some_and(|at| at <= self.now) {
            running.timer_at = None;
        }
        if running.router.poll_timeout().is_some_and(|at| at <= now) {
            running.router.handle_timeout(now);
        }
        self.settle(host);
    }

    // TCP.

    fn dial(&mut self, from: HostId, id: ConnectionId, address: SocketAddr) {
        let now = self.now;
        let local = self.hosts[from.0].ephemeral_address();
        let to = host_at(address.ip()).filter(|to| to.0 < self.hosts.len());
        let Some(to) = to else {
            return self.schedule(Duration::from_millis(1), Happening::Refused(from, id));
        };
        self.next_stream += 1;
        let stream = StreamId(self.next_stream);
        let mut dialler = End::new(from, local, now);
        dialler.id = Some(id);
        let listener = End::new(to, address, now);
        self.streams.insert(stream, Stream { dialler, listener });
        if let Some(running) = &mut self.hosts[from.0].running {
            running.streams.insert(id, (stream, Side::Dialler));
        }
        self.schedule(self.path(from, to).latency, Happening::Request(stream));
    }

    fn handle_request(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (from, to) = (stream.dialler.host, stream.listener.host);
        let path = self.path(from, to);
        if path.cut || !self.hosts[to.0].powered {
            return;
        }
        let listens = stream.listener.address.port() == self.hosts[to.0].address().port();
        if !listens || self.hosts[to.0].running.is_none() {
            if let Some(connection) = stream.dialler.id {
                self.streams.remove(&id);
                self.schedule(path.latency, Happening::Refused(from, connection));
            }
            return;
        }
        // The kernel answers; the router accepts when it may.
        self.schedule(path.latency, Happening::Up(id));
        self.schedule(Duration::ZERO, Happening::Accept(id));
    }

    fn accept(&mut self, id: StreamId) {
        let Some(Stream { dialler, listener }) = self.streams.get_mut(&id) else { return };
        let host = &mut self.hosts[listener.host.0];
        let now = host.clock(self.now);
        let Some(running) = &mut host.running else { return };
        let allowed = running.router.accept_allowed_at(now);
        if allowed > now {
            let at = host.on_net_clock(allowed).max(self.now);
            return self.schedule_at(at, Happening::Accept(id));
        }
        let connection = running.router.handle_accepted(now, listener.address, dialler.address);
        listener.id = Some(connection);
        running.streams.insert(connection, (id, Side::Listener));
        let host = listener.host;
        self.settle(host);
    }

    /// Lets what fits into the window take off. Returns how much that was.
    fn take_off(&mut self, id: StreamId, side: Side) -> usize {
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        let hosts = (stream.dialler.host, stream.listener.host);
        let path = self.exceptions.get(&(hosts.0.min(hosts.1), hosts.0.max(hosts.1)));
        let path = path.copied().unwrap_or(self.quality);
        let end = stream.end_mut(side);
        let mut written = 0;
        let mut arrivals = Vec::new();
        while let Some(len) = end.take_off() {
            written += len;
            let departure = end.last_arrival.max(self.now + path.latency);
            end.last_arrival = departure + path.transmission(len);
            arrivals.push(end.last_arrival);
        }
        for at in arrivals {
            self.schedule_at(at, Happening::Chunk(id, side));
        }
        written
    }

    fn deliver(&mut self, id: StreamId, from: Side) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (sender, receiver) = (stream.end(from).host, stream.end(from.other()).host);
        let closed = stream.end(from.other()).closed;
        let accepted = stream.end(from.other()).id;
        let path = self.path(sender, receiver);
        let host = &self.hosts[receiver.0];
        if path.cut || !host.powered {
            return self.schedule(RETRANSMISSION, Happening::Chunk(id, from));
        }
        if closed {
            return self.schedule(path.latency, Happening::Reset(id, from));
        }
        let Some(connection) = accepted.filter(|_| host.reading) else {
            return self.schedule(OFFER_INTERVAL, Happening::Chunk(id, from));
        };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(bytes) = stream.end_mut(from).land() else { return };
        let sender_id = stream.end(from).id;
        self.tell(receiver, Some(connection), |router, now, id| {
            router.handle_bytes(now, id, &bytes);
        });
        let written = self.take_off(id, from);
        if written > 0 {
            self.tell(sender, sender_id, |router, now, id| {
                router.handle_written(now, id, written);
            });
        }
    }

    /// One side is done with a connection; the other hears of it, unless the path is cut.
    fn close(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.end_mut(side).close();
        let latency = self.stream_path(id).latency;
        self.schedule(latency, Happening::Reset(id, side.other()));
    }

    fn handle_reset(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.end(side).closed {
            if stream.end(side.other()).closed {
                self.streams.remove(&id);
            }
            return;
        }
        let host = stream.end(side).host;
        if self.stream_path(id).cut {
            // A reset that is lost is not repeated: whoever sends next will find out.
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.end_mut(side).close();
        let connection = stream.end(side).id;
        if let Some(running) = &mut self.hosts[host.0].running
            && let Some(connection) = connection
        {
            running.streams.remove(&connection);
        }
        self.tell(host, connection, |router, now, id| {
            router.handle_closed(now, id, "connection reset by peer".to_owned());
        });
    }

    fn stream_path(&self, id: StreamId) -> Quality {
        self.streams
            .get(&id)
            .map_or(self.quality, |stream| self.path(stream.dialler.host, stream.listener.host))
    }

    // Datagrams.

    fn send_datagram(&mut self, from: HostId, datagram: Datagram) {
        // A name may have moved to another host, or be that of two.
        let to = self.hosts.iter().find(|host| host.name == datagram.to && host.running.is_some());
        let Some(to) = to.map(|host| host.id) else { return };
        for delay in self.path(from, to).delays(&mut self.random) {
            self.schedule(delay, Happening::Datagram(from, to, datagram.clone()));
        }
    }

    fn handle_datagram(&mut self, from: HostId, to: HostId, datagram: Datagram) {
        let cut = self.path(from, to).cut;
        let host = &mut self.hosts[to.0];
        let now = host.clock(self.now);
        let Some(running) = host.running.as_mut().filter(|_| !cut) else { return };
        if let Some((neighbour, Content::Frame { source, destination, bytes })) =
            running.overlay.handle(datagram)
        {
            let arrival = Arrival { neighbour, source, destination };
            let mut bridge = Bridge(&mut host.frames);
            running.worker.pass(now, &mut bridge).received(arrival, Frame::plain(&bytes));
        }
        self.settle(to);
    }

    // Between a router and the network.

    /// Carries out what a router wants, until it wants nothing more.
    fn settle(&mut self, host: HostId) {
        loop {
            let entry = &mut self.hosts[host.0];
            let now = entry.clock(self.now);
            let Some(running) = &mut entry.running else { return };
            if running.take_woken() {
                running.router.handle_wakes(now);
            }
            let mut outputs = Vec::new();
            while let Some(output) = running.router.poll_output() {
                outputs.push(output);
            }
            let datagrams = running.overlay.take_outgoing();
            if outputs.is_empty() && datagrams.is_empty() {
                break;
            }
            outputs.into_iter().for_each(|output| self.carry_out(host, output));
            datagrams.into_iter().for_each(|datagram| self.send_datagram(host, datagram));
        }
        self.arm_timer(host);
    }

    fn carry_out(&mut self, host: HostId, output: Output) {
        match output {
            Output::Dial { id, address } => self.dial(host, id, address),
            Output::Resolve { target, host: name } => {
                let delay = Duration::from_millis(10);
                self.schedule(delay, Happening::Resolved(host, target, name));
            }
            Output::Send { id, bytes } => self.write(host, id, bytes),
            Output::Close { id } => {
                let stream = self.running(host).and_then(|running| running.streams.remove(&id));
                if let Some((stream, side)) = stream {
                    self.close(stream, side);
                }
            }
            Output::Event(event) => self.hosts[host.0].events.push(event),
        }
    }

    fn write(&mut self, host: HostId, id: ConnectionId, bytes: Bytes) {
        let stream = self.running(host).and_then(|running| running.streams.get(&id).copied());
        let Some((stream, side)) = stream else { return };
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.end_mut(side).write(bytes);
        let written = self.take_off(stream, side);
        let now = self.hosts[host.0].clock(self.now);
        if written > 0
            && let Some(running) = self.running(host)
        {
            running.router.handle_written(now, id, written);
        }
    }

    fn running(&mut self, host: HostId) -> Option<&mut Running> {
        self.hosts[host.0].running.as_mut()
    }

    fn arm_timer(&mut self, host: HostId) {
        let entry = &mut self.hosts[host.0];
        let lead = entry.clock_lead;
        let incarnation = entry.incarnation;
        let Some(running) = &mut entry.running else { return };
        let Some(at) = running.router.poll_timeout() else { return };
        let at = (at - lead).max(self.now);
        if running.timer_at.is_none_or(|armed| at < armed) {
            running.timer_at = Some(at);
            self.schedule_at(at, Happening::Timer(host, incarnation));
        }
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
