//! What the threads of the engine share, and the engine itself.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use nix::sys::eventfd::{EfdFlags, EventFd};
use weave_core::mesh::ShortIdTable;
use weave_core::switch::{Addresses, Forwarder, Frame, Inject, Switch, Worker};
use weave_core::time::Instant;
use weave_odp::{
    Client, DatapathId, Errno, Error, PortNumber, Upcalls, Vport, VportEvents, VportKind,
};

use super::book::Book;
use super::bridge::{Bridge, Place};
use super::keeper::Keeper;
use super::misses::MissThread;
use super::plan::Planner;
use super::roads::{Road, Roads};
use super::start::{OdpConfig, StartError, prepare, vxlan_name};
use super::text;
use super::tunnel::{Cut, Lanes, OdpTunnel};
use crate::engine::{Engine, EngineStatus, Inbox, Tunnel, TunnelParams};

/// The engine over the kernel's Open vSwitch datapath. Dropping it stops its threads and takes its
/// flows out of the kernel, but for those between local ports; the datapath and its ports stay.
pub struct OdpEngine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A number that a datapath never gives to a port.
const NO_PORT: u32 = u32::MAX;

/// The time, as any thread may ask for it.
pub(super) type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

pub(super) struct Shared {
    pub(super) switch: Arc<Switch>,
    pub(super) clock: Clock,
    pub(super) datapath: DatapathId,
    pub(super) config: OdpConfig,
    /// The sockets that misses go to.
    pub(super) upcalls: Vec<u32>,
    pub(super) roads: ArcSwap<Roads>,
    /// Roads are replaced by one thread at a time.
    road_works: Mutex<()>,
    pub(super) bridge: Mutex<Bridge>,
    /// Held while flows are put and deleted.
    pub(super) book: Mutex<Book>,
    vports: Mutex<BTreeMap<PortNumber, Vport>>,
    /// The number of the port of the router itself, or [`NO_PORT`].
    own_port: AtomicU32,
    pub(super) cut: Cut,
    /// Another number whenever plans may have changed: one made before is not put down as a flow.
    pub(super) edition: AtomicU64,
    pub(super) stale: AtomicBool,
    pub(super) crowded: AtomicBool,
    /// For what the control plane asks.
    client: Mutex<Client>,
    pub(super) lanes: Lanes,
    /// Wakes the keeper.
    pub(super) alarm: EventFd,
    /// Readable once the threads are to stop.
    pub(super) stop: EventFd,
    pub(super) counters: Counters,
}

/// What the engine counts.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) misses: AtomicU64,
    pub(super) special: AtomicU64,
    pub(super) by_hand: AtomicU64,
    pub(super) executed: AtomicU64,
    pub(super) flows_put: AtomicU64,
    pub(super) flows_deleted: AtomicU64,
    pub(super) flows_refused: AtomicU64,
    pub(super) revisions: AtomicU64,
    pub(super) dropped_stranger: AtomicU64,
    pub(super) dropped_conflict: AtomicU64,
    pub(super) dropped_hairpin: AtomicU64,
    pub(super) dropped_unknown_port: AtomicU64,
    pub(super) dropped_malformed: AtomicU64,
    pub(super) dropped_error: AtomicU64,
}

pub(super) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    fn list(&self) -> Vec<(&'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            // Packets without a flow, heartbeats among them.
            ("flow_misses", read(&self.misses)),
            ("special_frames", read(&self.special)),
            // Packets that another transport carries.
            ("by_hand", read(&self.by_hand)),
            ("executed", read(&self.executed)),
            ("flows_put", read(&self.flows_put)),
            ("flows_deleted", read(&self.flows_deleted)),
            // There was no room, or the kernel did not want them.
            ("flows_refused", read(&self.flows_refused)),
            // How often flows were compared with what they should do.
            ("revisions", read(&self.revisions)),
            ("dropped_stranger", read(&self.dropped_stranger)),
            ("dropped_conflict", read(&self.dropped_conflict)),
            ("dropped_hairpin", read(&self.dropped_hairpin)),
            ("dropped_unknown_port", read(&self.dropped_unknown_port)),
            ("dropped_malformed", read(&self.dropped_malformed)),
            ("dropped_error", read(&self.dropped_error)),
        ]
    }
}

