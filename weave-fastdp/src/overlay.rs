//! The fast datapath as a transport of the router.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weave_core::mesh::{ConnectionUid, ShortIdTable};
use weave_core::switch::{
    Envelope, Forwarded, Forwarder, Link, LinkEvent, LinkParams, LinkStatus, Overlay, PrepareError,
    Waker, WorkerId,
};
use weave_core::time::Instant;

use crate::engine::{Engine, Inbox, Tunnel, TunnelParams};
use crate::hearing::{FEATURE, FEATURE_VERSION};
use crate::heartbeat;
use crate::link::{LinkMachine, Transmit};

/// The time, as any thread may ask for it.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// The fast datapath: one for each router.
pub struct Fastdp {
    engine: Arc<dyn Engine>,
    clock: Clock,
}

impl Fastdp {
    /// The transport over this engine, with the clock of the control plane.
    pub fn new(
        engine: Arc<dyn Engine>,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Self {
        Self { engine, clock: Arc::new(clock) }
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
        params: LinkParams,
    ) -> Result<Box<dyn Link>, PrepareError> {
        // IPsec (spec fastdp.md, section 9) belongs here: until its associations are set up, no
        // frame may leave, not even a heartbeat.
        if params.session_key.is_some() {
            return Err(PrepareError(
                "encryption in the kernel (IPsec) is not in this version".to_owned(),
            ));
        }
        let tunnel = TunnelParams {
            connection: params.connection,
            remote: params.remote,
            local_address: ipv4(params.local_address.ip())?,
            remote_address: ipv4(params.remote_address.ip())?,
            port: port(&params, self.engine.port())?,
        };
        let watched = params.remote_features.get(FEATURE).is_some_and(|v| v == FEATURE_VERSION);
        let machine = LinkMachine::new(params.connection_uid, self.engine.mtu(), watched);
        let desk = Arc::new(Desk {
            machine: Mutex::new(machine),
            clock: Arc::clone(&self.clock),
            waker: params.waker,
            strange: AtomicU64::new(0),
        });
        Ok(Box::new(FastdpLink {
            engine: Arc::clone(&self.engine),
            state: State::Prepared(tunnel),
            connection: params.connection_uid,
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
fn port(params: &LinkParams, own: u16) -> Result<u16, PrepareError> {
    if !params.outbound {
        return Ok(own);
    }
    let port = params.remote_address.port().checked_add(1);
    port.ok_or_else(|| PrepareError("there is no UDP port after 65535".to_owned()))
}

/// The control half of a link.
struct FastdpLink {
    engine: Arc<dyn Engine>,
    state: State,
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
    fn special(&self, frame: &[u8], _from: Option<Ipv4Addr>) {
        let result = self.machine().handle_special((self.clock)(), frame);
        match result {
            Ok(()) => self.waker.wake(),
            Err(error) => {
                self.strange.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("dropped a heartbeat: {error}");
            }
        }
    }

    fn failed(&self, reason: String) {
        self.machine().fail(reason);
        self.waker.wake();
    }
}

impl FastdpLink {
    /// Carries out what the machine decided.
    fn settle(&mut self) {
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

impl Link for FastdpLink {
    fn confirm(&mut self, now: Instant) {
        if let State::Prepared(params) = &self.state {
            let inbox = Arc::clone(&self.desk) as Arc<dyn Inbox>;
            self.state = State::Open(self.engine.open(params.clone(), inbox));
        }
        self.desk.machine().confirm(now);
        self.settle();
    }

    fn handle_control(&mut self, now: Instant, message: u8, data: &[u8]) {
        self.desk.machine().handle_control(now, message, data);
        self.settle();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.desk.machine().handle_timeout(now);
        self.settle();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.desk.machine().poll_timeout()
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        self.settle();
        self.desk.machine().poll_event()
    }

    fn forwarder(&self) -> Arc<dyn Forwarder> {
        match &self.state {
            State::Prepared(_) => Arc::new(Closed),
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
        LinkStatus {
            mtu: machine.mtu(),
            encrypted: false,
            attributes: vec![("engine", self.engine.name().to_owned())],
            problem: machine.problem(),
            counters,
        }
    }
}

/// A tunnel that is not open yet.
struct Closed;

impl Forwarder for Closed {
    fn forward(&self, _: WorkerId, _: Envelope<'_>) -> Forwarded {
        Forwarded::Refused
    }

    fn flush(&self, _: WorkerId) {}
}
