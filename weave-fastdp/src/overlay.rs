//! The fast datapath as a transport of the router.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use weave_core::mesh::{ConnectionUid, LinkRequest, ShortIdTable};
use weave_core::metric::{Counter, Reading};
use weave_core::switch::{
    Envelope, Forwarded, Forwarder, Link, LinkEvent, LinkStatus, Overlay, PrepareError, Waker,
    WorkerId,
};
use weave_core::time::{Clock, Instant};

use crate::control_message::{FEATURE, FEATURE_VERSION, SECURITY_ASSOCIATION};
use crate::engine::{Engine, Inbox, Tunnel, TunnelParams};
use crate::error::TunnelError;
use crate::heartbeat;
use crate::ipsec::{Ipsec, KeyEvent, KeyExchange, LinkKeys, TunnelEnds};
use crate::link::{LinkMachine, Transmit};

/// Cipher in the status: ESP with AES-GCM and keys of 256 bits.
const CIPHER: &str = "esp-aes-256-gcm";

/// Interval at which keys are renewed between routers of this kind. A stolen key decrypts no more
/// than what was sent within that time. At 10 Gbit/s a key encrypts 2^38 blocks of 16 bytes, by
/// which AES-GCM can be told from noise with a probability of (2^38)^2 / 2^129 = 2^-53.
const RENEWAL: Duration = Duration::from_secs(60 * 60);

/// The fast datapath of a router.
pub struct Fastdp {
    engine: Arc<dyn Engine>,
    clock: Clock,
    /// IPsec, or the reason why connections cannot be encrypted.
    ipsec: Result<Arc<Ipsec>, PrepareError>,
}

impl Fastdp {
    /// Creates the transport over this engine, with the clock of the control plane. Without
    /// [`Self::with_encryption`] it leaves encrypted connections to other transports.
    pub fn new(
        engine: Arc<dyn Engine>,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Self {
        let ipsec = Err(PrepareError("nothing encrypts the fast datapath".to_owned()));
        Self { engine, clock: Clock::new(clock), ipsec }
    }

    /// Encrypts connections that require it by IPsec, or gives the reason why it cannot.
    #[must_use]
    pub fn with_encryption(mut self, ipsec: Result<Arc<Ipsec>, PrepareError>) -> Self {
        self.ipsec = ipsec;
        self
    }
}

impl Overlay for Fastdp {
    fn name(&self) -> &'static str {
        "fastdp"
    }

    fn features(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(FEATURE.to_owned(), FEATURE_VERSION.to_owned())])
    }

    fn prepare(
        &mut self,
        _now: Instant,
        request: &LinkRequest,
        waker: Waker,
    ) -> Result<Box<dyn Link>, PrepareError> {
        let tunnel = TunnelParams {
            connection: request.id,
            remote: request.remote,
            local_address: ipv4(request.local_address.ip())?,
            remote_address: ipv4(request.remote_address.ip())?,
            port: port(request, self.engine.port())?,
            encrypted: request.session_key.is_some(),
        };
        let keys = match &request.session_key {
            None => None,
            Some(session) => {
                let ipsec = self.ipsec.as_ref().map_err(PrepareError::clone)?;
                let ends = TunnelEnds {
                    local: tunnel.local_address,
                    remote: tunnel.remote_address,
                    port: tunnel.port,
                };
                let exchange = KeyExchange::new(request.own, request.remote, session.clone());
                Some(ipsec.link(request.id, ends, exchange, waker.clone()))
            }
        };
        let reporting = request.remote_features.get(FEATURE).is_some_and(|v| v == FEATURE_VERSION);
        let machine = LinkMachine::new(request.connection_uid, self.engine.mtu(), reporting);
        let inbox = Arc::new(LinkInbox {
            machine: Mutex::new(machine),
            clock: self.clock.clone(),
            waker,
            foreign: Counter::default(),
        });
        Ok(Box::new(FastdpLink {
            engine: Arc::clone(&self.engine),
            state: State::Prepared(tunnel),
            keys,
            reporting,
            renewal: None,
            gate: Arc::default(),
            connection: request.connection_uid,
            inbox,
            frame: Vec::new(),
        }))
    }

    fn invalidate_routes(&mut self) {
        self.engine.invalidate_routes();
    }

    fn handle_short_ids(&mut self, ids: &Arc<ShortIdTable>) {
        self.engine.handle_short_ids(ids);
    }
}

fn ipv4(address: IpAddr) -> Result<Ipv4Addr, PrepareError> {
    match address.to_canonical() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(PrepareError("the fast datapath runs over IPv4 only".to_owned())),
    }
}

/// Returns the UDP port of a connection: both ends use the port after that of TCP on the accepting
/// side (spec fastdp.md, section 6).
fn port(request: &LinkRequest, own: u16) -> Result<u16, PrepareError> {
    if !request.outbound {
        return Ok(own);
    }
    let port = request.remote_address.port().checked_add(1);
    port.ok_or_else(|| PrepareError("there is no UDP port after 65535".to_owned()))
}

/// The control half of a link.
struct FastdpLink {
    engine: Arc<dyn Engine>,
    state: State,
    /// Keys of an encrypted tunnel, dropped after it.
    keys: Option<LinkKeys>,
    /// Whether the neighbour reports its receive status, and follows renewed keys.
    reporting: bool,
    /// When the next key is due.
    renewal: Option<Instant>,
    gate: Arc<Gate>,
    connection: ConnectionUid,
    inbox: Arc<LinkInbox>,
    /// Buffer for special frames, kept to be used again.
    frame: Vec<u8>,
}

enum State {
    Prepared(TunnelParams),
    Open(Arc<dyn Tunnel>),
}

