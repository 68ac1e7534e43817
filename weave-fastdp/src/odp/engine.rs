//! What the threads of the engine share, and the engine itself.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use nix::sys::eventfd::{EfdFlags, EventFd};
use weave_core::mesh::ShortIdTable;
use weave_core::switch::{Addresses, Forwarder, Frame, Inject, Switch, Worker};
use weave_core::time::Instant;
use weave_odp::{
    Client, DatapathId, DumpedFlow, Errno, Error, FEATURES, PortNumber, Upcalls, Vport,
    VportEvents, VportKind,
};

use super::bridge::Place;
use super::ground::Side;
use super::keeper::Keeper;
use super::mile::Mile;
use super::misses::MissThread;
use super::plan::Planner;
use super::roads::{Road, Roads};
use super::start::{OdpConfig, StartError, prepare, vxlan, vxlan_name};
use super::state::{State, lock};
use super::text;
use super::tunnel::{Cut, Lanes, OdpTunnel};
use crate::engine::{Engine, EngineFlow, EngineStatus, Inbox, Tunnel, TunnelParams};

/// The engine over the kernel's Open vSwitch datapath. Dropping it stops its threads and takes its
/// flows out of the kernel, but for those between local ports and those that the next router may
/// find useful; the datapath and its ports stay.
pub struct OdpEngine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A number that a datapath never gives to a port.
const NO_PORT: PortNumber = PortNumber(u32::MAX);

/// Whom the end of the engine is told, and why it ended.
pub(super) type Ended = Box<dyn FnOnce(String) + Send>;

/// The time, as any thread may ask for it.
pub(super) type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

pub(super) struct Shared {
    pub(super) switch: Arc<Switch>,
    pub(super) clock: Clock,
    ended: Mutex<Option<Ended>>,
    pub(super) datapath: DatapathId,
    pub(super) config: OdpConfig,
    /// The sockets that misses of local ports go to.
    local_upcalls: Vec<u32>,
    /// That of tunnels, through which heartbeats come: whatever local stations send, they are heard.
    tunnel_upcalls: [u32; 1],
    pub(super) roads: ArcSwap<Roads>,
    pub(super) state: State,
    pub(super) cut: Cut,
    /// Another number whenever plans may have changed: one made before is not put down as a flow.
    pub(super) edition: AtomicU64,
    pub(super) stale: AtomicBool,
    pub(super) crowded: AtomicBool,
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

impl OdpEngine {
    /// Makes or adopts the datapath, takes out what a predecessor left in it, and starts to
    /// answer misses. Frames of other transports are made ready for the kernel by `cut`. `ended` is
    /// called if the engine comes to its end by itself: somebody deleted the datapath, or a socket broke.
    ///
    /// # Errors
    /// The kernel lacks something, or somebody else uses the port.
    pub fn start(
        config: OdpConfig,
        switch: &Arc<Switch>,
        cut: Cut,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
        ended: impl FnOnce(String) + Send + 'static,
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
        let event = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let shared = Arc::new(Shared {
            switch: Arc::clone(switch),
            clock: Box::new(clock),
            ended: Mutex::new(Some(Box::new(ended))),
            datapath: datapath.id,
            config,
            local_upcalls: sockets.iter().map(Upcalls::port_id).collect(),
            tunnel_upcalls: [for_tunnels.port_id()],
            roads: ArcSwap::default(),
            state: State::default(),
            cut,
            edition: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            lanes: Lanes::default(),
            alarm: event().map_err(io::Error::from)?,
            stop: event().map_err(io::Error::from)?,
            counters: Counters::default(),
        });
        shared.list_vports(&mut client)?;
        // Those of a predecessor, once the misses that follow have somewhere to go: what stays on
        // this host is carried all the while.
        shared.adopt_or_clear(&mut client)?;
        let mut engine = Self { shared, threads: Vec::new() };
        for socket in sockets.into_iter().chain([for_tunnels]) {
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
        let mut client = Client::open()?;
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
        if let Err(error) = self.shared.take_back() {
            tracing::warn!("flows stay in the datapath: {error}");
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
            NO_PORT
        });
        let road = Arc::new(Road::new(params, vport, inbox));
        let tunnel = Arc::new(OdpTunnel::new(Arc::clone(&self.shared), Arc::clone(&road)));
        road.is_served_by(&(Arc::clone(&tunnel) as Arc<dyn Forwarder>));
        self.shared.change_roads(|roads| {
            roads.by_neighbour.insert(road.params.remote, Arc::clone(&road));
        });
        tunnel
    }