/// A panic elsewhere leaves nothing half done that matters: what is cached here can be made anew.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OdpEngine {
    /// Makes or adopts the datapath, takes out what a predecessor left in it, and starts to
    /// answer misses. Frames of other transports are made ready for the kernel by `cut`.
    ///
    /// # Errors
    /// The kernel lacks something, or somebody else uses the port.
    pub fn start(
        config: OdpConfig,
        switch: &Arc<Switch>,
        cut: Cut,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let mut client = Client::open().map_err(|error| match error {
            Error::NoSupport { .. } => StartError::NoDatapaths,
            other => other.into(),
        })?;
        let (datapath, _main) = prepare(&mut client, &config)?;
        let families = *client.families();
        let sockets = (0..config.threads.max(1))
            .map(|_| Upcalls::open(&families))
            .collect::<io::Result<Vec<_>>>()?;
        // Before the ports are listed, so that none is missed.
        let events = VportEvents::open(&families)?;
        let event = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let shared = Arc::new(Shared {
            switch: Arc::clone(switch),
            clock: Box::new(clock),
            datapath: datapath.id,
            config,
            upcalls: sockets.iter().map(Upcalls::port_id).collect(),
            roads: ArcSwap::default(),
            road_works: Mutex::new(()),
            bridge: Mutex::default(),
            book: Mutex::default(),
            vports: Mutex::default(),
            own_port: AtomicU32::new(NO_PORT),
            cut,
            edition: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            client: Mutex::new(client),
            lanes: Lanes::default(),
            alarm: event().map_err(io::Error::from)?,
            stop: event().map_err(io::Error::from)?,
            counters: Counters::default(),
        });
        shared.list_vports(&mut lock(&shared.client))?;
        // Those of a predecessor, once the misses that follow have somewhere to go: what stays on
        // this host is carried all the while.
        lock(&shared.client).delete_flows(shared.datapath)?;
        let mut engine = Self { shared, threads: Vec::new() };
        for socket in sockets {
            let worker = Worker::new(Arc::clone(switch))?;
            let thread = MissThread::new(Arc::clone(&engine.shared), socket, worker)?;
            engine.spawn("misses", move || thread.run())?;
        }
        let keeper = Keeper::new(Arc::clone(&engine.shared), events)?;
        engine.spawn("flows", move || keeper.run())?;
        Ok(engine)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    /// Makes an interface of the host a port of the datapath. Between that of
    /// [`OdpConfig::own_port`] and the others no packet goes but to or from other transports.
    ///
    /// # Errors
    /// There is no such interface, or another datapath has it.
    pub fn plug(&self, interface: &str) -> Result<(), Error> {
        let mut client = lock(&self.shared.client);
        match client.create_vport(self.shared.datapath, interface, VportKind::Netdev) {
            Ok(vport) => self.shared.vport_is_there(&mut client, vport),
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                self.shared.list_vports(&mut client)
            }
            Err(error) => Err(error),
        }
    }

    /// Another transport gives a frame of the mesh to the local bridge.
    pub fn heard(&self, frame: &[u8]) {
        if let Some(Addresses { source, .. }) = Addresses::of(frame) {
            self.shared.learn(source, Place::Router);
        }
    }

    /// Around the way by which another transport gives frames to the local bridge: the engine
    /// hears of their stations.
    pub fn listening(self: &Arc<Self>, inner: Box<dyn Inject + Send>) -> Box<dyn Inject + Send> {
        Box::new(Listening { inner, engine: Arc::clone(self) })
    }

    /// Packets without a flow so far.
    pub fn misses(&self) -> u64 {
        self.shared.counters.misses.load(Ordering::Relaxed)
    }
}

struct Listening {
    inner: Box<dyn Inject + Send>,
    engine: Arc<OdpEngine>,
}

impl Inject for Listening {
    fn inject(&mut self, frame: Frame<'_>) {
        self.engine.heard(frame.bytes);
        self.inner.inject(frame);
    }

