//! The engine over the kernel's VXLAN devices.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};

use arc_swap::ArcSwap;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use weave_core::mesh::{ShortId, ShortIdTable};
use weave_core::switch::{Inject, Switch, Waker, Worker};
use weave_core::time::{Clock, Instant};

use super::busy_ports::BusyPorts;
use super::command::Command;
use super::config::{VxlanConfig, VxlanEnds, VxlanError};
use super::controller::Controller;
use super::filter;
use super::kernel::{Kernel, Monitor};
use super::receive;
use super::setup::{probe_support, take_over};
use super::shared::{Counters, MONITOR, STOP, Shared, UNDELIVERED, on_input};
use super::tunnel::VxlanTunnel;
use super::tunnel_handle::TunnelHandle;
use crate::engine::{Engine, EngineStatus, Inbox, Tunnel, TunnelParams};
use crate::sys::packet::{PacketSocket, Scope};

/// The engine over the kernel's VXLAN devices.
///
/// Dropping it stops its threads. The devices by which the kernel carries unicast by itself stay
/// for the next router: see [`VxlanConfig::adopt`] and [`remove_leftovers`](super::remove_leftovers).
pub struct VxlanEngine {
    shared: Arc<Shared>,
    commands: Mutex<Sender<Command>>,
    next_number: AtomicU64,
    /// Short id of this peer in the devices that were taken over.
    earlier_id: Option<ShortId>,
    /// Empty once the engine is stopped.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl VxlanEngine {
    /// Probes everything that tunnels need, takes over the devices of an earlier router, and starts.
    /// If another program uses the UDP port, tunnels wait until it is free: see [`Self::problem`].
    /// Frames that the kernel does not deliver by itself go to `injector`.
    ///
    /// # Errors
    /// Fails if the kernel lacks something, or refuses it to this process.
    pub fn start(
        config: VxlanConfig,
        switch: Arc<Switch>,
        injector: Box<dyn Inject + Send>,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Result<Self, VxlanError> {
        let failed = |what| move |source| VxlanError::Kernel { what, source };
        let mut kernel = Kernel::open().map_err(failed("cannot open a routing socket"))?;
        let retained = take_over(&mut kernel, &config.bridge, config.adopt)?;
        let busy_ports = BusyPorts::default();
        probe_support(&mut kernel, &config, &busy_ports)?;
        let undelivered = PacketSocket::open(Scope::Ipv4, &filter::undelivered(&[], &[]))
            .map_err(failed("cannot open a packet socket"))?;
        let monitor = Monitor::open().map_err(failed("cannot watch the bridge"))?;
        let queries = Kernel::open().map_err(failed("cannot open a routing socket"))?;
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
            clock: Clock::new(clock),
            poller,
            stop,
            undelivered,
            monitor: Mutex::new(monitor),
            ids: ArcSwap::default(),
            tunnels: ArcSwap::default(),
            retained_ends: ArcSwap::from_pointee(retained.ends()),
            bridge: AtomicU32::new(0),
            counters: Counters::default(),
            on_ends: OnceLock::new(),
            busy_ports,
            injector: Mutex::new(injector),
            queries: Mutex::new(queries),
        });
        let (commands, receiver) = channel();
        let engine = Self {
            shared: Arc::clone(&shared),
            commands: Mutex::new(commands),
            next_number: AtomicU64::new(0),
            earlier_id: retained.own_id(),
            threads: Mutex::default(),
        };
        let (for_receiver, misled) = (Arc::clone(&shared), engine.sender().clone());
        let start = |name: &str, body: Box<dyn FnOnce() + Send>| -> Result<(), VxlanError> {
            let thread = Builder::new().name(name.to_owned()).spawn(body);
            engine.threads().push(thread.map_err(failed("cannot start a thread"))?);
            Ok(())
        };
        start("fastdp", Box::new(move || receive::run(&for_receiver, worker, &misled)))?;
        let controller = Controller::new(shared, kernel, retained);
        start("fastdp-control", Box::new(move || controller.run(&receiver)))?;
        Ok(engine)
    }

    /// Returns what all tunnels wait for, for the operator: another program uses the UDP port.
    pub fn problem(&self) -> Option<String> {
        self.shared.busy_ports.problem(self.shared.config.port)
    }

    /// Returns the short id of this peer in the devices that were taken over. They go on without a
    /// gap if the peer has it again.
    pub const fn earlier_id(&self) -> Option<ShortId> {
        self.earlier_id
    }

    /// Stops the threads. The devices by which the kernel carries frames by itself stay.
    pub fn stop(&self) {
        self.command(Command::Stop);
        // Fails if the event was written already.
        let _ = self.shared.stop.write(1);
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the fast datapath panicked");
            }
        }
    }

    /// Returns the addresses that VXLAN may come from, and the ports that it comes to; `None` once
    /// the engine is stopped and has left no devices.
    pub fn ends(&self) -> Option<VxlanEnds> {
        let (tunnels, retained) = (self.shared.tunnels.load(), self.shared.retained_ends.load());
        if retained.is_empty() && self.threads().is_empty() {
            return None;
        }
        let params = || tunnels.values().map(|tunnel| &tunnel.params);
        let ports = params().map(|params| params.port).chain([self.shared.config.port]);
        let neighbours = params().map(|params| params.remote_address);
        Some(VxlanEnds {
            ports: ports.chain(retained.iter().map(|(_, port)| *port)).collect(),
            neighbours: neighbours.chain(retained.iter().map(|(host, _)| *host)).collect(),
        })
    }

    /// Sets the waker that is called when [`Self::ends`] may have changed. Only the first call has
    /// an effect.
    pub fn on_ends(&self, waker: Waker) {
        let _already_set = self.shared.on_ends.set(waker);
    }

    /// Replaces the injector for frames that the kernel does not deliver by itself.
    pub fn inject_into(&self, injector: Box<dyn Inject + Send>) {
        *self.shared.injector.lock().unwrap_or_else(PoisonError::into_inner) = injector;
    }

    fn command(&self, command: Command) {
        // The thread ends after the engine.
        let _ = self.sender().send(command);
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
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
        Arc::new(TunnelHandle { tunnel, shared: Arc::clone(&self.shared), commands })
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
        self.stop();
    }
}
