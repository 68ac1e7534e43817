//! The task that owns a router.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep_until;

use super::accept_queue::AcceptQueue;
use super::clock::TokioClock;
use super::complaint::Complaint;
use super::connection::{Connection, Progress};
use super::dial::{Found, Opened, addresses, dial, resolve};
use super::local_addr_watch::LocalAddrWatch;
use super::log::Log;
use super::ready::Ready;
use super::{Request, Settings};
use crate::mesh::{ConnectionId, Random, Source};
use crate::router::{Output, Report, Router};
use crate::switch::Waker;
use crate::time::Instant;

/// One buffer for all connections, since they are read one after the other.
const READ_BUFFER: usize = 32 * 1024;

/// Reads of one connection in one turn: then it goes to the end of the queue.
const READS_PER_TURN: usize = 4;

/// Connections served before timers, requests and the listener are looked at again.
const CONNECTIONS_PER_TURN: usize = 64;

/// After which all else has its turn, whatever connections still wait for theirs: operators wait
/// for the status, and links for their heartbeats.
const TURN: Duration = Duration::from_millis(10);

/// Connections taken from the listener before anything else gets its turn.
const ACCEPTS_PER_TURN: usize = 64;

pub(super) struct EventLoop {
    router: Router,
    settings: Settings,
    clock: TokioClock,
    listener: TcpListener,
    /// When the listener is looked at again.
    listen_at: Instant,
    complaint: Complaint,
    /// Accepted connections that wait for their handshake.
    accept_queue: AcceptQueue<Arrival>,
    /// When the first of them may begin it.
    admit_at: Instant,
    local_addrs: LocalAddrWatch,
    log: Log,
    ready: Arc<Ready>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Those that are not read until the router has dealt with what it has of them.
    paused: BTreeSet<ConnectionId>,
    /// Those with something new to write.
    dirty: BTreeSet<ConnectionId>,
    dialling: BTreeMap<ConnectionId, AbortHandle>,
    tasks: JoinSet<Found>,
    buffer: Box<[u8]>,
    /// Dropped last: then whoever waits for the end knows that all the rest is gone.
    requests: mpsc::Receiver<Request>,
}

/// A connection in the accept queue.
struct Arrival {
    stream: TcpStream,
    local: SocketAddr,
    remote: SocketAddr,
}

