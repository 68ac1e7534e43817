//! The bridge, the port on it, and the threads that move frames: how they are set up, watched and
//! mended.

mod attached;
mod datapath;
mod injector;
mod keeper;
mod port;

use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::mpsc;
use weave_core::mesh::PeerName;
use weave_core::metric::Reading;
use weave_core::switch::{Inject, Switch, Worker};
use weave_core::wire::MacAddress;
use weave_fastdp::odp::OdpEngine;
use weave_host::{
    BridgeClaim, BridgeConfig, Condition, Origin, automatic_mtu, condition, join, remove_bridge,
    remove_capture_pair, remove_datapath,
};
use weave_sleeve::port::{Capture, PcapWriter, Port, PortCounters, RecordedPort};
use weave_sleeve::{Clock, DataThread, DataThreadError, ReceiverCounters, Sleeve};

use crate::fastdp::Fastdp;
use crate::settings::{Bridge, Capture as How};
use attached::Attached;
use datapath::Layout;
pub(crate) use datapath::Vxlan;
pub use injector::LocalInjector;
use injector::Nowhere;
pub(crate) use keeper::keep;
use port::{Kind, kind, open_pair, open_tap};

/// The data plane of a router. Dropping it stops the threads; the bridge stays if the router was
/// ready once.
pub(super) struct Devices {
    // Threads end before the devices go that they use.
    threads: Vec<DataThread>,
    losses: mpsc::Receiver<DataThreadError>,
    /// Also keeps the channel open while no thread runs.
    tell: mpsc::Sender<DataThreadError>,
    switch: Arc<Switch>,
    sleeve: Sleeve,
    clock: Clock,
    /// The way to local stations for transports of the embedder's own.
    injector: LocalInjector,
    report: PortReport,
    plugged: Option<Plugged>,
    /// What answers for the kernel datapath, if frames come that way.
    engine: Option<Arc<OdpEngine>>,
    /// The engine came to its end by itself; the sender keeps the channel open.
    engine_ended: (mpsc::Sender<String>, mpsc::Receiver<String>),
    /// Why they do not, though they were to.
    without_engine: Option<anyhow::Error>,
    /// Writes down what passes the port.
    recorder: Option<PcapWriter>,
    /// What is removed again unless the router gets ready; none once it is.
    made: Option<Vec<Made>>,
    _claim: Option<BridgeClaim>,
}

/// A bridge with our port on it.
struct Plugged {
    bridge: BridgeConfig,
    layout: Layout,
    how: How,
    /// Of the packet socket, in bytes.
    buffer: usize,
    /// The device that is plugged in.
    device: String,
    /// Why the port has to be made anew.
    lost: Option<String>,
    attached: Attached,
}

/// A device that this process made, and that would outlive it.
enum Made {
    Bridge(String),
    /// The veth pair for capture of the bridge of this name.
    CapturePair(String),
}

impl Drop for Made {
    fn drop(&mut self) {
        let removed = match self {
            Self::Bridge(name) => remove_bridge(name),
            Self::CapturePair(bridge) => remove_capture_pair(bridge),
        };
        if let Err(error) = removed {
            tracing::warn!("what was made is not removed: {error}");
        }
    }
}

/// What the report tells of the port and of the UDP socket.
#[derive(Clone, Default)]
pub(super) struct PortReport {
    interface: Arc<Mutex<String>>,
    counters: Option<Arc<PortCounters>>,
    socket: Arc<ReceiverCounters>,
    fastdp: Fastdp,
    /// Why Open vSwitch is not what carries them.
    no_datapath: Option<String>,
}

impl PortReport {
    /// E.g. `vethwe-tap (via tap, offloads: checksum tcp udp)`.
    pub(super) fn interface(&self) -> String {
        self.lock().clone()
    }

    /// What the port counts.
    pub(super) fn counters(&self) -> Vec<Reading> {
        self.counters.iter().flat_map(|counters| counters.list()).collect()
    }

    /// What the socket counts for all links together.
    pub(super) fn socket_counters(&self) -> Vec<Reading> {
        self.socket.list().into()
    }

