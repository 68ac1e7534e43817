//! The sockets of all links, for one thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token as Key, Waker};
use ring::rand::SystemRandom;
use weave_core::mesh::ConnectionId;
use weave_core::switch::{Inject, Worker};
use weave_core::time::{Clock, Instant};

use crate::buffer::Greeting;
use crate::connection::{Connection, End, Phase, random_salt, send};
use crate::pending::victim;
use crate::seal::Side;
use crate::shared::{Command, Shared};
use crate::wire::{AcceptorGreeting, DiallerGreeting};

const WAKER: Key = Key(0);
const LISTENER: Key = Key(1);
const FIRST_STREAM: usize = 2;

/// From accepting to the greeting of the dialler.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// Connections taken from the listener in a turn.
const MAX_ACCEPTED: usize = 64;
/// Reads from one connection in a turn, so that none has the thread for itself.
const MAX_READS: usize = 4;

/// The receiving half of the transport: all its sockets.
pub struct Streams {
    poll: Poll,
    listener: TcpListener,
    shared: Arc<Shared>,
    random: SystemRandom,
    connections: BTreeMap<usize, Connection>,
    next_key: usize,
    /// Connections that may have more to read.
    readable: BTreeSet<usize>,
    /// Accepting failed; tried again then.
    accept_at: Option<Instant>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Streams {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let shared = Shared::new(listener.local_addr()?, waker);
        Ok(Self {
            poll,
            listener,
            shared: Arc::new(shared),
            random: SystemRandom::new(),
            connections: BTreeMap::new(),
            next_key: FIRST_STREAM,
            readable: BTreeSet::new(),
            accept_at: None,
        })
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Serves all connections until [`Shared::close`].
    pub(crate) fn run(
        mut self,
        worker: &mut Worker,
        port: &mut dyn Inject,
        clock: &Clock,
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !self.shared.is_closing() {
            let wait = if self.readable.is_empty() {
                self.next_wait(clock.now())
            } else {
                Some(Duration::ZERO)
            };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            let now = clock.now();
            if self.accept_at.take_if(|at| *at <= now).is_some() {
                self.accept(now);
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    LISTENER => self.accept(now),
                    Key(key) => self.handle_ready(now, key, event.is_writable()),
                }
            }
            self.execute(now);
            for key in std::mem::take(&mut self.readable) {
                self.read(now, key, worker, port);
            }
            self.expire(now);
        }
        Ok(())
    }

    /// Time until something is due without an event.
    fn next_wait(&self, now: Instant) -> Option<Duration> {
        let greetings = self.connections.values().filter_map(|connection| match connection.phase {
            Phase::Accepted { until, .. } => Some(until),
            _ => None,
        });
        greetings.chain(self.accept_at).min().map(|at| at.saturating_since(now))
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..MAX_ACCEPTED {
            match self.listener.accept() {
                Ok((socket, remote)) => self.let_in(now, socket, remote.ip().to_canonical()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors, most likely. There is no further event for what waits.
                    tracing::debug!(%error, "accepting a connection of the tcp overlay");
                    self.accept_at = Some(now + Duration::from_secs(1));
                    return;
                }
            }
        }
        self.accept_at = Some(now);
    }

    fn let_in(&mut self, now: Instant, socket: TcpStream, remote: IpAddr) {
        if !self.shared.accepts_from(remote) {
            return;
        }
        let waiting: Vec<(usize, IpAddr)> = self
            .connections
            .iter()
            .filter(|(_, connection)| matches!(connection.phase, Phase::Accepted { .. }))
            .map(|(key, connection)| (*key, connection.remote))
            .collect();
        if let Some(key) = victim(&waiting, remote) {
            self.connections.remove(&key);
        }
        let phase = Phase::Accepted { until: now + GREETING_LIMIT, greeting: Greeting::new() };
        if let Err(error) = self.add(socket, remote, phase) {
            tracing::debug!(%error, "a connection of the tcp overlay");
        }
    }