impl EventLoop {
    pub(super) fn new(
        router: Router,
        settings: Settings,
        clock: TokioClock,
        listener: TcpListener,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        let ready = Arc::new(Ready::default());
        let for_links = Arc::clone(&ready);
        router.on_wake(Waker::new(move || for_links.wake_links()));
        Self {
            router,
            settings,
            clock,
            listener,
            listen_at: Instant::ORIGIN,
            complaint: Complaint::default(),
            accept_queue: AcceptQueue::new(Random::new(seed())),
            admit_at: Instant::ORIGIN,
            local_addrs: LocalAddrWatch::new(clock.now()),
            log: Log::default(),
            requests,
            ready,
            connections: BTreeMap::new(),
            paused: BTreeSet::new(),
            dirty: BTreeSet::new(),
            dialling: BTreeMap::new(),
            tasks: JoinSet::new(),
            buffer: vec![0; READ_BUFFER].into(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.admit();
            self.carry_out();
            self.unpause();
            let now = self.clock.now();
            let listening = self.listen_at <= now;
            let deadlines = [
                self.router.poll_timeout(),
                (!listening).then_some(self.listen_at),
                (!self.accept_queue.is_empty()).then_some(self.admit_at),
                (!self.connections.is_empty()).then_some(self.local_addrs.poll_timeout()),
                self.log.poll_timeout(),
            ];
            let wake_at = deadlines.into_iter().flatten().min();
            let timer = async {
                match wake_at {
                    Some(at) => sleep_until(self.clock.at(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.ready.wait() => self.serve_ready(),
                () = timer => {
                    let now = self.clock.now();
                    self.router.handle_timeout(now);
                    self.log.handle_timeout(now);
                    self.check_locals(now);
                }
                accepted = self.listener.accept(), if listening => {
                    self.handle_accepted(accepted);
                    self.accept_more();
                }
                Some(Ok(found)) = self.tasks.join_next() => self.handle_found(found),
                request = self.requests.recv() => match request {
                    Some(Request::Run(run)) => run(&mut self.router, self.clock.now()),
                    // Nobody waits any more: then nobody misses the answer.
                    Some(Request::Report(answer)) => drop(answer.send(self.report())),
                    Some(Request::Stop) | None => return,
                },
            }
        }
    }

    fn report(&self) -> Report {
        let mut report = self.router.report();
        for shown in &mut report.mesh.connections {
            let connection = self.connections.get(&shown.id);
            shown.round_trip = connection
                .and_then(|connection| (self.settings.round_trip)(connection.descriptor()));
        }
        report
    }

    fn serve_ready(&mut self) {
        if self.ready.take_links() {
            self.router.handle_wakes(self.clock.now());
        }
        let turn_over = self.clock.now() + TURN;
        for _ in 0..self.ready.len().min(CONNECTIONS_PER_TURN) {
            let Some(id) = self.ready.pop() else { break };
            self.read(id);
            self.dirty.insert(id);
            if self.clock.now() >= turn_over {
                break;
            }
        }
        if self.ready.len() > 0 {
            self.ready.again();
        }
    }

    fn read(&mut self, id: ConnectionId) {
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            if self.router.mesh().is_behind(id) {
                self.paused.insert(id);
                return;
            }
            match connection.read(&mut self.buffer) {
                Progress::Done(length) => {
                    let bytes = self.buffer.get(..length).unwrap_or_default();
                    self.router.handle_bytes(self.clock.now(), id, bytes);
                }
                Progress::Later => return,
                Progress::Ended(reason) => return self.end(id, reason),
            }
        }
        if let Some(connection) = self.connections.get(&id) {
            connection.queue();
        }
    }

    /// Reads again of connections that had to wait.
    fn unpause(&mut self) {
        let (router, connections) = (&self.router, &self.connections);
        self.paused.retain(|id| {
            let waits = router.mesh().is_behind(*id);
            if !waits && let Some(connection) = connections.get(id) {
                connection.queue();
            }
            waits
        });
    }

    /// Does what the router wants, and writes what it left to be written, until there is nothing
    /// left of either.
    fn carry_out(&mut self) {
        loop {
            self.take_outputs();
            let Some(id) = self.dirty.pop_first() else { return };
            self.write(id);
        }
    }

    fn write(&mut self, id: ConnectionId) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            match connection.write() {
                Progress::Done(length) => {
                    self.router.handle_written(self.clock.now(), id, length);
                }
                Progress::Later => return,
                Progress::Ended(reason) => return self.end(id, reason),
            }
        }
    }

    fn end(&mut self, id: ConnectionId, reason: String) {
        if self.connections.remove(&id).is_some() {
            self.router.handle_closed(self.clock.now(), id, reason);
        }
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.router.poll_output() {
            match output {
                Output::Send { id, bytes } => {
                    if let Some(connection) = self.connections.get_mut(&id) {
                        connection.push(bytes);
                        self.dirty.insert(id);
                    }
                }
                Output::Close { id } => {
                    if let Some(mut connection) = self.connections.remove(&id) {
                        // What was said last may be what tells the neighbour why this is the end.
                        while let Progress::Done(_) = connection.write() {}
                    }
                    if let Some(task) = self.dialling.remove(&id) {
                        task.abort();
                    }
                }
                Output::Dial { id, address } => {
                    tracing::info!("->[{address}] attempting connection");
                    let from = self.settings.listen.ip();
                    let patience = self.settings.dial_timeout;
                    let task = self.tasks.spawn(dial(id, from, address, patience));
                    self.dialling.insert(id, task);
                }
                Output::Resolve { target, host } => {
                    let listen = self.settings.listen.ip();
                    self.tasks.spawn(resolve(target, host, listen));
                }
                Output::Event(event) => {
                    self.settings.events.take(&event);
                    self.log.event(self.clock.now(), &event);
                }
            }
        }
    }

    fn check_locals(&mut self, now: Instant) {
        if now < self.local_addrs.poll_timeout() {
            return;
        }
        let in_use = self.router.mesh().local_addresses();
        for address in self.local_addrs.check(now, in_use) {
            tracing::warn!("the local address {address} is gone, and its connections with it");
            self.router.handle_address_gone(now, address);
        }
    }

    /// Takes what else the kernel has, so that nobody waits behind the crowd there.
    fn accept_more(&mut self) {
        for _ in 1..ACCEPTS_PER_TURN {
            let mut context = Context::from_waker(std::task::Waker::noop());
            let Poll::Ready(accepted) = self.listener.poll_accept(&mut context) else { return };
            self.handle_accepted(accepted);
        }
    }

    fn handle_accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let stream = match accepted {
            Ok((stream, _)) => {
                self.complaint.worked();
                stream
            }
            // A neighbour that changed its mind before its turn came.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => return,
            Err(error) => {
                let now = self.clock.now();
                if let Some(errors) = self.complaint.failed(now) {
                    tracing::warn!(%error, errors, "cannot accept connections");
                }
                self.listen_at = now + self.complaint.next_pause();
                return;
            }
        };
        // A connection that is gone already is none.
        let Ok((local, remote)) = addresses(&stream) else { return };
        let arrival = Arrival { stream, local, remote };
        let known = if self.accept_queue.is_full() {
            self.router.known_sources(self.clock.now())
        } else {
            Arc::default()
        };
        if let Some(gone) = self.accept_queue.enter(Source::of(remote.ip()), arrival, &known) {
            // Nothing of it stays in the kernel either; if that cannot be had, no matter.
            let _unset = gone.stream.set_zero_linger();
            self.router.update(self.clock.now(), |mesh| mesh.count_turned_away());
        }
    }

