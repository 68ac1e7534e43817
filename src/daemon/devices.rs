//! The bridge, the port on it, and the threads that move frames.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::mpsc;
use weave_core::mesh::PeerName;
use weave_core::switch::{Frame, Inject, Switch, Worker};
use weave_core::wire::MacAddress;
use weave_host::{
    BridgeClaim, BridgeConfig, CAPTURE_BRIDGE_END, CAPTURE_ROUTER_END, HostError, Origin, TAP_NAME,
    automatic_mtu, is_in_order, join, prepare_bridge, prepare_capture_pair, remove_capture_pair,
};
use weave_sleeve::port::{PacketPort, Port, PortCounters, TapPort};
use weave_sleeve::{Clock, DataThread, Sleeve};

use super::settings::{Capture, Settings};

/// The data plane of a router. Dropping it stops the threads; the bridge stays.
pub(super) struct Devices {
    _claim: Option<BridgeClaim>,
    _threads: Vec<DataThread>,
    report: PortReport,
    plugged: Option<Plugged>,
}

/// A bridge with our port on it.
#[derive(Clone)]
struct Plugged {
    bridge: BridgeConfig,
    port: &'static str,
}

/// How often to look whether somebody took the bridge away.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// What the report tells of the port.
#[derive(Clone)]
pub(super) struct PortReport {
    /// E.g. `vethwe-tap (via tap, offloads: checksum tcp udp)`.
    pub(super) interface: String,
    counters: Option<Arc<PortCounters>>,
}

impl PortReport {
    /// What the port counts, by name.
    pub(super) fn counters(&self) -> BTreeMap<String, u64> {
        let list = self.counters.iter().flat_map(|counters| counters.list());
        list.map(|(name, n)| (name.to_owned(), n)).collect()
    }
}

impl Devices {
    /// Sets everything up. `failures` hears of what goes wrong later.
    pub(super) fn set_up(
        settings: &Settings,
        name: PeerName,
        switch: &Arc<Switch>,
        sleeve: &Sleeve,
        clock: &Clock,
        failures: mpsc::Sender<anyhow::Error>,
    ) -> Result<Self> {
        let worker = || Worker::new(Arc::clone(switch)).context("cannot start a data thread");
        let gone = |what: &'static str| {
            let failures = failures.clone();
            move |error: io::Error| {
                // The first failure ends the process; a full channel knows of one.
                let _ = failures.try_send(anyhow!("{what} failed: {error}"));
            }
        };
        if settings.capture == Capture::None {
            let receive = DataThread::receiving(
                worker()?,
                sleeve.receiver(),
                Box::new(Nowhere),
                clock.clone(),
                gone("the UDP socket"),
            )
            .context("cannot start a data thread")?;
            let interface = "no overlay bridge".to_owned();
            let report = PortReport { interface, counters: None };
            let _threads = vec![receive];
            return Ok(Self { _claim: None, _threads, report, plugged: None });
        }

        let claim = BridgeClaim::acquire(&settings.weave_bridge)?;
        let bridge = prepare(settings, name)?;
        let (mut port, device, kind) = open_port(settings)?;
        let interface = format!("{device} (via {kind})");
        tracing::info!("Sniffing traffic on {interface}");
        let counters = Some(port.counters());
        let open = || format!("cannot open {interface}");
        let receive = DataThread::receiving(
            worker()?,
            sleeve.receiver(),
            port.injector().with_context(open)?,
            clock.clone(),
            gone("the UDP socket"),
        );
        let capture = DataThread::capturing(
            worker()?,
            port.capture().with_context(open)?,
            port.injector().with_context(open)?,
            clock.clone(),
            gone("the capture device"),
        );
        let threads = [receive, capture].into_iter().collect::<io::Result<_>>();
        let _threads = threads.context("cannot start a data thread")?;
        // What hears on a veth pair is not what is plugged in.
        let port = if device == CAPTURE_ROUTER_END { CAPTURE_BRIDGE_END } else { device };
        let plugged = Some(Plugged { bridge, port });
        let report = PortReport { interface, counters };
        Ok(Self { _claim: Some(claim), _threads, report, plugged })
    }

    /// Mends bridge and port whenever somebody damaged them; never ends.
    pub(super) fn watch(&self) -> impl Future<Output = ()> + Send + use<> {
        let plugged = self.plugged.clone();
        async move {
            let Some(plugged) = plugged else { return };
            let mut interval = tokio::time::interval(WATCH_INTERVAL);
            loop {
                interval.tick().await;
                let plugged = plugged.clone();
                match tokio::task::spawn_blocking(move || plugged.mend()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!("the bridge is damaged: {error}"),
                    Err(error) => tracing::error!(%error, "cannot look after the bridge"),
                }
            }
        }
    }

    /// For the report.
    pub(super) fn report(&self) -> PortReport {
        self.report.clone()
    }
}

