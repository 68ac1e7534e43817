//! A router that runs: its parts in the order in which they are made, and in which they end.
//!
//! What is likely to be taken comes first, HTTP addresses and the UDP port; then devices and the
//! firewall, then the mesh.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, block_in_place};
use weave_core::driver::{self, Handle, TokioClock};
use weave_core::mesh::{Config, PeerName, Uid};
use weave_core::router::Router;
use weave_core::switch::{Overlay, Switch};
use weave_sleeve::{Clock, Sleeve};

use super::addresses::{allocator, in_use, warn_of_hidden_route};
use super::control::Control;
use super::devices::Devices;
use super::exposure::Exposure;
use super::identity::peer_name;
use super::listeners::{Servers, listen};
use super::random::{random, seed};
use super::sealing::Sealing;
use super::settings::{Capture, Settings, data_threads};
use super::signals::{Signal, Signals};
use super::targets::{connect, targets};
use super::{keeper, tenants};
use crate::http;
use crate::ipam::{Books, Ipam};
use crate::state::State;
use crate::status::{self, Detail};
use crate::sys;

/// A router that does its work.
pub(super) struct Running {
    handle: Handle,
    control: Arc<Control>,
    servers: Servers,
    /// Gives back what containers had that ended, if addresses are given.
    tenants: Option<JoinHandle<()>>,
    /// Looks after the devices until `release` is dropped.
    keeper: JoinHandle<Result<()>>,
    release: oneshot::Sender<()>,
}

impl Running {
    /// Makes everything. What was made before an error is removed again, as far as it would stop
    /// the next attempt. `sealing` has to outlive the router.
    pub(super) async fn start(settings: &Settings, sealing: &Sealing) -> Result<Self> {
        let state = Arc::new(State::open(&settings.db_prefix)?);
        let name = peer_name(settings, &state)?;
        let targets = targets(&settings.peers, &state)?;

        // Another router shows here, before anything is changed on the host.
        let listeners = listen(settings).await?;
        let clock = TokioClock::start();
        let data_clock = Clock::new(move || clock.now());
        let listen = SocketAddr::new(settings.host, settings.port);
        let abilities = settings.abilities.clone();
        let sleeve = Sleeve::bind(listen, data_threads(), abilities, data_clock.clone())
            .with_context(|| format!("cannot listen on UDP {listen}"))?;

        let switch = Arc::new(Switch::new(name, random()?));
        let mut devices =
            block_in_place(|| Devices::set_up(settings, name, &switch, &sleeve, &data_clock))?;
        let report = devices.report();
        let exposure = block_in_place(|| Exposure::set_up(settings, &state, report.fastdp()))?;
        introduce(settings, name);

        let overlays = overlays(settings, &devices, sealing, sleeve, &data_clock);
        let config = config(settings, name)?;
        warn_of_hidden_route(settings);
        let books = settings.ipam.as_ref().map(|ipam| -> Result<_> {
            let found = block_in_place(|| in_use(settings));
            let config = allocator(ipam, &config);
            Ok(Books::open(config, &state, found, seed()?, clock.now())?)
        });
        let books = books.transpose()?;
        let mut router = Router::new(config, switch, overlays, seed()?, clock.now());
        if let Some(books) = &books {
            Books::join(books, &mut router, clock.now());
        }
        let round_trip = sys::tcp::round_trip;
        let driver = driver::Settings { listen, round_trip, ..driver::Settings::default() };
        let handle = driver::start(router, driver, clock)
            .with_context(|| format!("cannot listen on TCP {listen}"))?;

        let books = books.zip(settings.ipam.as_ref());
        let ipam = books.map(|(books, ipam)| Ipam::new(books, handle.clone(), ipam.default_subnet));
        let control = Arc::new(Control::new(
            handle.clone(),
            Arc::clone(&state),
            clock,
            devices.report(),
            sealing.clone(),
            exposure.clone(),
            ipam.clone(),
        ));
        connect(&control, &state, targets).await?;
        let servers = listeners.serve(&control);
        devices.settle();
        if let Some(ipam) = &ipam {
            let bridge = settings.capture != Capture::None;
            ipam.ask_on(bridge.then(|| settings.weave_bridge.clone()));
        }
        let tenants = ipam.map(|ipam| {
            tenants::look_after(ipam, settings.weave_bridge.clone(), settings.proc_path.clone())
        });
        let (release, released) = oneshot::channel();
        let keeper = tokio::spawn(keeper::keep(devices, exposure, released));
        Ok(Self { handle, control, servers, tenants, keeper, release })
    }

    /// Until a signal ends it, or what cannot be mended.
    pub(super) async fn until_told(&mut self, signals: &mut Signals) -> Result<()> {
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop(name) => {
                        tracing::info!("{name}: stopping");
                        return Ok(());
                    }
                    Signal::Dump => dump(&self.control).await,
                    Signal::Unused(name) => tracing::info!("{name}: nothing to do"),
                },
                ended = &mut self.keeper => {
                    ended??;
                    bail!("the data plane ended by itself");
                }
                () = self.handle.stopped() => bail!("the router ended by itself"),
            }
        }
    }

    /// Ends in good order: nobody asks any more, then no peer is there any more, then the devices
    /// go.
    pub(super) async fn stop(self) {
        if let Some(tenants) = self.tenants {
            tenants.abort();
        }
        self.servers.stop().await;
        self.handle.shut_down().await;
        drop(self.release);
        if !self.keeper.is_finished() {
            // What it says has no consequence any more.
            let _ = self.keeper.await;
        }
    }
}

fn introduce(settings: &Settings, name: PeerName) {
    tracing::info!("Our name is {name}({})", settings.nickname);
    if settings.password.is_some() {
        tracing::info!("Communication between peers via untrusted networks is encrypted.");
    } else {
        tracing::info!("Communication between peers is unencrypted.");
    }
}

/// In order of preference.
fn overlays(
    settings: &Settings,
    devices: &Devices,
    sealing: &Sealing,
    sleeve: Sleeve,
    clock: &Clock,
) -> Vec<Box<dyn Overlay>> {
    let report = devices.report();
    let fastdp = report.fastdp();
    block_in_place(|| sealing.start(settings, fastdp, clock));
    let fast = fastdp.overlay(clock).map(|fast| fast.with_encryption(sealing.of_tunnels()));
    fast.into_iter().map(|fast| Box::new(fast) as _).chain([Box::new(sleeve) as _]).collect()
}

fn config(settings: &Settings, name: PeerName) -> Result<Config> {
    // Zero stands for peers of which only the name is known.
    let uid = Uid(random()?.max(1));
    let mut config = Config::new(name, uid);
    config.nickname.clone_from(&settings.nickname);
    config.password.clone_from(&settings.password);
    config.port = settings.port;
    config.connection_limit = settings.connection_limit;
    config.discovery = settings.discovery;
    config.trusted_subnets.clone_from(&settings.trusted_subnets);
    Ok(config)
}

/// SIGQUIT: everything that is known, in the log.
async fn dump(control: &Control) {
    match http::Control::report(control, Detail::Everything).await {
        Ok(report) => {
            let text = status::compact(&report).unwrap_or_else(|error| error.to_string());
            tracing::info!("state: {text}");
        }
        Err(error) => tracing::error!("no state to tell: {error}"),
    }
}
