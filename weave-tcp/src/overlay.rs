//! The transport as the router sees it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use weave_core::mesh::LinkRequest;
use weave_core::metric::Reading;
use weave_core::switch::{Forwarder, Link, LinkEvent, LinkStatus, Overlay, PrepareError, Waker};
use weave_core::time::Instant;

use crate::link::{Machine, Order};
use crate::seal::{CIPHER, Side};
use crate::shared::{Command, Shared};
use crate::state::LinkState;
use crate::streams::Streams;
use crate::thread::TcpThread;
use crate::wire::TOKEN_LEN;

/// The largest IP packet that a record holds.
const MTU: usize = 65_535;

/// The tcp transport of a router.
#[derive(Debug)]
pub struct Tcp {
    shared: Arc<Shared>,
    random: SystemRandom,
    thread: Option<TcpThread>,
}

impl Tcp {
    /// Binds the TCP port of the router; port 0 means any that is free. The second part receives,
    /// and is for [`TcpThread::spawn`](crate::TcpThread::spawn).
    ///
    /// # Errors
    /// The address is in use.
    pub fn bind(address: SocketAddr) -> io::Result<(Self, Streams)> {
        let streams = Streams::bind(address)?;
        let shared = streams.shared().clone();
        Ok((Self { shared, random: SystemRandom::new(), thread: None }, streams))
    }

    /// Keeps the thread that receives: it ends when this transport is dropped.
    #[must_use]
    pub fn with_thread(mut self, thread: TcpThread) -> Self {
        self.thread = Some(thread);
        self
    }

    /// Returns the address that the TCP port is bound to.
    pub fn local_address(&self) -> SocketAddr {
        self.shared.address
    }
}

impl Overlay for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn prepare(
        &mut self,
        _now: Instant,
        request: &LinkRequest,
        waker: Waker,
    ) -> Result<Box<dyn Link>, PrepareError> {
        let mut token = [0; TOKEN_LEN];
        self.random
            .fill(&mut token)
            .map_err(|_| PrepareError("the system has no random numbers".to_owned()))?;
        let side = if request.outbound { Side::Dialler } else { Side::Acceptor };
        let port = self.shared.address.port();
        let machine = Machine::new(side, port, token);
        let state = Arc::new(LinkState::new(request, machine, waker));
        self.shared.insert(state.clone());
        Ok(Box::new(TcpLink { state, shared: self.shared.clone() }))
    }
}

/// The control half.
struct TcpLink {
    state: Arc<LinkState>,
    shared: Arc<Shared>,
}

impl TcpLink {
    fn update(&self, change: impl FnOnce(&mut Machine)) {
        let mut machine = self.state.machine();
        change(&mut machine);
        let orders: Vec<Order> = std::iter::from_fn(|| machine.poll_order()).collect();
        drop(machine);
        for order in orders {
            match order {
                Order::Dial { port, token } => {
                    let address = SocketAddr::new(self.state.remote, port);
                    self.shared.command(Command::Dial(self.state.clone(), address, token));
                }
                Order::HangUp => self.shared.command(Command::HangUp(self.state.id)),
                Order::Keepalive => self.state.send_keepalive(),
            }
        }
    }
}

impl Link for TcpLink {
    fn confirm(&mut self, now: Instant) {
        self.update(|machine| machine.confirm(now));
    }

    fn handle_control(&mut self, now: Instant, message: u8, data: &[u8]) {
        self.update(|machine| machine.handle_control(now, message, data));
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.update(|machine| machine.handle_timeout(now));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.state.machine().poll_timeout()
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        self.state.machine().poll_event()
    }

    fn forwarder(&self) -> Arc<dyn Forwarder> {
        self.state.clone()
    }

    fn status(&self) -> LinkStatus {
        let machine = self.state.machine();
        let sealed = self.state.session_key.is_some();
        let counters = &self.state.counters;
        let counters = vec![
            Reading::counter(
                "rx_frames",
                "Frames received from the neighbour.",
                counters.rx_frames.get(),
            ),
            Reading::counter(
                "rx_bytes",
                "Bytes received from the neighbour.",
                counters.rx_bytes.get(),
            ),
            Reading::counter(
                "tx_frames",
                "Frames sent to the neighbour.",
                counters.tx_frames.get(),
            ),
            Reading::counter("tx_bytes", "Bytes sent to the neighbour.", counters.tx_bytes.get()),
            Reading::counter(
                "tx_dropped_queue_full",
                "Datagrams not sent since the queue of the kernel was full.",
                counters.tx_dropped_queue_full.get(),
            ),
            Reading::counter(
                "tx_dropped_too_long",
                "Frames not sent since they are longer than a message can be.",
                counters.tx_dropped_too_long.get(),
            ),
            Reading::counter(
                "connections",
                "TCP connections that carried frames of the link, one after the other.",
                counters.connections.get(),
            ),
        ];
        LinkStatus {
            mtu: machine.is_up().then_some(MTU),
            encrypted: sealed,
            attributes: sealed.then(|| ("cipher", CIPHER.to_owned())).into_iter().collect(),
            problem: machine.problem().map(str::to_owned),
            counters,
        }
    }
}

impl Drop for TcpLink {
    fn drop(&mut self) {
        self.shared.remove(self.state.id);
    }
}
