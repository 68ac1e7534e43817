//! The engine that has the kernel's own VXLAN devices carry the frames. It needs no module beyond
//! `vxlan`, and no flows: the bridge's forwarding table is the flow table.
//!
//! ```text
//!   containers ─── bridge weave ───┬── vethwe-tap      isolated      router, sleeve
//!                                  ├── vxwe-abc123     isolated ──▶  VXLAN to one neighbour
//!                                  └── vxwe-def123     isolated ──▶  VXLAN to another one
//! ```
//!
//! There is a device for each neighbour, all on one UDP port. It takes in the VNI of frames from
//! that neighbour to this peer and sends that of the other way, so both ends see the bytes that
//! Weave Net sends. Its port on the bridge is isolated and is never flooded to, be it with unicast,
//! multicast (snooping is off) or broadcast; the port of the router is isolated too.
//!
//! # Why there is no loop
//!
//! The ports that lead to other hosts are the device ports and the router's. All of them are
//! isolated, and a bridge passes nothing from an isolated port to another one. So what comes from
//! another host is never sent to another host by the kernel: that is done by the router alone, by
//! the one [decision](weave_core::switch::decision) and its spanning trees.
//!
//! Since all of this rests on the settings of the ports, these are compared each second with what
//! they should be, and a device that somebody changed is made anew.
//!
//! # Why there is no duplicate
//!
//! *Sending.* A frame of a local station either has an entry in the bridge's table, and leaves by
//! that one port, or is flooded; then, of the ports that lead to other hosts, only the router's gets
//! it, and the router sends it once to each neighbour that the decision names. It does so by a packet
//! socket on the device, which the bridge does not see.
//!
//! *Receiving.* By its VNI a packet belongs to a device or it does not. If so, the kernel delivers
//! it to the local stations, and the router, which sees a copy of some, only learns from it and sends
//! it on ([`Pass::relay_only`](weave_core::switch::Pass::relay_only)). If not, the kernel delivers it
//! to nobody, and the router gets it from the network below by a filter that leaves out exactly the
//! VNIs of the devices.
//!
//! # What the router sees
//!
//! Of what a device delivers: special frames; frames for groups, to learn and to send on; where this
//! peer has to send on floods of the neighbour, also unicast for stations that are not here, which
//! may have been flooded; and while the device is not in use, everything, since the bridge does not
//! learn from it then. Where stations are the switch also hears from the bridge, which alone sees
//! the others' frames.
//!
//! Frames between other pairs of peers have no device. What a neighbour relays to or through this
//! peer is taken in all the same; what this peer relays is left to the next transport.

mod control;
mod filter;
mod kernel;
mod receive;
mod taken;
mod tunnel;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use arc_swap::ArcSwap;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use weave_core::mesh::ShortIdTable;
use weave_core::switch::{Inject, Switch, Worker};
use weave_core::time::Instant;

use crate::engine::{Engine, EngineFlow, EnginePort, EngineStatus, Inbox, Tunnel, TunnelParams};
use crate::overlay::Clock;
use crate::sys::packet::{PacketSocket, Scope};
use control::{Command, Control};
use kernel::{Interface, Kernel, Monitor};
use taken::TakenPorts;
use tunnel::{Handle, VxlanTunnel};

/// What the names of devices begin with; the VNI follows.
const PREFIX: &str = "vxwe-";

/// Numbers of what the receiving thread waits for besides tunnels, whose numbers are smaller.
const STOP: u64 = u64::MAX;
const MONITOR: u64 = u64::MAX - 1;
const UNDELIVERED: u64 = u64::MAX - 2;

/// The receiving thread is told of this number when there is something to read or an error to
/// tell. A descriptor leaves the set when it is closed.
const fn on_input(number: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, number)
}

type Tunnels = BTreeMap<u64, Arc<VxlanTunnel>>;

/// How the engine fits into its host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VxlanConfig {
    /// The bridge that local stations are on.
    pub bridge: String,
    /// The names that the router's own port on the bridge may have; it must be isolated.
    pub router_ports: Vec<String>,
    /// The largest IP packet of the bridge, in bytes.
    pub mtu: usize,
    /// The UDP port for VXLAN.
    pub port: u16,
}