    fn flush(&mut self) {
        self.inner.flush();
    }
}

impl Drop for OdpEngine {
    fn drop(&mut self) {
        // An event that cannot be told leaves threads that end with the process.
        if self.shared.stop.write(1).is_ok() {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
        let Shared { bridge, book, client, datapath, .. } = &*self.shared;
        let bridge = lock(bridge);
        // Nobody would take them back when the mesh changes.
        for matches in lock(book).all_but(|matches, actions| bridge.keeps(matches, actions)) {
            match lock(client).delete_flow(*datapath, &matches) {
                Err(error) if error.errno() != Some(Errno::ENOENT) => {
                    tracing::warn!("flow {matches} stays in the datapath: {error}");
                }
                _ => {}
            }
        }
    }
}

impl Engine for OdpEngine {
    fn name(&self) -> &'static str {
        "openvswitch"
    }

    fn mtu(&self) -> usize {
        self.shared.config.mtu
    }

    fn port(&self) -> u16 {
        self.shared.config.port
    }

    fn open(&self, params: TunnelParams, inbox: Arc<dyn Inbox>) -> Arc<dyn Tunnel> {
        let vport = self.shared.vxlan_port(params.port).unwrap_or_else(|error| {
            inbox.failed(format!("no port for VXLAN on UDP {}: {error}", params.port));
            PortNumber(NO_PORT)
        });
        let road = Arc::new(Road::new(params, vport, inbox));
        let tunnel = Arc::new(OdpTunnel::new(Arc::clone(&self.shared), Arc::clone(&road)));
        road.is_served_by(&(Arc::clone(&tunnel) as Arc<dyn Forwarder>));
        self.shared.change_roads(|roads| {
            roads.by_neighbour.insert(road.params.remote, road);
        });
        tunnel
    }

    fn handle_short_ids(&self, ids: &Arc<ShortIdTable>) {
        self.shared.change_roads(|roads| roads.ids = Arc::clone(ids));
    }

    fn invalidate_routes(&self) {
        self.shared.invalidate();
    }

    fn status(&self) -> EngineStatus {
        let ports = lock(&self.shared.vports).values().map(text::port).collect();
        let dump = lock(&self.shared.client).flows(self.shared.datapath);
        let flows = match dump {
            Ok(dump) => dump.flows.iter().map(text::flow).collect(),
            Err(error) => {
                tracing::debug!("no list of flows: {error}");
                Vec::new()
            }
        };
        EngineStatus { ports, flows, counters: self.shared.counters.list() }
    }
}

impl Shared {
    pub(super) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Flows may have to change.
    pub(super) fn invalidate(&self) {
        self.edition.fetch_add(1, Ordering::AcqRel);
        self.stale.store(true, Ordering::Release);
        self.wake_keeper();
    }

    pub(super) fn wake_keeper(&self) {
        // Fails only if it has been woken 2^64 times without waking.
        let _ = self.alarm.write(1);
    }

    pub(super) fn change_roads(&self, change: impl FnOnce(&mut Roads)) {
        let works = lock(&self.road_works);
        let mut roads = Roads::clone(&self.roads.load());
        change(&mut roads);
        self.roads.store(Arc::new(roads));
        drop(works);
        self.invalidate();
    }

    /// A frame of this station came from there.
    pub(super) fn learn(&self, station: weave_core::wire::MacAddress, place: Place) {
        let moved = lock(&self.bridge).learn(self.now(), station, place);
        if moved {
            tracing::debug!(%station, ?place, "station moved");
            self.invalidate();
        }
    }

