//! A simulated host: a router, its clock and what its bridge got.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::names::{HostId, Side, StreamId};
use super::overlay::SimOverlay;
use super::tap::Tap;
use crate::mesh::{Config, ConnectionId, DEFAULT_PORT, PeerName, Random, Uid};
use crate::router::{Event, Router};
use crate::switch::{Frame, Inject, Switch, Waker, Worker};
use crate::time::Instant;

/// A frame that the bridge of a host got from its router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Which host.
    pub host: HostId,
    /// The frame.
    pub frame: Vec<u8>,
}

/// What the setting of a host is before its router starts.
pub(super) type Configure = Arc<dyn Fn(&mut Config) + Send + Sync>;

pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) name: PeerName,
    configure: Configure,
    /// None while it is down.
    pub(super) running: Option<Running>,
    /// Dead hosts say nothing, those that only lost their router refuse connections.
    pub(super) powered: bool,
    /// What its clock is ahead.
    pub(super) clock_lead: Duration,
    /// Takes what comes in on TCP.
    pub(super) reading: bool,
    pub(super) incarnation: u64,
    next_port: u16,
    /// All that its routers told.
    pub(super) events: Vec<Event>,
    pub(super) frames: Vec<Vec<u8>>,
    pub(super) frames_sent: u64,
    /// What the router is heard through.
    pub(super) tap: Option<Box<dyn Tap>>,
}

/// A router that runs.
pub(super) struct Running {
    pub(super) router: Router,
    pub(super) overlay: SimOverlay,
    pub(super) worker: Worker,
    pub(super) streams: BTreeMap<ConnectionId, (StreamId, Side)>,
    woken: Arc<AtomicBool>,
    /// The earliest timer event that is in the queue.
    pub(super) timer_at: Option<Instant>,
}

impl Host {
    pub(super) fn new(id: HostId, configure: Configure) -> Self {
        let number = u64::try_from(id.0 + 1).unwrap_or(u64::MAX);
        Self {
            id,
            // Spread, so that the order of names is not the order of hosts.
            name: PeerName::from_u64((number * 0x9e37_79b9) & 0xffff_ffff_ffff)
                .unwrap_or(PeerName::UNKNOWN),
            configure,
            running: None,
            powered: true,
            clock_lead: Duration::ZERO,
            reading: true,
            incarnation: 0,
            next_port: 32768,
            events: Vec::new(),
            frames: Vec::new(),
            frames_sent: 0,
            tap: None,
        }
    }

    /// Starts the router, as a new incarnation.
    pub(super) fn start(&mut self, now: Instant, random: &mut Random) {
        self.incarnation += 1;
        if let Some(tap) = &mut self.tap {
            tap.restarted();
        }
        let mut config = Config::new(self.name, Uid(random.number() | 1));
        config.nickname = format!("host{}", self.id.0);
        (self.configure)(&mut config);
        self.name = config.name;
        let switch = Arc::new(Switch::new(self.name, random.number()));
        let overlay = SimOverlay::default();
        let router = Router::new(
            config,
            Arc::clone(&switch),
            vec![Box::new(overlay.clone())],
            random.block(),
            self.clock(now),
        );
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        router.on_wake(Waker::new(move || flag.store(true, Ordering::Relaxed)));
        let Ok(worker) = Worker::new(switch) else { return };
        let streams = BTreeMap::new();
        self.running = Some(Running { router, overlay, worker, streams, woken, timer_at: None });
    }

    /// What its clock shows.
    pub(super) fn clock(&self, now: Instant) -> Instant {
        now + self.clock_lead
    }

    /// The same point in time on the clock of the network.
    pub(super) fn on_net_clock(&self, at: Instant) -> Instant {
        at - self.clock_lead
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(address_of(self.id), DEFAULT_PORT)
    }

    /// The local address of the next connection it dials.
    pub(super) fn ephemeral_address(&mut self) -> SocketAddr {
        self.next_port = self.next_port.checked_add(1).unwrap_or(32768);
        SocketAddr::new(address_of(self.id), self.next_port)
    }
}

impl Running {
    pub(super) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::Relaxed)
    }
}

/// The address of a host.
pub(super) fn address_of(id: HostId) -> IpAddr {
    let number = u32::try_from(id.0 + 1).unwrap_or(u32::MAX);
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
}

/// The host at an address.
pub(super) fn host_at(address: IpAddr) -> Option<HostId> {
    let IpAddr::V4(address) = address else { return None };
    let number = address.to_bits().checked_sub(0x0a00_0001)?;
    usize::try_from(number).ok().map(HostId)
}

/// Keeps what the switch gives to the bridge.
pub(super) struct Bridge<'a>(pub(super) &'a mut Vec<Vec<u8>>);

impl Inject for Bridge<'_> {
    fn inject(&mut self, frame: Frame<'_>) {
        self.0.push(frame.bytes.to_vec());
    }
}