    fn add(&mut self, mut socket: TcpStream, remote: IpAddr, phase: Phase) -> io::Result<()> {
        let key = self.next_key;
        self.next_key += 1;
        socket.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Key(key), interest)?;
        self.connections.insert(key, Connection { socket: Arc::new(socket), remote, phase });
        Ok(())
    }

    fn execute(&mut self, now: Instant) {
        let commands = self.shared.take_commands();
        for command in commands {
            match command {
                Command::Dial(link, address, token) => {
                    self.hang_up(link.id);
                    let phase = Phase::Dialling { link: link.clone(), token };
                    let result = TcpStream::connect(address)
                        .and_then(|socket| self.add(socket, address.ip(), phase));
                    if let Err(error) = result {
                        let reason = format!("TCP to {address}: {error}");
                        link.update(|machine| machine.closed(now, &reason));
                    }
                }
                Command::HangUp(id) => self.hang_up(id),
            }
        }
    }

    fn hang_up(&mut self, id: ConnectionId) {
        let of_link = |connection: &Connection| connection.link().is_some_and(|link| link.id == id);
        self.connections.retain(|_, connection| {
            let stays = !of_link(connection);
            if !stays {
                connection.shut_down();
            }
            stays
        });
    }

    /// The socket can be read from, or written to.
    fn handle_ready(&mut self, now: Instant, key: usize, writable: bool) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        self.readable.insert(key);
        if !writable {
            return;
        }
        let result = match &connection.phase {
            Phase::Dialling { .. } => connection.greet(&self.random),
            Phase::Open(open) => open.link.outgoing().write().map_err(End::Io),
            Phase::Greeted { .. } | Phase::Accepted { .. } => Ok(()),
        };
        if let Err(end) = result {
            self.end(now, key, &end);
        }
    }

    fn read(&mut self, now: Instant, key: usize, worker: &mut Worker, port: &mut dyn Inject) {
        for _ in 0..MAX_READS {
            let Some(connection) = self.connections.get_mut(&key) else { return };
            let result = match &mut connection.phase {
                Phase::Dialling { .. } => return,
                Phase::Greeted { greeting, .. } => greeting.fill(&connection.socket),
                Phase::Accepted { greeting, .. } => greeting.fill(&connection.socket),
                Phase::Open(open) => open.buffer.fill(&connection.socket),
            };
            let result = match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
                Err(error) => Err(End::Io(error)),
                Ok(0) => Err(End::Closed),
                Ok(_) => self.handle_bytes(now, key, worker, port),
            };
            if let Err(end) = result {
                return self.end(now, key, &end);
            }
        }
        self.readable.insert(key);
    }

    fn handle_bytes(
        &mut self,
        now: Instant,
        key: usize,
        worker: &mut Worker,
        port: &mut dyn Inject,
    ) -> Result<(), End> {
        let Some(connection) = self.connections.get_mut(&key) else { return Ok(()) };
        match &mut connection.phase {
            Phase::Dialling { .. } => Ok(()),
            Phase::Accepted { greeting, .. } => {
                let Some(greeting) = greeting.complete() else { return Ok(()) };
                let DiallerGreeting { token, salt } = DiallerGreeting::decode(greeting)?;
                let link = self.shared.link_of(connection.remote, &token).ok_or(End::Token)?;
                let own = random_salt(&self.random)?;
                send(&connection.socket, &AcceptorGreeting { salt: own }.encode())?;
                // The neighbour dials again only if it lost the connection that it had.
                let replaced = link.outgoing().socket();
                connection.open(link, Side::Acceptor, &salt, &own);
                if let Some(replaced) = replaced {
                    self.connections.retain(|_, old| !Arc::ptr_eq(&old.socket, &replaced));
                }
                Ok(())
            }
            Phase::Greeted { link, salt, greeting } => {
                let Some(greeting) = greeting.complete() else { return Ok(()) };
                let theirs = AcceptorGreeting::decode(greeting)?.salt;
                let (link, own) = (link.clone(), *salt);
                connection.open(link, Side::Dialler, &own, &theirs);
                Ok(())
            }
            Phase::Open(open) => open.take_in(now, worker, port).map_err(End::Stream),
        }
    }

    /// Closes a connection, and tells its link.
    fn end(&mut self, now: Instant, key: usize, end: &End) {
        self.readable.remove(&key);
        let Some(connection) = self.connections.remove(&key) else { return };
        tracing::debug!(remote = %connection.remote, "a connection of the tcp overlay ended: {end}");
        connection.shut_down();
        if let Some(link) = connection.link() {
            link.update(|machine| machine.closed(now, &end.to_string()));
        }
    }

    /// Closes connections whose dialler has not said what it wants.
    fn expire(&mut self, now: Instant) {
        self.connections.retain(|_, connection| match connection.phase {
            Phase::Accepted { until, .. } => now < until,
            _ => true,
        });
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.connections.values().for_each(Connection::shut_down);
    }
}