/// Why there can be no such engine.
#[derive(Debug, thiserror::Error)]
pub enum VxlanError {
    /// The kernel refuses to do what is needed for a tunnel.
    #[error("{what}: {source}{}", advice(.source))]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What it answered.
        source: io::Error,
    },
    /// There are too many data threads.
    #[error("{0}")]
    Threads(#[from] weave_core::switch::TooManyWorkers),
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => " (the kernel lacks the module vxlan)",
        Some(libc::EPERM | libc::EACCES) => " (run as root or with CAP_NET_ADMIN and CAP_NET_RAW)",
        _ => "",
    }
}

/// The engine. Dropping it removes its devices.
pub struct VxlanEngine {
    shared: Arc<Shared>,
    commands: Mutex<Sender<Command>>,
    next_number: AtomicU64,
    threads: Vec<JoinHandle<()>>,
}

/// Removes the devices that a router of this bridge has left, for one that does without them.
///
/// # Errors
/// The kernel refuses.
pub fn remove_leftovers(bridge: &str) -> Result<(), VxlanError> {
    let failed = |source| VxlanError::Kernel { what: "cannot open a routing socket", source };
    control::remove_leftovers(&mut Kernel::open().map_err(failed)?, bridge)
}

/// What its threads have in common.
struct Shared {
    config: VxlanConfig,
    switch: Arc<Switch>,
    clock: Clock,
    ids: ArcSwap<ShortIdTable>,
    tunnels: ArcSwap<Tunnels>,
    /// The number of the bridge; zero if there is none.
    bridge: AtomicU32,
    poller: Epoll,
    stop: EventFd,
    undelivered: PacketSocket,
    monitor: Monitor,
    taken: TakenPorts,
    injector: Mutex<Box<dyn Inject + Send>>,
    /// For questions of other threads.
    questions: Mutex<Kernel>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    /// Frames that no device was there for.
    undelivered: AtomicU64,
    /// Those of them that were not from a neighbour.
    strangers: AtomicU64,
}

impl VxlanEngine {
    /// Tries out all that a tunnel needs, removes what an earlier router has left, and starts. A UDP
    /// port that another program holds is waited for: see [`Self::problem`].
    /// Frames that the kernel does not deliver by itself go to `injector`.
    ///
    /// # Errors
    /// The kernel cannot do it, or not for this process.
    pub fn start(
        config: VxlanConfig,
        switch: Arc<Switch>,
        injector: Box<dyn Inject + Send>,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Result<Self, VxlanError> {
        let failed = |what| move |source| VxlanError::Kernel { what, source };
        let mut kernel = Kernel::open().map_err(failed("cannot open a routing socket"))?;
        control::remove_leftovers(&mut kernel, &config.bridge)?;
        let taken = TakenPorts::default();
        control::rehearse(&mut kernel, &config, &taken)?;
        let undelivered = PacketSocket::open(Scope::Ipv4, &filter::undelivered(&[], &[]))
            .map_err(failed("cannot open a packet socket"))?;
        let monitor = Monitor::open().map_err(failed("cannot watch the bridge"))?;
        let questions = Kernel::open().map_err(failed("cannot open a routing socket"))?;
        let poll = || -> io::Result<(Epoll, EventFd)> {
            let poller = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            poller.add(&stop, on_input(STOP))?;
            poller.add(monitor.fd(), on_input(MONITOR))?;
            poller.add(&undelivered, on_input(UNDELIVERED))?;
            Ok((poller, stop))
        };
        let (poller, stop) = poll().map_err(failed("cannot wait for frames"))?;
        let worker = Worker::new(Arc::clone(&switch))?;
        let shared = Arc::new(Shared {
            config,
            switch,
            clock: Arc::new(clock),
            ids: ArcSwap::default(),
            tunnels: ArcSwap::default(),
            bridge: AtomicU32::new(0),
            poller,
            stop,
            undelivered,
            monitor,
            taken,
            injector: Mutex::new(injector),
            questions: Mutex::new(questions),
            counters: Counters::default(),
        });
        let (commands, receiver) = channel();
        let mut engine = Self {
            shared: Arc::clone(&shared),
            commands: Mutex::new(commands),
            next_number: AtomicU64::new(0),
            threads: Vec::new(),
        };
        let mut start = |name: &str, body: Box<dyn FnOnce() + Send>| -> Result<(), VxlanError> {
            let thread = Builder::new().name(name.to_owned()).spawn(body);
            engine.threads.push(thread.map_err(failed("cannot start a thread"))?);
            Ok(())
        };
        let for_receiver = Arc::clone(&shared);
        start("fastdp", Box::new(move || receive::run(&for_receiver, worker)))?;
        start("fastdp-control", Box::new(move || Control::new(shared, kernel).run(&receiver)))?;
        Ok(engine)
    }

    /// What keeps all tunnels waiting, for the operator: another program holds the UDP port.
    pub fn problem(&self) -> Option<String> {
        self.shared.taken.problem(self.shared.config.port)
    }

    /// Frames that the kernel does not deliver by itself go there from now on.
    pub fn inject_into(&self, injector: Box<dyn Inject + Send>) {
        *self.shared.injector.lock().unwrap_or_else(PoisonError::into_inner) = injector;
    }

    fn command(&self, command: Command) {
        // The thread ends after the engine.
        let _ = self.sender().send(command);
    }

    fn sender(&self) -> MutexGuard<'_, Sender<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for VxlanEngine {
    fn name(&self) -> &'static str {
        "vxlan"
    }

