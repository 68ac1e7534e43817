//! The fast datapath as a transport of the router.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use weave_core::mesh::{ConnectionUid, LinkRequest, ShortIdTable};
use weave_core::switch::{
    Envelope, Forwarded, Forwarder, Link, LinkEvent, LinkStatus, Overlay, PrepareError, Waker,
    WorkerId,
};
use weave_core::time::Instant;

use crate::engine::{Engine, Inbox, Tunnel, TunnelParams};
use crate::hearing::{FEATURE, FEATURE_VERSION, SECURITY_ASSOCIATION};
use crate::heartbeat;
use crate::ipsec::{Ends, Exchange, Ipsec, SealEvent, SealedLink};
use crate::link::{LinkMachine, Transmit};

/// What seals, as the status has it: ESP with AES-GCM and keys of 256 bits.
const CIPHER: &str = "esp-aes-256-gcm";

/// Keys are renewed as often, with routers like this one. One that somebody has found out opens no
/// more than what was sent within that time. At 10 Gbit/s it is 2^38 blocks of 16 bytes that
/// AES-GCM seals with a key, which tells them from noise with a chance of (2^38)^2 / 2^129 = 2^-53.
const RENEWAL: Duration = Duration::from_secs(60 * 60);

/// The time, as any thread may ask for it.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// The fast datapath: one for each router.
pub struct Fastdp {
    engine: Arc<dyn Engine>,
    clock: Clock,
    /// Or why there is none.
    ipsec: Result<Arc<Ipsec>, String>,
}