/// The inbox to which the engine's threads deliver events of the tunnel.
struct LinkInbox {
    /// The uppermost lock of an engine: see the order in `odp/state.rs` and `vxlan/shared.rs`.
    machine: Mutex<LinkMachine>,
    clock: Clock,
    waker: Waker,
    /// Number of special frames that are not of this link.
    foreign: Counter,
}

impl LinkInbox {
    /// Locks the machine, also after a panic, which leaves it in one of its states.
    fn machine(&self) -> MutexGuard<'_, LinkMachine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox for LinkInbox {
    fn special(&self, frame: &[u8]) -> bool {
        let result = self.machine().handle_special(self.clock.now(), frame);
        match &result {
            Ok(()) => self.waker.wake(),
            Err(error) => {
                self.foreign.increment();
                tracing::debug!("dropped a heartbeat: {error}");
            }
        }
        result.is_ok()
    }

    fn failed(&self, error: TunnelError) {
        self.machine().fail(&error);
        self.waker.wake();
    }
}

impl FastdpLink {
    /// Opens the tunnel, so that frames may leave.
    fn open(&mut self, now: Instant) {
        if let State::Prepared(params) = &self.state {
            let inbox = Arc::clone(&self.inbox) as Arc<dyn Inbox>;
            let tunnel = self.engine.open(params.clone(), inbox);
            // It is set only here, and once.
            let _ = self.gate.0.set(Arc::clone(&tunnel).forwarder());
            self.state = State::Open(tunnel);
        }
        self.inbox.machine().confirm(now);
    }

    /// Handles the events of the keys.
    fn handle_key_events(&mut self) {
        while let Some(event) = self.keys.as_mut().and_then(LinkKeys::poll) {
            match event {
                KeyEvent::Announce(message) => self.inbox.machine().announce(&message),
                KeyEvent::Ready => {
                    let now = self.inbox.clock.now();
                    self.renewal = self.reporting.then(|| now + RENEWAL);
                    self.open(now);
                }
                KeyEvent::Failed(error) => self.inbox.machine().fail(&error.into()),
            }
        }
    }

    /// Carries out the outputs of the keys and of the machine.
    fn flush_outputs(&mut self) {
        self.handle_key_events();
        let State::Open(tunnel) = &self.state else { return };
        let mut machine = self.inbox.machine();
        while let Some(transmit) = machine.poll_transmit() {
            match transmit {
                Transmit::Heartbeat { length } => {
                    heartbeat::heartbeat(self.connection, length, &mut self.frame);
                }
                Transmit::Probe => heartbeat::probe(self.connection, &mut self.frame),
            }
            tunnel.send_special(&self.frame);
        }
        tunnel.set_offload(machine.may_offload());
    }
}

impl Drop for FastdpLink {
    fn drop(&mut self) {
        if let State::Open(tunnel) = &self.state {
            tunnel.connection_ended();
        }
    }
}

impl Link for FastdpLink {
    fn confirm(&mut self, now: Instant) {
        match &mut self.keys {
            Some(keys) => keys.confirm(),
            None => self.open(now),
        }
        self.flush_outputs();
    }

    fn handle_control(&mut self, now: Instant, message: u8, data: &[u8]) {
        match &mut self.keys {
            Some(keys) if message == SECURITY_ASSOCIATION => keys.handle_announcement(data),
            _ => self.inbox.machine().handle_control(now, message, data),
        }
        self.flush_outputs();
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.renewal.is_some_and(|due| due <= now)
            && let Some(keys) = &mut self.keys
        {
            self.renewal = Some(now + RENEWAL);
            keys.renew();
        }
        self.inbox.machine().handle_timeout(now);
        self.flush_outputs();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inbox.machine().poll_timeout().into_iter().chain(self.renewal).min()
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        self.flush_outputs();
        self.inbox.machine().poll_event()
    }

    fn forwarder(&self) -> Arc<dyn Forwarder> {
        match &self.state {
            State::Prepared(_) => Arc::clone(&self.gate) as Arc<dyn Forwarder>,
            State::Open(tunnel) => Arc::clone(tunnel).forwarder(),
        }
    }

    fn status(&self) -> LinkStatus {
        let machine = self.inbox.machine();
        let mut counters = match &self.state {
            State::Prepared(_) => Vec::new(),
            State::Open(tunnel) => tunnel.counters(),
        };
        counters.push(Reading::counter(
            "rx_dropped_heartbeat",
            "Special frames dropped: damaged, or of another connection.",
            self.inbox.foreign.get(),
        ));
        let mut attributes = vec![("engine", self.engine.name().to_owned())];
        attributes.extend(self.keys.as_ref().map(|_| ("cipher", CIPHER.to_owned())));
        let keys = self.keys.as_ref().and_then(LinkKeys::problem);
        let tunnel = match &self.state {
            State::Prepared(_) => None,
            State::Open(tunnel) => tunnel.problem(),
        };
        LinkStatus {
            mtu: machine.mtu(),
            encrypted: self.keys.is_some(),
            attributes,
            problem: keys.map(str::to_owned).or(tunnel).or_else(|| machine.problem()),
            counters,
        }
    }
}

/// A forwarder that refuses frames until the tunnel is open, so that a caller may keep it.
#[derive(Default)]
struct Gate(OnceLock<Arc<dyn Forwarder>>);

impl Forwarder for Gate {
    fn forward(&self, worker: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        self.0.get().map_or(Forwarded::Refused, |tunnel| tunnel.forward(worker, envelope))
    }

    fn flush(&self, worker: WorkerId) {
        if let Some(tunnel) = self.0.get() {
            tunnel.flush(worker);
        }
    }
}