    /// What all plans depend on, at this moment.
    pub(super) fn with_planner<R>(&self, work: impl FnOnce(&Planner<'_>) -> R) -> R {
        let table = self.switch.table();
        let roads = self.roads.load();
        let bridge = lock(&self.bridge);
        work(&Planner {
            switch: &self.switch,
            table: &table,
            bridge: &bridge,
            roads: &roads,
            own_port: self.own_port(),
        })
    }

    /// The port of the router itself.
    pub(super) fn own_port(&self) -> Option<PortNumber> {
        let number = self.own_port.load(Ordering::Relaxed);
        (number != NO_PORT).then_some(PortNumber(number))
    }

    pub(super) fn vport_kind(&self, number: PortNumber) -> Option<VportKind> {
        lock(&self.vports).get(&number).map(|vport| vport.kind)
    }

    /// Takes all ports that are there, and forgets those that are not.
    pub(super) fn list_vports(&self, client: &mut Client) -> Result<(), Error> {
        let vports = client.vports(self.datapath)?;
        let there: Vec<_> = vports.iter().map(|vport| vport.number).collect();
        let gone: Vec<_> =
            lock(&self.vports).values().filter(|v| !there.contains(&v.number)).cloned().collect();
        for vport in gone {
            self.vport_is_gone(&vport);
        }
        vports.into_iter().try_for_each(|vport| self.vport_is_there(client, vport))
    }

    /// A port is there; whether it was known is found out here. Telling it where its misses go
    /// makes the kernel say again that it is there.
    pub(super) fn vport_is_there(&self, client: &mut Client, vport: Vport) -> Result<(), Error> {
        let known = lock(&self.vports).get(&vport.number).is_some_and(|known| {
            known.name == vport.name && known.kind.name() == vport.kind.name()
        });
        if known || vport.datapath != self.datapath {
            return Ok(());
        }
        let (number, kind) = (vport.number, vport.kind);
        match client.set_upcalls(self.datapath, number, &self.upcalls) {
            // It is gone already.
            Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(()),
            result => result?,
        }
        let is_own = vport.name == self.config.own_port;
        lock(&self.vports).insert(number, vport);
        if is_own {
            self.own_port.store(number.0, Ordering::Relaxed);
            self.invalidate();
        } else if matches!(kind, VportKind::Netdev | VportKind::Internal) {
            lock(&self.bridge).add_port(number);
            self.invalidate();
        }
        Ok(())
    }

    pub(super) fn vport_is_gone(&self, vport: &Vport) {
        if vport.datapath != self.datapath {
            return;
        }
        lock(&self.vports).remove(&vport.number);
        if self.own_port() == Some(vport.number) {
            self.own_port.store(NO_PORT, Ordering::Relaxed);
            self.invalidate();
        }
        if lock(&self.bridge).remove_port(vport.number) {
            self.invalidate();
        }
        for road in self.roads.load().by_neighbour.values() {
            if road.vport == vport.number {
                road.inbox.failed(format!("somebody deleted port {} of the datapath", vport.name));
            }
        }
    }

    /// The port for VXLAN on this UDP port; made if it is not there.
    fn vxlan_port(&self, udp: u16) -> Result<PortNumber, Error> {
        let name = vxlan_name(udp);
        let known = lock(&self.vports).values().find(|v| v.name == name).map(|v| v.number);
        if let Some(number) = known {
            return Ok(number);
        }
        let mut client = lock(&self.client);
        let kind = VportKind::Vxlan { udp_port: Some(udp) };
        let vport = client.create_vport(self.datapath, &name, kind)?;
        let number = vport.number;
        self.vport_is_there(&mut client, vport)?;
        Ok(number)
    }

    /// Something without which the engine cannot go on broke.
    pub(super) fn fail(&self, reason: &str) {
        tracing::error!("the fast datapath ends: {reason}");
        for road in self.roads.load().by_neighbour.values() {
            road.inbox.failed(reason.to_owned());
        }
    }

    /// Waits until `source` is readable, or `limit` is over. Whether to go on at all.
    pub(super) fn wait(
        &self,
        sources: &[std::os::fd::BorrowedFd<'_>],
        limit: Option<std::time::Duration>,
    ) -> io::Result<bool> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        fds.extend(sources.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
        let timeout = limit.map_or(PollTimeout::NONE, |limit| {
            let milliseconds = i32::try_from(limit.as_millis() + 1).unwrap_or(i32::MAX);
            PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let stopping = fds.first().and_then(PollFd::any).unwrap_or(false);
        Ok(!stopping)
    }
}
