//! The state that the threads of the engine share, and the order of its locks.
//!
//! Five locks are involved in the engine. A thread that holds one takes only those below it:
//!
//! ```text
//!   injector            while frames that the kernel does not deliver are taken in
//!     └─▶ link          of a link, in its inbox: overlay.rs
//!           ├─▶ queries of the routing socket for other threads than the controller
//!           └─▶ busy    the UDP ports that other programs use: busy_ports.rs
//!
//!   commands            alone, while a command is queued: engine.rs
//! ```
//!
//! The controller holds none of them while it waits for the kernel. Tunnels and short ids are under
//! no lock: they are replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::eventfd::EventFd;
use weave_core::mesh::{PeerName, ShortIdTable};
use weave_core::metric::{Counter, Reading};
use weave_core::switch::{Inject, Switch, Waker};
use weave_rtnl::Link;

use super::busy_ports::BusyPorts;
use super::config::VxlanConfig;
use super::devices::PREFIX;
use super::kernel::{Kernel, Monitor, name_of};
use super::tunnel::VxlanTunnel;
use crate::engine::{EngineFlow, EnginePort, EngineStatus};
use crate::sys::packet::PacketSocket;
use weave_core::time::Clock;

/// Numbers of the event sources beside tunnels, whose numbers are smaller.
pub(super) const STOP: u64 = u64::MAX;
pub(super) const MONITOR: u64 = u64::MAX - 1;
pub(super) const UNDELIVERED: u64 = u64::MAX - 2;

/// Returns the event for the receiving thread when there is something to read or an error to
/// report. A descriptor leaves the poller when it is closed.
pub(super) const fn on_input(number: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, number)
}

pub(super) type Tunnels = BTreeMap<u64, Arc<VxlanTunnel>>;

/// The state that the threads of the engine share.
pub(super) struct Shared {
    // Never changes.
    pub(super) config: VxlanConfig,
    pub(super) switch: Arc<Switch>,
    pub(super) clock: Clock,
    pub(super) poller: Epoll,
    pub(super) stop: EventFd,
    pub(super) undelivered: PacketSocket,
    pub(super) monitor: Mutex<Monitor>,
    // Replaced as a whole.
    pub(super) ids: ArcSwap<ShortIdTable>,
    pub(super) tunnels: ArcSwap<Tunnels>,
    /// Hosts and UDP ports of devices that no connection uses.
    pub(super) retained_ends: ArcSwap<BTreeSet<(Ipv4Addr, u16)>>,
    // Atomic.
    /// Index of the bridge; zero if there is none.
    pub(super) bridge: AtomicU32,
    pub(super) counters: Counters,
    // Set once.
    /// Called when tunnels come and go.
    pub(super) on_ends: OnceLock<Waker>,
    // Under locks.
    pub(super) busy_ports: BusyPorts,
    pub(super) injector: Mutex<Box<dyn Inject + Send>>,
    /// Routing socket for queries of other threads than the controller.
    pub(super) queries: Mutex<Kernel>,
}

#[derive(Default)]
pub(super) struct Counters {
    /// Frames without a device.
    pub(super) undelivered: Counter,
    /// Frames without a device that did not come from a neighbour.
    pub(super) unknown_senders: Counter,
}

impl Shared {
    pub(super) fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn link(&self, index: u32) -> Option<Link> {
        self.kernel().link(index).ok()?
    }

    /// Returns the peer that a port of the bridge leads to.
    pub(super) fn home(&self, tunnels: &Tunnels, port: u32) -> Option<PeerName> {
        let of_tunnel = tunnels.values().find(|tunnel: &&Arc<VxlanTunnel>| {
            tunnel.device.load().as_ref().is_some_and(|device| device.index == port)
        });
        if let Some(tunnel) = of_tunnel {
            return Some(tunnel.params.remote);
        }
        let name = name_of(port)?;
        let is_router = self.config.router_ports.contains(&name) || name.starts_with(PREFIX);
        (!is_router).then(|| self.switch.own())
    }

    pub(super) fn status(&self, most_flows: usize) -> EngineStatus {
        let tunnels = self.tunnels.load();
        let mut kernel = self.kernel();
        let ports: Vec<EnginePort> = tunnels
            .values()
            .filter_map(|tunnel| tunnel.device.load().as_ref().map(|device| device.index))
            .filter_map(|index| kernel.link(index).ok()?)
            .map(|found| EnginePort { id: found.index, name: found.name, kind: "vxlan".to_owned() })
            .collect();
        let stations = kernel.stations(self.bridge.load(Ordering::Relaxed)).unwrap_or_default();
        let offloaded =
            stations.iter().filter(|station| !station.permanent).filter_map(|station| {
                Some((station, ports.iter().find(|port| port.id == station.port)?))
            });
        let flow_count = offloaded.clone().count();
        let flows = offloaded.take(most_flows).map(|(station, port)| EngineFlow {
            keys: vec![format!("dst={}", station.mac)],
            actions: vec![format!("output={}", port.name)],
            packets: 0,
            bytes: 0,
            used: Some(u64::from(station.age) * 10),
        });
        EngineStatus {
            flows: flows.collect(),
            flow_count,
            ports,
            counters: vec![
                Reading::counter(
                    "rx_undelivered",
                    "Frames that the kernel left to this router: relayed ones.",
                    self.counters.undelivered.get(),
                ),
                Reading::counter(
                    "rx_dropped_strangers",
                    "Such frames dropped: from nobody there is a tunnel to.",
                    self.counters.unknown_senders.get(),
                ),
            ],
        }
    }
}