impl Plugged {
    fn mend(&self) -> Result<(), HostError> {
        if is_in_order(&self.bridge, self.port)? {
            return Ok(());
        }
        prepare_bridge(&self.bridge)?;
        join(&self.bridge.name, self.port)?;
        tracing::warn!("somebody changed bridge {}: it is mended", self.bridge.name);
        Ok(())
    }
}

fn prepare(settings: &Settings, name: PeerName) -> Result<BridgeConfig> {
    let bridge = &settings.weave_bridge;
    let mtu = match settings.mtu {
        Some(mtu) => mtu,
        None => automatic_mtu(bridge)?,
    };
    let mac = MacAddress(name.to_bytes());
    let config = BridgeConfig { name: bridge.clone(), mac, mtu };
    let origin = prepare_bridge(&config)?;
    tracing::info!("Bridge type is bridge");
    match origin {
        Origin::Created => tracing::info!(mtu, "made bridge {bridge}"),
        Origin::Adopted => tracing::info!(mtu, "adopted bridge {bridge}"),
    }
    Ok(config)
}

/// A port, the name of its device, and what kind it is.
type OpenPort = (Box<dyn Port>, &'static str, String);

/// The port that was asked for; automatically a TAP where there is one.
fn open_port(settings: &Settings) -> Result<OpenPort> {
    match settings.capture {
        Capture::Tap => open_tap(settings),
        Capture::Pcap => open_pair(settings),
        Capture::Auto | Capture::None if Path::new("/dev/net/tun").exists() => open_tap(settings),
        Capture::Auto | Capture::None => {
            tracing::warn!(
                "this kernel has no TUN driver (tun): using a veth pair, which is slower"
            );
            open_pair(settings)
        }
    }
}

fn open_tap(settings: &Settings) -> Result<OpenPort> {
    let port = TapPort::open(TAP_NAME).map_err(|error| {
        let advice = match error.raw_os_error() {
            Some(libc::EBUSY) => "another router uses it",
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                "the kernel lacks the module tun; --capture pcap does without"
            }
            Some(libc::EPERM | libc::EACCES) => "run as root or with CAP_NET_ADMIN",
            _ => "see --capture for another way",
        };
        anyhow!("cannot make the TAP device {TAP_NAME}: {error} ({advice})")
    })?;
    join(&settings.weave_bridge, TAP_NAME)?;
    remove_capture_pair()?;
    let kind = format!("tap, offloads: {}", port.offloads());
    Ok((Box::new(port), TAP_NAME, kind))
}

fn open_pair(settings: &Settings) -> Result<OpenPort> {
    prepare_capture_pair(&settings.weave_bridge)?;
    let port = PacketPort::open(CAPTURE_ROUTER_END, settings.capture_buffer)
        .with_context(|| format!("cannot capture on {CAPTURE_ROUTER_END}"))?;
    Ok((Box::new(port), CAPTURE_ROUTER_END, "pcap".to_owned()))
}

/// For a router without a bridge: frames for local stations end here.
struct Nowhere;

impl Inject for Nowhere {
    fn inject(&mut self, _: Frame<'_>) {}
}