impl Fastdp {
    /// The transport over this engine, with the clock of the control plane. Without
    /// [`Self::sealed_by`] it leaves connections that are to be sealed to other transports.
    pub fn new(
        engine: Arc<dyn Engine>,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Self {
        let ipsec = Err("nothing encrypts the fast datapath".to_owned());
        Self { engine, clock: Arc::new(clock), ipsec }
    }

    /// Seals what is to be sealed by this, or says of each such connection why it cannot.
    #[must_use]
    pub fn sealed_by(mut self, ipsec: Result<Arc<Ipsec>, String>) -> Self {
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
            sealed: request.session_key.is_some(),
        };
        let seal = match &request.session_key {
            None => None,
            Some(session) => {
                let ipsec = self.ipsec.as_ref().map_err(|why| PrepareError(why.clone()))?;
                let ends = Ends {
                    local: tunnel.local_address,
                    remote: tunnel.remote_address,
                    port: tunnel.port,
                };
                let exchange = Exchange::new(request.own, request.remote, session.clone());
                Some(ipsec.link(request.id, ends, exchange, waker.clone()))
            }
        };
        let watched = request.remote_features.get(FEATURE).is_some_and(|v| v == FEATURE_VERSION);
        let machine = LinkMachine::new(request.connection_uid, self.engine.mtu(), watched);
        let desk = Arc::new(Desk {
            machine: Mutex::new(machine),
            clock: Arc::clone(&self.clock),
            waker,
            strange: AtomicU64::new(0),
        });
        Ok(Box::new(FastdpLink {
            engine: Arc::clone(&self.engine),
            state: State::Prepared(tunnel),
            seal,
            watched,
            renewal: None,
            gate: Arc::default(),
            connection: request.connection_uid,
            desk,
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

/// Both ends use the port after that of TCP on the accepting side (spec fastdp.md, section 6).
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
    /// Goes after the tunnel.
    seal: Option<SealedLink>,
    /// The neighbour is a router like this one.
    watched: bool,
    /// When the next key is due.
    renewal: Option<Instant>,
    gate: Arc<Gate>,
    connection: ConnectionUid,
    desk: Arc<Desk>,
    /// Room for special frames, kept to be used again.
    frame: Vec<u8>,
}

enum State {
    Prepared(TunnelParams),
    Open(Arc<dyn Tunnel>),
}

/// Where the engine's threads leave what they have for the link.
struct Desk {
    machine: Mutex<LinkMachine>,
    clock: Clock,
    waker: Waker,
    /// Special frames that are none of this link.
    strange: AtomicU64,
}

impl Desk {
    /// A panic in a call of the machine leaves it in one of its states.
    fn machine(&self) -> MutexGuard<'_, LinkMachine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox for Desk {
    fn special(&self, frame: &[u8]) -> bool {
        let result = self.machine().handle_special((self.clock)(), frame);
        match &result {
            Ok(()) => self.waker.wake(),
            Err(error) => {
                self.strange.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("dropped a heartbeat: {error}");
            }
        }
        result.is_ok()
    }

    fn failed(&self, reason: String) {
        self.machine().fail(reason);
        self.waker.wake();
    }
}

impl FastdpLink {
    /// From now on frames may leave.
    fn open(&mut self, now: Instant) {
        if let State::Prepared(params) = &self.state {
            let inbox = Arc::clone(&self.desk) as Arc<dyn Inbox>;
            let tunnel = self.engine.open(params.clone(), inbox);
            // It is set here alone, and once.
            let _ = self.gate.0.set(Arc::clone(&tunnel).forwarder());
            self.state = State::Open(tunnel);
        }
        self.desk.machine().confirm(now);
    }

    /// Carries out what became of the keys.
    fn settle_seal(&mut self) {
        while let Some(event) = self.seal.as_mut().and_then(SealedLink::poll) {
            match event {
                SealEvent::Announce(message) => self.desk.machine().announce(&message),
                SealEvent::Ready => {
                    let now = (self.desk.clock)();
                    self.renewal = self.watched.then(|| now + RENEWAL);
                    self.open(now);
                }
                SealEvent::Failed(reason) => self.desk.machine().fail(reason),
            }
        }
    }

    /// Carries out what the machine decided.
    fn settle(&mut self) {
        self.settle_seal();
        let State::Open(tunnel) = &self.state else { return };
        let mut machine = self.desk.machine();
        while let Some(transmit) = machine.poll_transmit() {
            match transmit {
                Transmit::Heartbeat { length } => {
                    heartbeat::heartbeat(self.connection, length, &mut self.frame);
                }
                Transmit::Probe => heartbeat::probe(self.connection, &mut self.frame),
            }
            tunnel.send_special(&self.frame);
        }
        tunnel.carry(machine.carries());
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
        match &mut self.seal {
            Some(seal) => seal.confirm(),
            None => self.open(now),
        }
        self.settle();
    }

    fn handle_control(&mut self, now: Instant, message: u8, data: &[u8]) {
        match &mut self.seal {
            Some(seal) if message == SECURITY_ASSOCIATION => seal.handle_announcement(data),
            _ => self.desk.machine().handle_control(now, message, data),
        }
        self.settle();
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.renewal.is_some_and(|due| due <= now)
            && let Some(seal) = &mut self.seal
        {
            self.renewal = Some(now + RENEWAL);
            seal.renew();
        }
        self.desk.machine().handle_timeout(now);
        self.settle();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.desk.machine().poll_timeout().into_iter().chain(self.renewal).min()
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        self.settle();
        self.desk.machine().poll_event()
    }

    fn forwarder(&self) -> Arc<dyn Forwarder> {
        match &self.state {
            State::Prepared(_) => Arc::clone(&self.gate) as Arc<dyn Forwarder>,
            State::Open(tunnel) => Arc::clone(tunnel).forwarder(),
        }
    }

    fn status(&self) -> LinkStatus {
        let machine = self.desk.machine();
        let mut counters = match &self.state {
            State::Prepared(_) => Vec::new(),
            State::Open(tunnel) => tunnel.counters(),
        };
        counters.push(("rx_dropped_heartbeat", self.desk.strange.load(Ordering::Relaxed)));
        let mut attributes = vec![("engine", self.engine.name().to_owned())];
        attributes.extend(self.seal.as_ref().map(|_| ("cipher", CIPHER.to_owned())));
        let keys = self.seal.as_ref().and_then(SealedLink::waits_for);
        let waiting = match &self.state {
            State::Prepared(_) => None,
            State::Open(tunnel) => tunnel.problem(),
        };
        LinkStatus {
            mtu: machine.mtu(),
            encrypted: self.seal.is_some(),
            attributes,
            problem: keys.map(str::to_owned).or(waiting).or_else(|| machine.problem()),
            counters,
        }
    }
}

/// What forwards once the tunnel is open: who got it before that need not ask again.
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
