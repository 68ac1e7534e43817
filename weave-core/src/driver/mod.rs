//! Runs a [`Router`] on tokio: sockets, names, timers.
//!
//! One task owns the router and all its TCP connections. There is no task per connection: each
//! connection's readiness puts its id into one queue, and the task reads those in it in turn, a
//! bounded amount each, into one buffer that all of them share. So a connection costs little more
//! than its socket, bytes go from the kernel to the router without being copied, and a peer that
//! floods gets no more than its turn.
//!
//! ```text
//!   sockets ──ready──▶ queue ─┐                     ┌─▶ write (in batches per connection)
//!   listener ──▶ accept_queue ──────┤                      ├─▶ dial, look up names (tasks of their own)
//!   timer ───────────────────┼──▶ Router ──outputs──┼─▶ log
//!   links' wakers ───────────┤                      └─▶ publish the forwarding table
//!   Handle::with ────────────┘
//! ```

mod accept_queue;
mod clock;
mod complaint;
mod connection;
mod dial;
mod event_loop;
mod local_addr_watch;
mod log;
mod ready;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot};

pub use clock::TokioClock;

use crate::mesh::TargetError;
use crate::router::{Event, Report, Router};
use crate::time::Instant;
use event_loop::EventLoop;

/// Waiting requests of [`Handle`]s; more wait at the sender.
const REQUESTS: usize = 64;

/// Connections the kernel holds until the task comes round to them; it may cut this down to
/// `net.core.somaxconn`, by default 4096.
const BACKLOG: u32 = 1024;

/// How a router is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen. Outbound connections come from the same address, from a port the kernel
    /// chooses. Default: port 6783 of all addresses.
    pub listen: SocketAddr,
    /// How long to wait for a connection to open before giving up. The operating system would
    /// wait for minutes. Default 10 s.
    pub dial_timeout: Duration,
    /// How to learn the round-trip time of a TCP connection for [`Handle::report`]; by default it
    /// is not learnt.
    pub round_trip: fn(BorrowedFd<'_>) -> Option<Duration>,
    /// Who is told of events besides the log; by default nobody.
    pub events: EventSink,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: ([0, 0, 0, 0], crate::mesh::DEFAULT_PORT).into(),
            dial_timeout: Duration::from_secs(10),
            round_trip: |_| None,
            events: EventSink::default(),
        }
    }
}

/// Takes events as they happen, on the task of the router: it must not block.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(&Event) + Send + Sync>);

impl EventSink {
    /// A sink that calls `take` for each event.
    pub fn new(take: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    fn take(&self, event: &Event) {
        (self.0)(event);
    }
}

impl Default for EventSink {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSink")
    }
}

/// A running router, to be asked and told things. Cheap to clone. When the last one is dropped the
/// router is shut down.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    address: SocketAddr,
}

enum Request {
    Run(Question),
    Report(oneshot::Sender<Report>),
    Stop,
}

type Question = Box<dyn FnOnce(&mut Router, Instant) + Send>;

/// The router has been shut down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the router has been shut down")]
pub struct Stopped;

/// Listens, and runs the router in a task of the current tokio runtime. The clock must be the one
/// whose time the router was made with.
///
/// # Errors
/// The address cannot be listened on.
pub fn start(router: Router, settings: Settings, clock: TokioClock) -> std::io::Result<Handle> {
    let listener = listen(settings.listen)?;
    let address = listener.local_addr()?;
    let (requests, inbox) = mpsc::channel(REQUESTS);
    tokio::spawn(EventLoop::new(router, settings, clock, listener, inbox).run());
    Ok(Handle { requests, address })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted router must not wait for the connections of its former self to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Handle {
    /// The address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs `ask` on the router, between two of its turns, and returns the answer.
    ///
    /// # Errors
    /// The router has been shut down.
    pub async fn with<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Router, Instant) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |router: &mut Router, now| {
            // Nobody waits any more: then nobody misses the answer.
            let _unwanted = answer.send(ask(router, now));
        });
        self.requests.send(Request::Run(run)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// See [`Router::connect`].
    ///
    /// # Errors
    /// The router has been shut down; or, inside, the targets that are no such text.
    pub async fn connect(
        &self,
        targets: Vec<String>,
        replace: bool,
    ) -> Result<Result<(), Vec<TargetError>>, Stopped> {
        self.with(move |router, now| router.connect(now, &targets, replace)).await
    }

    /// See [`Router::forget`].
    ///
    /// # Errors
    /// The router has been shut down.
    pub async fn forget(&self, targets: Vec<String>) -> Result<(), Stopped> {
        self.with(move |router, now| router.forget(now, &targets)).await
    }

    /// See [`Router::report`]; with the round-trip times of the TCP connections.
    ///
    /// # Errors
    /// The router has been shut down.
    pub async fn report(&self) -> Result<Report, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Report(answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Closes all connections and drops the router with its overlays; returns when that is done.
    pub async fn shut_down(&self) {
        // An error means that it is done already.
        let _done = self.requests.send(Request::Stop).await;
        self.requests.closed().await;
    }

    /// Waits until the router has been shut down.
    pub async fn stopped(&self) {
        self.requests.closed().await;
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("address", &self.address).finish_non_exhaustive()
    }
}
