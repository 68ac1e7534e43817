//! The router as a process: what it is made of, how it starts, runs and stops.
//!
//! ```text
//!  flags ─▶ Settings ─▶ instance lock ─▶ state ─▶ bridge, port ─▶ router, sleeve ─▶ HTTP ─▶ ready
//! ```
//!
//! Each step can fail with one line, and leaves nothing that stops the next attempt. What a
//! router leaves when it ends, in good order or not, is a bridge with containers on it: they
//! keep talking to each other, and the next router adopts them.

mod control;
mod datapath;
mod devices;
mod exposure;
mod fastdp;
mod identity;
mod instance;
mod keeper;
mod listeners;
mod notify;
mod pace;
mod port;
mod sealing;
mod settings;
mod signals;
mod tenants;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::sync::{mpsc, oneshot, watch};
use weave_core::driver::{self, TokioClock};
use weave_core::mesh::{Config, PeerName, Uid};
use weave_core::router::Router;
use weave_core::switch::{Overlay, Switch};
use weave_ipam::allocator::Found;
use weave_sleeve::Sleeve;

pub(crate) use identity::derive_peer_name;
pub(crate) use instance::{Instance, InstanceError, log_file, pid_file, stop_running};
pub(crate) use notify::{READY_LINE, Readiness};
pub(crate) use settings::{Capture, Peers, Settings, SleeveFormat};

use crate::http;
use crate::ipam::{self, Books, Ipam};
use crate::state::State;
use crate::sys;
use control::Control;
use devices::Devices;
use exposure::Exposure;
use identity::peer_name;
use listeners::listen;
use sealing::Sealing;
use signals::Signal;

/// This program, as it tells in status pages.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the router until it is told to stop. `readiness` is told once it does its work.
pub(crate) fn run(settings: Settings, readiness: Readiness) -> Result<()> {
    let instance = Instance::acquire(&settings.db_prefix)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control threads")?;
    let sealing = Sealing::default();
    let result = runtime.block_on(serve(settings, readiness, &sealing));
    drop(runtime);
    // Nothing is left that could still send.
    sealing.stop();
    instance.leave();
    result
}

async fn serve(settings: Settings, readiness: Readiness, sealing: &Sealing) -> Result<()> {
    let mut signals = signals::Signals::listen().context("cannot listen for signals")?;
    tracing::info!("weave {VERSION}");
    let state = Arc::new(State::open(&settings.db_prefix)?);
    let name = peer_name(&settings, &state)?;
    let targets = targets(&settings.peers, &state)?;

    // Addresses first: what is taken shows before anything is changed on the host.
    let listeners = listen(&settings).await?;
    let clock = TokioClock::start();
    let data_clock = weave_sleeve::Clock::new(move || clock.now());
    let listen = SocketAddr::new(settings.host, settings.port);
    let sleeve =
        Sleeve::bind(listen, data_threads(), settings.abilities.clone(), data_clock.clone())
            .with_context(|| format!("cannot listen on UDP {listen}"))?;

    let switch = Arc::new(Switch::new(name, random()?));
    let mut devices = tokio::task::block_in_place(|| {
        Devices::set_up(&settings, name, &switch, &sleeve, &data_clock)
    })?;
    let exposure = tokio::task::block_in_place(|| Exposure::set_up(&settings, &state))?;
    tracing::info!("Our name is {name}({})", settings.nickname);
    if settings.password.is_some() {
        tracing::info!("Communication between peers via untrusted networks is encrypted.");
    } else {
        tracing::info!("Communication between peers is unencrypted.");
    }

    // In order of preference.
    let report = devices.report();
    let fastdp = report.fastdp();
    tokio::task::block_in_place(|| sealing.start(&settings, fastdp, &data_clock));
    let fast = fastdp.overlay(&data_clock).map(|fast| fast.sealed_by(sealing.of_tunnels()));
    let overlays: Vec<Box<dyn Overlay>> =
        fast.into_iter().map(|fast| Box::new(fast) as _).chain([Box::new(sleeve) as _]).collect();
    let config = config(&settings, name)?;
    let (failed, mut failures) = mpsc::channel(1);
    match tokio::task::block_in_place(|| hidden_route(&settings)) {
        Ok(None) => {}
        Ok(Some(text)) => tracing::warn!("{text}"),
        Err(error) => tracing::warn!("the routes of this host are not looked at: {error:#}"),
    }
    let books = settings.ipam.as_ref().map(|ipam| {
        let found = tokio::task::block_in_place(|| in_use(&settings));
        let config = allocator(ipam, &config);
        Ok::<_, anyhow::Error>(Books::open(config, &state, found, seed()?, clock.now(), failed)?)
    });
    let books = books.transpose()?;
    let mut router = Router::new(config, switch, overlays, seed()?, clock.now());
    if let Some(books) = &books {
        Books::join(books, &mut router, clock.now());
    }
    let driver_settings = driver::Settings {
        listen,
        round_trip: sys::tcp::round_trip,
        ..driver::Settings::default()
    };
    let handle = driver::start(router, driver_settings, clock)
        .with_context(|| format!("cannot listen on TCP {listen}"))?;

    let control = Arc::new(Control::new(
        handle.clone(),
        Arc::clone(&state),
        clock,
        devices.report(),
        sealing.clone(),
        exposure.clone(),
        books
            .zip(settings.ipam.as_ref())
            .map(|(books, settings)| Ipam::new(books, handle.clone(), settings.default_subnet)),
    ));
    connect(&control, targets).await?;

    let (stop, stopped) = watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    for (listener, routes) in listeners.routes(&control) {
        servers.spawn(http::serve(listener, routes, stopped.clone()));
    }
    devices.settle();
    let tenants = http::Control::ipam(&*control).cloned().map(|ipam| {
        let Settings { weave_bridge, proc_path, .. } = settings;
        tenants::look_after(ipam, weave_bridge.clone(), proc_path.clone())
    });
    let (release, released) = oneshot::channel();
    let mut keeper = tokio::spawn(keeper::keep(devices, exposure, released));
    readiness.ready();

    let result = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop(name) => {
                    tracing::info!("{name}: stopping");
                    break Ok(());
                }
                Signal::Dump => dump(&control).await,
                Signal::Unused(name) => tracing::info!("{name}: nothing to do"),
            },
            ended = &mut keeper => {
                break Err(match ended {
                    Ok(Err(error)) => error,
                    Ok(Ok(())) => anyhow::anyhow!("the data plane ended by itself"),
                    Err(error) => error.into(),
                });
            }
            Some(error) = failures.recv() => break Err(error.into()),
            () = handle.stopped() => break Err(anyhow::anyhow!("the router ended by itself")),
        }
    };
    readiness.stopping();
    if let Some(tenants) = tenants {
        tenants.abort();
    }
    // It is the process that ends; servers hear of it and finish their answers.
    let _ = stop.send(true);
    while servers.join_next().await.is_some() {}
    handle.shut_down().await;
    drop(release);
    if !keeper.is_finished() {
        let _ = keeper.await;
    }
    tracing::info!("stopped");
    result
}