    /// What carries frames in the kernel.
    pub(super) const fn fastdp(&self) -> &Fastdp {
        &self.fastdp
    }

    /// What does, or why nothing, in one line.
    pub(super) fn fastdp_summary(&self) -> String {
        let without = self.no_datapath.iter().map(|why| format!(" (no Open vSwitch: {why})"));
        self.fastdp.summary() + &without.collect::<String>()
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.interface.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Devices {
    /// Sets everything up.
    pub(super) fn set_up(
        settings: &mut Bridge,
        vxlan: Vxlan,
        name: PeerName,
        switch: &Arc<Switch>,
        sleeve: &Sleeve,
        clock: &Clock,
    ) -> Result<Self> {
        let (tell, losses) = mpsc::channel(4);
        let mut devices = Self {
            threads: Vec::new(),
            losses,
            tell,
            switch: Arc::clone(switch),
            sleeve: sleeve.clone(),
            clock: clock.clone(),
            injector: LocalInjector::default(),
            report: PortReport { socket: sleeve.counters(), ..PortReport::default() },
            plugged: None,
            engine: None,
            engine_ended: mpsc::channel(1),
            without_engine: None,
            recorder: None,
            made: Some(Vec::new()),
            _claim: None,
        };
        if settings.capture == How::None {
            match settings.port.0.take() {
                Some(port) => devices.use_own(port)?,
                None => {
                    "no overlay bridge".clone_into(&mut devices.report.lock());
                    devices.start_without_port()?;
                }
            }
            return Ok(devices);
        }
        devices.recorder = settings.capture_file.as_deref().map(record_to).transpose()?;
        let name_of_bridge = &settings.name;
        devices._claim = Some(BridgeClaim::acquire(name_of_bridge)?);
        let bridge = configured(settings, name)?;
        let (how, layout) = devices.choose(settings, vxlan, &bridge)?;
        if devices.engine.is_some() || !settings.fastdp {
            // Before the port on the bridge: they would lead to other hosts beside it.
            weave_fastdp::vxlan::remove_leftovers(name_of_bridge)?;
        }
        let origin = prepare(&bridge, layout)?;
        devices.note(origin, Made::Bridge, name_of_bridge);
        let mut plugged = Plugged {
            bridge,
            layout,
            how,
            buffer: settings.capture_buffer,
            device: String::new(),
            lost: None,
            attached: Attached::new(name_of_bridge.clone(), settings.proc_path.clone()),
        };
        let port = devices.open(&mut plugged)?;
        devices.report.counters = Some(port.counters());
        let injector = port.injector().context("cannot give frames to the bridge")?;
        devices.injector.set(port.injector().context("cannot give frames to the bridge")?);
        devices.report.fastdp = match &devices.engine {
            Some(engine) => Fastdp::Datapath(Arc::clone(engine)),
            None if !settings.fastdp => Fastdp::Off,
            None => {
                let adopt = vxlan.may_adopt();
                Fastdp::start(vxlan.port, adopt, &plugged.bridge, switch, injector, clock)
            }
        };
        devices.start(port)?;
        devices.plugged = Some(plugged);
        Ok(devices)
    }

    /// Starts the engine of a datapath if there is to be one, and the kernel can. How frames are
    /// captured then, and what the host looks like.
    fn choose(
        &mut self,
        settings: &Bridge,
        vxlan: Vxlan,
        bridge: &BridgeConfig,
    ) -> Result<(How, Layout)> {
        let wanted = match settings.capture {
            How::Datapath => true,
            How::Auto => settings.fastdp,
            How::Tap | How::Pcap | How::None => false,
        };
        if wanted {
            let layout = datapath::layout_with_datapath(settings)?;
            let tell = self.engine_ended.0.clone();
            let ended = move |reason| drop(tell.try_send(reason));
            match datapath::engine(vxlan, layout, bridge, &self.switch, &self.clock, ended) {
                Ok(engine) => {
                    self.engine = Some(engine);
                    return Ok((How::Datapath, layout));
                }
                Err(error) if settings.capture == How::Auto => {
                    tracing::info!("no Open vSwitch datapath: {error:#}");
                    self.report.no_datapath = Some(format!("{error:#}"));
                }
                Err(error) => {
                    tracing::warn!("no Open vSwitch datapath: {error:#}");
                    self.report.no_datapath = Some(format!("{error:#}"));
                    self.without_engine = Some(error);
                }
            }
        }
        remove_datapath(&bridge.name)?;
        let how = if settings.capture == How::Datapath { How::Auto } else { settings.capture };
        Ok((how, Layout::Bridge))
    }

    /// The router is ready: what was made stays from now on.
    pub(super) fn keep_made(&mut self) {
        self.made.take().into_iter().flatten().for_each(std::mem::forget);
    }

    fn note(&mut self, origin: Origin, what: fn(String) -> Made, bridge: &str) {
        if let (Origin::Created, Some(made)) = (origin, &mut self.made) {
            made.push(what(bridge.to_owned()));
        }
    }

    /// For the report.
    pub(super) fn report(&self) -> PortReport {
        self.report.clone()
    }

    /// What a thread ended for. The error is one that cannot be mended.
    pub(super) async fn lost(&mut self) -> Result<()> {
        let lost = tokio::select! {
            lost = self.losses.recv() => lost,
            Some(reason) = self.engine_ended.1.recv() => {
                return Err(anyhow!(reason).context("the datapath is lost"));
            }
        };
        match (lost, &mut self.plugged) {
            (Some(DataThreadError::Port(error)), Some(plugged)) => {
                plugged.lost = Some(error.to_string());
                Ok(())
            }
            (Some(DataThreadError::Port(error) | DataThreadError::Thread(error)), _) => {
                Err(error).context("the UDP socket failed")
            }
            // There is a sender as long as there is a receiver.
            (None, _) => Ok(()),
        }
    }

    /// Mends bridge and port if somebody damaged them; says what was done.
    pub(super) fn mend(&mut self) -> Result<Option<String>> {
        let Some(mut plugged) = self.plugged.take() else { return Ok(None) };
        let mended = self.mend_plugged(&mut plugged);
        self.plugged = Some(plugged);
        mended
    }

    fn mend_plugged(&mut self, plugged: &mut Plugged) -> Result<Option<String>> {
        let bridge = plugged.bridge.name.clone();
        if plugged.lost.is_none() {
            match condition(&plugged.bridge, &plugged.device)? {
                Condition::InOrder => return plugged.attached.look(&self.switch),
                Condition::NoPort => plugged.lost = Some("no such interface".to_owned()),
                Condition::Damaged => {}
            }
        }
        datapath::make(&plugged.bridge, plugged.layout)?;
        let Some(reason) = plugged.lost.clone() else {
            join(&bridge, &plugged.device)?;
            return Ok(Some(format!("somebody changed bridge {bridge}: it is mended")));
        };
        let before = plugged.device.clone();
        // A device has one user, and losses of these threads are known.
        self.threads.clear();
        self.report.fastdp.inject_into(Box::new(Nowhere));
        self.injector.set(Box::new(Nowhere));
        (self.tell, self.losses) = mpsc::channel(4);
        let opened = self.open(plugged).and_then(|port| {
            let injector = || port.injector().context("cannot give frames to the bridge");
            self.report.fastdp.inject_into(injector()?);
            self.injector.set(injector()?);
            self.start(port)
        });
        match opened {
            Ok(()) => {
                plugged.lost = None;
                Ok(Some(format!("{before} was lost ({reason}): {} is new", plugged.device)))
            }
            Err(error) => {
                *self.report.lock() = format!("{before} was lost ({error:#})");
                // Others can go on speaking through this router.
                self.start_without_port()?;
                Err(error)
            }
        }
    }

    /// Opens the port and notes what it is.
    fn open(&mut self, plugged: &mut Plugged) -> Result<Box<dyn Port>> {
        let counters = self.report.counters.clone().unwrap_or_default();
        let bridge = &plugged.bridge.name;
        let opened = match kind(plugged.how) {
            Kind::Datapath => match &self.engine {
                Some(engine) => {
                    let threads = self.sleeve.threads();
                    let Plugged { bridge, layout, buffer, .. } = plugged;
                    datapath::open(bridge, *layout, *buffer, engine, threads, counters)?
                }
                None => return Err(anyhow!("there is no datapath")),
            },
            Kind::Tap => open_tap(bridge, self.sleeve.threads(), counters)?,
            Kind::Pair => {
                let (opened, origin) = open_pair(bridge, plugged.buffer, counters)?;
                self.note(origin, Made::CapturePair, bridge);
                opened
            }
        };
        tracing::info!("Sniffing traffic on {}", opened.interface);
        let without = self.without_engine.iter().map(|why| format!("; no datapath: {why:#}"));
        *self.report.lock() = opened.interface + &without.collect::<String>();
        plugged.device = opened.device;
        Ok(match self.recorder.clone() {
            Some(recorder) => Box::new(RecordedPort::new(opened.port, recorder)),
            None => opened.port,
        })
    }

    /// Starts the threads that use this port.
    fn start(&mut self, mut port: Box<dyn Port>) -> Result<()> {
        let interface = self.report.interface();
        let open = || format!("cannot open {interface}");
        let queues = port.queues();
        self.serve(|thread| {
            let capture =
                (thread < queues).then(|| port.capture()).transpose().with_context(open)?;
            Ok((capture, port.injector().with_context(open)?))
        })
    }

    /// The way to local stations, whichever device that is.
    pub(crate) fn injector(&self) -> LocalInjector {
        self.injector.clone()
    }

    /// Uses a port of the embedder's own in place of a bridge.
    fn use_own(&mut self, port: Box<dyn Port>) -> Result<()> {
        "a port of its own".clone_into(&mut self.report.lock());
        self.report.counters = Some(port.counters());
        self.injector.set(port.injector().context("cannot give frames to the port")?);
        self.start(port)
    }

    /// Starts the threads of a router that only passes frames on.
    fn start_without_port(&mut self) -> Result<()> {
        self.serve(|_| Ok((None, Box::new(Nowhere))))
    }

    /// Starts a thread for each socket of the sleeve, with what `sides` makes for it.
    fn serve(
        &mut self,
        mut sides: impl FnMut(usize) -> Result<(Option<Box<dyn Capture>>, Box<dyn Inject + Send>)>,
    ) -> Result<()> {
        let mut threads = Vec::new();
        for (thread, receiver) in self.sleeve.receivers().into_iter().enumerate() {
            let (capture, injector) = sides(thread)?;
            let tell = self.tell.clone();
            let start = || {
                DataThread::spawn(
                    Worker::new(Arc::clone(&self.switch))?,
                    capture,
                    receiver,
                    injector,
                    self.clock.clone(),
                    // There is room for one loss, and one is enough to start all of them anew.
                    move |lost| drop(tell.try_send(lost)),
                )
                .map_err(anyhow::Error::from)
            };
            threads.push(start().context("cannot start a data thread")?);
        }
        self.threads = threads;
        Ok(())
    }
}

fn configured(settings: &Bridge, name: PeerName) -> Result<BridgeConfig> {
    let bridge = &settings.name;
    let mtu = match settings.mtu {
        Some(mtu) => mtu,
        None => automatic_mtu(bridge)?,
    };
    Ok(BridgeConfig { name: bridge.clone(), mac: MacAddress(name.to_bytes()), mtu })
}

fn prepare(config: &BridgeConfig, layout: Layout) -> Result<Origin> {
    let BridgeConfig { name: bridge, mtu, .. } = config;
    tracing::info!("Bridge type is {}", layout.name());
    let origin = datapath::make(config, layout)?;
    match origin {
        Origin::Created => tracing::info!(mtu, "made bridge {bridge}"),
        Origin::Adopted => tracing::info!(mtu, "adopted bridge {bridge}"),
    }
    Ok(origin)
}

/// A file that only its owner may read: what containers say to each other is in it.
fn record_to(path: &Path) -> Result<PcapWriter> {
    let open = || {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        PcapWriter::new(Box::new(BufWriter::new(file)))
    };
    let writer = open().with_context(|| format!("cannot write {}", path.display()))?;
    tracing::warn!("every frame is written to {}, which grows without end", path.display());
    Ok(writer)
}