    /// Lets those in the accept queue in whose time has come.
    fn admit(&mut self) {
        let now = self.clock.now();
        while self.admit_at <= now
            && let Some(Arrival { stream, local, remote }) = self.accept_queue.call()
        {
            // It may have gone while it waited; then its turn is the next one's.
            if addresses(&stream).is_err() {
                continue;
            }
            tracing::debug!("->[{remote}] connection accepted");
            let id = self.router.handle_accepted(now, local, remote);
            self.admit_at = self.router.accept_allowed_at(now);
            self.adopt(id, stream);
        }
    }

    fn handle_found(&mut self, found: Found) {
        let now = self.clock.now();
        match found {
            Found::Resolved { target, result } => {
                self.router.handle_resolved(now, &target, result);
            }
            Found::Dialled { id, result } => {
                if self.dialling.remove(&id).is_none() {
                    return;
                }
                match result {
                    Ok(Opened { stream, local, remote }) => {
                        self.router.handle_dialled(now, id, local, remote);
                        self.adopt(id, stream);
                    }
                    Err(error) => self.router.handle_dial_failed(now, id, error),
                }
            }
        }
    }

    fn adopt(&mut self, id: ConnectionId, stream: TcpStream) {
        match Connection::new(stream, &self.ready.ticket(id)) {
            Ok(connection) => {
                connection.queue();
                self.connections.insert(id, connection);
            }
            Err(error) => self.router.handle_closed(self.clock.now(), id, error.to_string()),
        }
    }
}

/// Enough for drawing among strangers, who must not foresee it.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    for (number, chunk) in seed.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&RandomState::new().hash_one(number).to_be_bytes());
    }
    seed
}
