//! The engine over the kernel's Open vSwitch datapath.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use weave_core::mesh::ShortIdTable;
use weave_core::switch::{Addresses, Frame, Inject, Switch, Worker};
use weave_core::time::{Clock, Instant};
use weave_odp::{Client, Errno, Error, PortNumber, Upcalls, VportEvents, VportKind};

use super::bridge::BridgePort;
use super::config::{OdpConfig, OdpFailure, StartError};
use super::counters::Counters;
use super::handover::{adopt_flows, release_flows};
use super::report;
use super::revalidator::Revalidator;
use super::setup::prepare;
use super::shared::{Shared, UpcallSockets};
use super::signals::Signals;
use super::state::State;
use super::tunnel::OdpTunnel;
use super::tunnel_ports::{ENGINE, TunnelPort};
use super::upcall::UpcallThread;
use super::worker_clients::WorkerClients;
use crate::engine::{Engine, EngineStatus, Inbox, Tunnel, TunnelParams};
use crate::error::TunnelError;

/// The engine over the kernel's Open vSwitch datapath.
///
/// Dropping it stops its threads and deletes its flows, but for those between local ports and those
/// that the next router may take over. The datapath and its ports stay.
pub struct OdpEngine {
    shared: Arc<Shared>,
    /// Clients by which tunnels send frames of data threads, without a flow.
    clients: Arc<WorkerClients>,
    threads: Vec<JoinHandle<()>>,
}

/// A number that a datapath never gives to a port.
const NO_PORT: PortNumber = PortNumber(u32::MAX);

impl OdpEngine {
    /// Returns whether this kernel has datapaths.
    pub fn is_supported() -> bool {
        Client::open().is_ok()
    }

    /// Creates or adopts the datapath, deletes the flows that an earlier router left in it, and
    /// starts to answer misses. `on_failure` is called if the engine stops by itself.
    ///
    /// # Errors
    /// Fails if the kernel lacks something, or if another program uses the UDP port.
    pub fn start(
        config: OdpConfig,
        switch: &Arc<Switch>,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
        on_failure: impl FnOnce(&OdpFailure) + Send + 'static,
    ) -> Result<Self, StartError> {
        let mut client = Client::open().map_err(|error| match error {
            Error::NoSupport { .. } => StartError::NoDatapaths,
            other => other.into(),
        })?;
        let (datapath, _main) = prepare(&mut client, &config)?;
        let families = *client.families();
        let for_tunnels = Upcalls::open(&families)?;
        let sockets = (0..config.threads.max(1))
            .map(|_| Upcalls::open(&families))
            .collect::<io::Result<Vec<_>>>()?;
        // Before the ports are listed, so that none is missed.
        let events = VportEvents::open(&families)?;
        let shared = Arc::new(Shared {
            switch: Arc::clone(switch),
            clock: Clock::new(clock),
            config,
            datapath: datapath.id,
            upcalls: UpcallSockets {
                local: sockets.iter().map(Upcalls::port_id).collect(),
                tunnel: [for_tunnels.port_id()],
            },
            tunnel_ports: ArcSwap::default(),
            signals: Signals::new()?,
            counters: Counters::default(),
            state: State::default(),
            on_failure: Mutex::new(Some(Box::new(on_failure))),
        });
        shared.list_vports(&mut client)?;
        // After the ports know their sockets, since misses follow when flows are deleted. Traffic
        // between local ports continues all the while.
        adopt_flows(&shared, &mut client)?;
        let mut engine = Self { shared, clients: Arc::default(), threads: Vec::new() };
        for socket in sockets.into_iter().chain([for_tunnels]) {
            let worker = Worker::new(Arc::clone(switch))?;
            let thread = UpcallThread::new(Arc::clone(&engine.shared), socket, worker)?;
            engine.spawn("misses", move || thread.run())?;
        }
        let revalidator = Revalidator::new(Arc::clone(&engine.shared), events)?;
        engine.spawn("flows", move || revalidator.run())?;
        Ok(engine)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    /// Makes an interface of the host a port of the datapath. Packets between the interface of
    /// [`OdpConfig::own_port`] and the other ports are only those of other transports.
    ///
    /// # Errors
    /// Fails if there is no such interface, or if another datapath has it.
    pub fn attach(&self, interface: &str) -> Result<(), Error> {
        let mut client = Client::open()?;
        match client.create_vport(self.shared.datapath, interface, VportKind::Netdev) {
            Ok(vport) => self.shared.add_vport(&mut client, vport),
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                self.shared.list_vports(&mut client)
            }
            Err(error) => Err(error),
        }
    }

    /// Learns the sender of a frame of the mesh that another transport gives to the local bridge.
    pub fn learn_injected(&self, frame: &[u8]) {
        if let Some(Addresses { source, .. }) = Addresses::of(frame) {
            self.shared.learn(source, BridgePort::Router);
        }
    }

    /// Wraps the injector of another transport, so that the engine learns the senders of its
    /// frames.
    pub fn learning_injector(
        self: &Arc<Self>,
        inner: Box<dyn Inject + Send>,
    ) -> Box<dyn Inject + Send> {
        Box::new(LearningInjector { inner, engine: Arc::clone(self) })
    }

    /// Returns the number of packets without a flow so far.
    pub fn misses(&self) -> u64 {
        self.shared.counters.misses.get()
    }
}

struct LearningInjector {
    inner: Box<dyn Inject + Send>,
    engine: Arc<OdpEngine>,
}

impl Inject for LearningInjector {
    fn inject(&mut self, frame: Frame<'_>) {
        self.engine.learn_injected(frame.bytes);
        self.inner.inject(frame);
    }

    fn flush(&mut self) {
        self.inner.flush();
    }
}

impl Drop for OdpEngine {
    fn drop(&mut self) {
        // Threads that cannot be told to stop end with the process.
        if self.shared.signals.stop().is_ok() {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
        if let Err(error) = release_flows(&self.shared) {
            tracing::warn!("flows stay in the datapath: {error}");
        }
    }
}

impl Engine for OdpEngine {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn mtu(&self) -> usize {
        self.shared.config.mtu
    }

    fn port(&self) -> u16 {
        self.shared.config.port
    }

    fn open(&self, params: TunnelParams, inbox: Arc<dyn Inbox>) -> Arc<dyn Tunnel> {
        let udp_port = params.port;
        let vport = self.shared.vxlan_port(udp_port).unwrap_or_else(|error| {
            inbox.failed(TunnelError::Port { udp_port, source: Arc::new(error) });
            NO_PORT
        });
        let port = Arc::new(TunnelPort::new(params, vport, inbox));
        self.shared.change_tunnel_ports(|ports| {
            ports.by_neighbour.insert(port.params.remote, Arc::clone(&port));
        });
        let (shared, clients) = (Arc::clone(&self.shared), Arc::clone(&self.clients));
        Arc::new(OdpTunnel::new(shared, clients, port))
    }

    fn handle_short_ids(&self, ids: &Arc<ShortIdTable>) {
        self.shared.change_tunnel_ports(|ports| ports.ids = Arc::clone(ids));
    }

    fn invalidate_routes(&self) {
        self.shared.signals.invalidate();
    }

    fn status(&self, most_flows: usize) -> EngineStatus {
        let ports = self.shared.state.local(|local| local.vports().map(report::port).collect());
        let (flows, flow_count) = report::flows(&self.shared, most_flows).unwrap_or_else(|error| {
            tracing::debug!("cannot list the flows: {error}");
            (Vec::new(), 0)
        });
        EngineStatus { ports, flows, flow_count, counters: self.shared.counters.list() }
    }
}