    fn mtu(&self) -> usize {
        self.shared.config.mtu
    }

    fn port(&self) -> u16 {
        self.shared.config.port
    }

    fn open(&self, params: TunnelParams, inbox: Arc<dyn Inbox>) -> Arc<dyn Tunnel> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let own = self.shared.switch.own();
        let tunnel = Arc::new(VxlanTunnel::new(number, own, params, inbox));
        self.command(Command::Open(Arc::clone(&tunnel)));
        let commands = self.sender().clone();
        Arc::new(Handle { tunnel, shared: Arc::clone(&self.shared), commands })
    }

    fn handle_short_ids(&self, ids: &Arc<ShortIdTable>) {
        self.shared.ids.store(Arc::clone(ids));
        self.command(Command::ShortIds);
    }

    fn invalidate_routes(&self) {
        self.command(Command::Routes);
    }

    fn status(&self, most_flows: usize) -> EngineStatus {
        self.shared.status(most_flows)
    }
}

impl Drop for VxlanEngine {
    fn drop(&mut self) {
        self.command(Command::Stop);
        // It fails if the flag is up already.
        let _ = self.shared.stop.write(1);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the fast datapath panicked");
            }
        }
    }
}

impl Shared {
    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interface(&self, index: u32) -> Option<Interface> {
        self.kernel().interface(index).ok()
    }

    fn status(&self, most_flows: usize) -> EngineStatus {
        let tunnels = self.tunnels.load();
        let mut kernel = self.kernel();
        let ports: Vec<EnginePort> = tunnels
            .values()
            .filter_map(|tunnel| tunnel.device.load().as_ref().map(|device| device.index))
            .filter_map(|index| kernel.interface(index).ok())
            .map(|found| EnginePort { id: found.index, name: found.name, kind: "vxlan".to_owned() })
            .collect();
        let stations = kernel.stations(self.bridge.load(Ordering::Relaxed)).unwrap_or_default();
        let carried = stations.iter().filter(|station| !station.permanent).filter_map(|station| {
            Some((station, ports.iter().find(|port| port.id == station.port)?))
        });
        let flow_count = carried.clone().count();
        let flows = carried.take(most_flows).map(|(station, port)| EngineFlow {
            keys: vec![format!("dst={}", station.mac)],
            actions: vec![format!("output={}", port.name)],
            packets: 0,
            bytes: 0,
            used: Some(u64::from(station.age) * 10),
        });
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineStatus {
            flows: flows.collect(),
            flow_count,
            ports,
            counters: vec![
                ("rx_undelivered", count(&self.counters.undelivered)),
                ("rx_dropped_strangers", count(&self.counters.strangers)),
            ],
        }
    }
}
