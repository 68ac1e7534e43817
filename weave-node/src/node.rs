//! A router that runs: its parts in the order in which they are made, and in which they end.
//!
//! What is likely to be taken comes first, HTTP addresses and the UDP port; then devices and the
//! firewall, then the mesh.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, block_in_place};
use weave_core::driver::{self, Handle, TokioClock};
use weave_core::mesh::{Config, PeerName, Uid};
use weave_core::router::Router;
use weave_core::switch::{Overlay, Switch};
use weave_sleeve::{Clock, Sleeve};

use crate::control::Control;
use crate::device::{self, Devices};
use crate::fastdp::Encryption;
use crate::host::{Exposure, allocator, in_use, warn_of_hidden_route};
use crate::http;
use crate::identity::peer_name;
use crate::ipam::{Books, Ipam};
use crate::listeners::{Servers, listen};
use crate::random::{random, seed};
use crate::reaper;
use crate::settings::{Capture, Settings, data_threads};
use crate::store::State;
use crate::sys;
use crate::targets::{connect, targets};
use weave_api::Detail;
use weave_api::report::Report;

/// A router that does its work.
pub struct Node {
    handle: Handle,
    control: Arc<Control>,
    servers: Servers,
    /// Gives back what containers had that ended, if addresses are given.
    reaper: Option<JoinHandle<()>>,
    /// Looks after the devices until `release` is dropped.
    keeper: JoinHandle<Result<()>>,
    release: oneshot::Sender<()>,
    encryption: Encryption,
}

impl Node {
    /// Makes everything. What was made before an error is removed again, as far as it would stop
    /// the next attempt.
    ///
    /// # Errors
    /// Something that the settings ask for cannot be had.
    pub async fn start(settings: &Settings) -> Result<Self> {
        let encryption = Encryption::default();
        let started = Self::start_with(settings, &encryption).await;
        if started.is_err() {
            encryption.stop();
        }
        started
    }

    async fn start_with(settings: &Settings, encryption: &Encryption) -> Result<Self> {
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

        let overlays = overlays(settings, &devices, encryption, sleeve, &data_clock);
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
            encryption.clone(),
            exposure.clone(),
            ipam.clone(),
        ));
        connect(control.as_ref(), &state, targets).await?;
        let servers = listeners.serve(&control);
        devices.settle();
        if let Some(ipam) = &ipam {
            let bridge = settings.capture != Capture::None;
            ipam.ask_on(bridge.then(|| settings.weave_bridge.clone()));
        }
        let reaper = ipam.map(|ipam| {
            reaper::reap(ipam, settings.weave_bridge.clone(), settings.proc_path.clone())
        });
        let (release, released) = oneshot::channel();
        let keeper = tokio::spawn(device::keep(devices, exposure, released));
        let encryption = encryption.clone();
        Ok(Self { handle, control, servers, reaper, keeper, release, encryption })
    }

    /// Waits until something ends it that cannot be mended.
    pub async fn ended(&mut self) -> anyhow::Error {
        tokio::select! {
            ended = &mut self.keeper => match ended {
                Ok(Err(error)) => error,
                Err(error) => error.into(),
                Ok(Ok(())) => anyhow!("the data plane ended by itself"),
            },
            () = self.handle.stopped() => anyhow!("the router ended by itself"),
        }
    }

    /// Everything that is known.
    ///
    /// # Errors
    /// The router is stopping.
    pub async fn report(&self) -> Result<Report> {
        Ok(http::Control::report(&*self.control, Detail::Everything).await?)
    }

    /// Ends in good order: nobody asks any more, then no peer is there any more, then the devices
    /// go.
    pub async fn shut_down(self) {
        if let Some(reaper) = self.reaper {
            reaper.abort();
        }
        self.servers.stop().await;
        self.handle.shut_down().await;
        drop(self.release);
        if !self.keeper.is_finished() {
            // What it says has no consequence any more.
            let _ = self.keeper.await;
        }
        // The fast datapath is gone with the devices and all who asked for its state.
        drop(self.control);
        self.encryption.stop();
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
    encryption: &Encryption,
    sleeve: Sleeve,
    clock: &Clock,
) -> Vec<Box<dyn Overlay>> {
    let report = devices.report();
    let fastdp = report.fastdp();
    block_in_place(|| encryption.start(settings, fastdp, clock));
    let fast = fastdp.overlay(clock).map(|fast| fast.with_encryption(encryption.of_tunnels()));
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