    fn handle_short_ids(&self, ids: &Arc<ShortIdTable>) {
        self.shared.change_roads(|roads| roads.ids = Arc::clone(ids));
    }

    fn invalidate_routes(&self) {
        self.shared.invalidate();
    }

    fn status(&self, most_flows: usize) -> EngineStatus {
        let ports = self.shared.state.ground(|ground| ground.vports().map(text::port).collect());
        let (flows, flow_count) = self.shared.flows(most_flows).unwrap_or_else(|error| {
            tracing::debug!("no list of flows: {error}");
            (Vec::new(), 0)
        });
        EngineStatus { ports, flows, flow_count, counters: self.shared.counters.list() }
    }
}

impl Shared {
    pub(super) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// At most so many flows of the datapath, and how many it has. Who wants just the number is
    /// told what the datapath counts.
    fn flows(&self, most: usize) -> Result<(Vec<EngineFlow>, usize), Error> {
        let mut client = Client::open()?;
        if most == 0
            && let Some(stats) = client.datapath(&self.config.datapath)?.stats
        {
            return Ok((Vec::new(), usize::try_from(stats.flows).unwrap_or(usize::MAX)));
        }
        let flows = client.flows(self.datapath)?.flows;
        Ok((flows.iter().take(most).map(text::flow).collect(), flows.len()))
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

    /// Whoever else changes them at this moment is waited for: `change` may be called again.
    pub(super) fn change_roads(&self, change: impl Fn(&mut Roads)) {
        self.roads.rcu(|roads| {
            let mut roads = Roads::clone(roads);
            change(&mut roads);
            roads
        });
        self.invalidate();
    }

    /// A frame of this station came from there.
    pub(super) fn learn(&self, station: weave_core::wire::MacAddress, place: Place) {
        let now = self.now();
        if self.state.ground(|ground| ground.bridge.learn(now, station, place)) {
            tracing::debug!(%station, ?place, "station moved");
            self.invalidate();
        }
    }

    /// What all plans depend on, at this moment.
    pub(super) fn with_planner<R>(&self, work: impl FnOnce(&Planner<'_>) -> R) -> R {
        let table = self.switch.table();
        let roads = self.roads.load();
        self.state.ground(|ground| {
            work(&Planner {
                switch: &self.switch,
                table: &table,
                bridge: &ground.bridge,
                roads: &roads,
                own_port: ground.own_port(),
            })
        })
    }

    /// Takes out the flows of a predecessor, but for those that may stay for a moment. Where these
    /// have stations is learned: as long as they carry all that a station sends, no miss tells.
    fn adopt_or_clear(&self, client: &mut Client) -> Result<(), Error> {
        let dump = client.flows(self.datapath)?;
        // What cannot be read can only be deleted with all the others.
        if !self.config.adopt || !dump.skipped.is_empty() {
            return client.delete_flows(self.datapath);
        }
        let (now, own) = (self.now(), self.switch.own());
        let mut book = self.state.flows();
        let mut remotes = BTreeSet::new();
        for DumpedFlow { flow, .. } in &dump.flows {
            let mile = Mile::of(&flow.matches, &flow.actions).filter(|mile| {
                let sides = self.state.ground(|ground| mile.ports().map(|port| ground.side(port)));
                sides == [Some(Side::Tunnel), Some(Side::Local)]
            });
            match mile {
                Some(mile) if book.has_room_for(&flow.matches) => {
                    remotes.insert(mile.remote());
                    book.put(flow);
                    let (station, port) = mile.station();
                    self.switch.refresh_station(now, station, own);
                    self.learn(station, Place::Port(port));
                }
                _ => client.delete_flow(self.datapath, &flow.matches)?,
            }
        }
        drop(book);
        if !remotes.is_empty() {
            tracing::info!(hosts = remotes.len(), "flows of the router before this one go on");
        }
        self.change_roads(|roads| remotes.iter().for_each(|remote| roads.end(now, *remote)));
        Ok(())
    }

    /// Takes out the flows that nobody would take back when the mesh changes.
    fn take_back(&self) -> Result<(), Error> {
        let mut client = Client::open()?;
        let book = self.state.flows();
        let roads = self.roads.load();
        let going = self.state.ground(|ground| {
            book.all_but(|matches, actions| {
                ground.bridge.keeps(matches, actions) || roads.outliving(matches, actions).is_some()
            })
        });
        for matches in going {
            match client.delete_flow(self.datapath, &matches) {
                Err(error) if error.errno() != Some(Errno::ENOENT) => {
                    tracing::warn!("flow {matches} stays in the datapath: {error}");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes all ports that are there, and forgets those that are not.
    pub(super) fn list_vports(&self, client: &mut Client) -> Result<(), Error> {
        let vports = client.vports(self.datapath)?;
        let there: Vec<_> = vports.iter().map(|vport| vport.number).collect();
        let gone: Vec<_> = self.state.ground(|ground| {
            ground.vports().filter(|vport| !there.contains(&vport.number)).cloned().collect()
        });
        for vport in gone {
            self.vport_is_gone(&vport);
        }
        vports.into_iter().try_for_each(|vport| self.vport_is_there(client, vport))
    }

    /// A port is there; whether it was known is found out here. Telling it where its misses go
    /// makes the kernel say again that it is there.
    pub(super) fn vport_is_there(&self, client: &mut Client, vport: Vport) -> Result<(), Error> {
        if vport.datapath != self.datapath || self.state.ground(|ground| ground.knows(&vport)) {
            return Ok(());
        }
        let upcalls = match vport.kind {
            VportKind::Vxlan { .. } => &self.tunnel_upcalls[..],
            _ => &self.local_upcalls,
        };
        match client.set_upcalls(self.datapath, vport.number, upcalls) {
            // It is gone already.
            Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(()),
            result => result?,
        }
        let is_own = vport.name == self.config.own_port;
        if self.state.ground(|ground| ground.add(vport, is_own)) {
            self.invalidate();
        }
        Ok(())
    }

    pub(super) fn vport_is_gone(&self, vport: &Vport) {
        if vport.datapath != self.datapath {
            return;
        }
        if self.state.ground(|ground| ground.remove(vport.number)) {
            self.invalidate();
        }
        let roads = self.roads.load();
        let with_it = || roads.by_neighbour.values().filter(|road| road.vport() == vport.number);
        let Some(first) = with_it().next() else { return };
        match self.vxlan_port(first.params.port) {
            Ok(number) => {
                let name = &vport.name;
                tracing::warn!("somebody deleted port {name} of the datapath: it is made anew");
                with_it().for_each(|road| road.use_vport(number));
                self.invalidate();
            }
            Err(error) => with_it().for_each(|road| {
                let name = &vport.name;
                road.inbox.failed(format!("somebody deleted port {name} of the datapath: {error}"));
            }),
        }
    }

    /// Has the datapath do as it did, if another program asked something else of it: with other
    /// features its misses go nowhere. Whether it is there.
    pub(super) fn look_at_datapath(&self, client: &mut Client) -> Result<bool, Error> {
        let datapath = match client.datapath(&self.config.datapath) {
            Ok(datapath) if datapath.id == self.datapath => datapath,
            // Another one of the same name.
            Ok(_) => return Ok(false),
            Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(false),
            Err(error) => return Err(error),
        };
        if datapath.features.is_some_and(|features| features != FEATURES) {
            tracing::warn!(
                "another program changed the features of the datapath: they are put back"
            );
            client.set_features(self.datapath, FEATURES)?;
        }
        Ok(true)
    }

    /// The port for VXLAN on this UDP port; made if it is not there.
    fn vxlan_port(&self, udp: u16) -> Result<PortNumber, StartError> {
        let name = vxlan_name(udp);
        if let Some(number) = self.state.ground(|ground| ground.named(&name)) {
            return Ok(number);
        }
        let mut client = Client::open()?;
        let vport = vxlan(&mut client, self.datapath, udp)?;
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
        if let Some(ended) = lock(&self.ended).take() {
            ended(reason.to_owned());
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