/// Data threads of a router. More than that many processors are better left to containers: one of
/// them moves several gigabits a second.
const MAX_DATA_THREADS: usize = 4;

fn data_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(MAX_DATA_THREADS))
}

/// The peers of the command line, else those of before; these become the ones of before.
fn targets(peers: &Peers, state: &State) -> Result<Vec<String>> {
    let before = state.direct_peers()?;
    let targets = match (peers, before) {
        (Peers::Given(given), _) if !given.is_empty() => {
            tracing::info!("Launch detected - using supplied peer list: [{}]", given.join(" "));
            given.clone()
        }
        (_, Some(before)) => {
            tracing::info!(
                "Restart/resume detected - using persisted peer list: [{}]",
                before.join(" ")
            );
            before
        }
        (_, None) => {
            tracing::info!("Launch detected - using supplied peer list: []");
            Vec::new()
        }
    };
    state.set_direct_peers(&targets)?;
    Ok(targets)
}

/// A stored target that is none any more must not keep the router from starting; those of the
/// command line were checked before.
async fn connect(control: &Control, targets: Vec<String>) -> Result<()> {
    match http::Control::connect(control, targets, true).await {
        Ok(()) => Ok(()),
        Err(http::ConnectError::Targets(errors)) => {
            for error in errors {
                tracing::error!("{error}");
            }
            Ok(())
        }
        Err(http::ConnectError::Unavailable(error)) => bail!("{error}"),
    }
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

fn allocator(settings: &ipam::Settings, config: &Config) -> weave_ipam::Config {
    weave_ipam::Config {
        name: config.name,
        uid: config.uid,
        nickname: config.nickname.clone(),
        universe: settings.range,
        origin: settings.origin.clone(),
    }
}

/// A network of this host that cannot be reached from here once containers have addresses of it.
pub(crate) fn hidden_route(settings: &Settings) -> Result<Option<String>> {
    let Some(ipam) = &settings.ipam else { return Ok(None) };
    let range = ipam.range.cidr();
    let network = weave_host::Cidr::new(range.address().into(), range.prefix());
    let Some(network) = network else { return Ok(None) };
    let found = weave_host::overlapping_route(network, &settings.weave_bridge)?;
    Ok(found.map(|weave_host::HostRoute { destination, interface }| {
        format!(
            "the range for containers, {range}, overlaps the route to {destination} that this host \
             has through {interface}"
        )
    }))
}

/// The addresses of the host and of the containers on the bridge: whoever has them keeps them.
fn in_use(settings: &Settings) -> Vec<Found> {
    let bridge = &settings.weave_bridge;
    let found = |holder: &str, cidr: &weave_host::Cidr, is_container| {
        let cidr = cidr.to_string().parse().ok()?;
        Some(Found { holder: holder.to_owned(), cidr, is_container })
    };
    let host = weave_host::bridge_addresses(bridge).unwrap_or_else(|error| {
        tracing::warn!("the addresses of bridge {bridge} are not claimed: {error}");
        Vec::new()
    });
    let containers = weave_host::inhabitants(bridge, &settings.proc_path);
    let containers = containers.unwrap_or_else(|error| {
        tracing::warn!("the addresses of containers on bridge {bridge} are not claimed: {error}");
        Vec::new()
    });
    let of_containers = containers.iter().flat_map(|container| {
        container.addresses.iter().filter_map(move |cidr| found(&container.id, cidr, true))
    });
    host.iter().filter_map(|cidr| found(EXPOSED, cidr, false)).chain(of_containers).collect()
}

/// Who has the addresses of the host, as in the original.
const EXPOSED: &str = "weave:expose";

/// SIGQUIT: everything that is known, in the log.
async fn dump(control: &Control) {
    match http::Control::report(control).await {
        Ok(report) => {
            let text = crate::status::compact(&report).unwrap_or_else(|error| error.to_string());
            tracing::info!("state: {text}");
        }
        Err(error) => tracing::error!("no state to tell: {error}"),
    }
}

fn seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).context("the kernel has no random numbers")?;
    Ok(seed)
}

fn random() -> Result<u64> {
    SysRng.try_next_u64().context("the kernel has no random numbers")
}
