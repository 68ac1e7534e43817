//! A node that runs: its parts in the order in which they are made, and in which they end.
//!
//! What is likely to be taken comes first, HTTP addresses and the UDP port; then devices and the
//! firewall, then the mesh.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{self, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet, block_in_place};
use weave_api::Detail;
use weave_api::report::Report;
use weave_core::driver::{self, EventSink, Handle, TokioClock};
use weave_core::mesh::{Config, PeerName, Uid};
use weave_core::router::Router;
use weave_core::switch::{Overlay, Switch};
use weave_ipam::message::CHANNEL as IPAM_CHANNEL;
use weave_sleeve::{Clock, Sleeve};

use crate::addresses::Addresses;
use crate::control::Control;
use crate::device::{self, Devices, Vxlan};
use crate::error::NodeError;
use crate::events::{EventSender, Events, PeerWatch};
use crate::fastdp::Encryption;
use crate::gossip::{Gossip, GossipFailure};
use crate::host::{Exposure, allocator, in_use, warn_of_hidden_route};
use crate::host_addresses::HostAddresses;
use crate::http;
use crate::identity::peer_name;
use crate::ipam::{Ipam, IpamService};
use crate::listeners::{Servers, listen};
use crate::parts::Parts;
use crate::random::{random, seed};
use crate::reaper;
use crate::settings::{Bridge, MeshSettings, data_threads};
use crate::sys;
use crate::targets::{connect, targets};
use crate::transport::{Preference, Transport, TransportContext};

/// A router that does its work, until [`Node::shut_down`]. If it is dropped instead, it ends at
/// some time after, and IPsec keys stay in the kernel.
pub struct Node {
    name: PeerName,
    handle: Handle,
    control: Arc<Control>,
    servers: Servers,
    /// What looks after containers, addresses and lists of peers.
    tasks: JoinSet<()>,
    /// Looks after the devices until `release` is dropped.
    keeper: JoinHandle<Result<()>>,
    release: oneshot::Sender<()>,
    encryption: Encryption,
    events: EventSender,
    addresses: Addresses,
    /// Names that channels of gossip must not have any more.
    channels: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Node {
    pub(crate) async fn start(parts: Parts) -> Result<Self, NodeError> {
        if runtime::Handle::current().runtime_flavor() != RuntimeFlavor::MultiThread {
            let reason = "a node needs a tokio runtime with several threads";
            return Err(NodeError::misuse(reason));
        }
        let encryption = Encryption::default();
        let started = Self::start_with(parts, &encryption).await;
        if started.is_err() {
            encryption.stop();
        }
        Ok(started?)
    }

    async fn start_with(parts: Parts, encryption: &Encryption) -> Result<Self> {
        let Parts { mesh, mut bridge, store, .. } = parts;
        let name = peer_name(mesh.name, &bridge, &*store)?;
        let targets = targets(&parts.peers, &*store)?;

        // Another router shows here, before anything is changed on the host.
        let listeners = listen(&parts.http, &mesh.nickname).await?;
        let clock = TokioClock::start();
        let data_clock = Clock::new(move || clock.now());
        let listen = mesh.listen;
        let sleeve = Sleeve::bind(listen, data_threads(), parts.capabilities, data_clock.clone())
            .with_context(|| format!("cannot listen on UDP {listen}"))?;

        let switch = Arc::new(Switch::new(name, random()?));
        let vxlan = Vxlan { port: mesh.vxlan_port(), is_encrypted: mesh.password.is_some() };
        let mut devices = block_in_place(|| {
            Devices::set_up(&mut bridge, vxlan, name, &switch, &sleeve, &data_clock)
        })?;
        let report = devices.report();
        let control_address = parts.http.control.as_ref();
        let exposure = block_in_place(|| {
            Exposure::set_up(&bridge, listen.port(), control_address, &store, report.fastdp())
        })?;
        introduce(&mesh, name);

        block_in_place(|| encryption.start(&mesh, &bridge, report.fastdp(), &data_clock));
        let context = TransportContext {
            name,
            switch: Arc::clone(&switch),
            injector: devices.injector(),
            clock: data_clock,
        };
        let overlays = overlays(parts.overlays, &context, &devices, encryption, sleeve)?;
        let mut config = config(&mesh, name)?;
        config.short_id = report.fastdp().earlier_id();
        let events = EventSender::new();
        let service = parts.ipam.as_ref().map(|ipam| -> Result<_> {
            let found = if bridge.on_host {
                warn_of_hidden_route(ipam.range, &bridge);
                block_in_place(|| in_use(&bridge))
            } else {
                Vec::new()
            };
            let config = allocator(ipam, &config);
            let (seed, events) = (seed()?, events.clone());
            Ok(IpamService::open(config, &store, found, seed, clock.now(), events)?)
        });
        let service = service.transpose()?;
        let mut router = Router::new(config, switch, overlays, seed()?, clock.now());
        let watch = Box::new(PeerWatch::new(events.clone()));
        router.update(clock.now(), |mesh| mesh.add_channel(PeerWatch::CHANNEL, watch));
        if let Some(service) = &service {
            IpamService::join(service, &mut router, clock.now());
        }
        let handle = driver::start(router, driver_settings(listen, &events), clock)
            .with_context(|| format!("cannot listen on TCP {listen}"))?;

        let service = service.zip(parts.ipam.as_ref());
        let ipam =
            service.map(|(service, ipam)| Ipam::new(service, handle.clone(), ipam.default_subnet));
        let control = Control::new(
            handle.clone(),
            Arc::clone(&store),
            clock,
            devices.report(),
            encryption.clone(),
            exposure.clone(),
            ipam.clone(),
        );
        let control = Arc::new(control.in_cluster(parts.cluster));
        if let Err(error) = connect(control.as_ref(), &*store, targets).await {
            handle.shut_down().await;
            return Err(error);
        }
        let servers = listeners.serve(&control);
        devices.keep_made();
        let mut tasks = JoinSet::new();
        if let Some(ipam) = &ipam {
            let asked = bridge.is_there().then(|| bridge.name.clone());
            if let Some(ask) = ipam.ask_on(asked) {
                tasks.spawn(ask);
            }
            if bridge.on_host {
                let Bridge { name, proc_path, .. } = &bridge;
                tasks.spawn(reaper::reap(ipam.clone(), name.clone(), proc_path.clone()));
            }
        }
        for (number, source) in parts.sources.into_iter().enumerate() {
            tasks.spawn(Control::follow(Arc::clone(&control), number, source));
        }
        let (release, released) = oneshot::channel();
        let keeper = tokio::spawn(device::keep(devices, exposure, released));
        let channels = [IPAM_CHANNEL, PeerWatch::CHANNEL, "topology"].map(str::to_owned);
        Ok(Self {
            name,
            handle,
            control,
            servers,
            tasks,
            keeper,
            release,
            encryption: encryption.clone(),
            events,
            addresses: Addresses(ipam),
            channels: Mutex::new(channels.into()),
        })
    }

    /// Returns the name of this peer.
    pub const fn name(&self) -> PeerName {
        self.name
    }

    /// Returns the address on which the node listens for peers.
    pub const fn address(&self) -> SocketAddr {
        self.handle.address()
    }

    /// Returns what happens from now on.
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// Returns the address allocator.
    pub fn ipam(&self) -> Addresses {
        self.addresses.clone()
    }

    /// Returns what gives the host addresses on the bridge.
    pub fn host_addresses(&self) -> HostAddresses {
        HostAddresses::new(Arc::clone(&self.control))
    }

    /// Joins a conversation of all nodes that have one of this name, each of which tells one value.
    ///
    /// # Errors
    /// This node has a channel of that name, or the name is of no use.
    pub async fn gossip<T>(&self, name: &str) -> Result<Gossip<T>, GossipFailure>
    where
        T: Serialize + DeserializeOwned + Send,
    {
        let is_new = {
            let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            channels.insert(name.to_owned())
        };
        if !is_new {
            return Err(GossipFailure::InUse(name.to_owned()));
        }
        Gossip::join(self.handle.clone(), self.name, name).await
    }

    /// Connects to further peers, and remembers them.
    ///
    /// # Errors
    /// Some are no addresses; the others are used all the same. Or the node is stopping.
    pub async fn connect(
        &self,
        peers: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), NodeError> {
        let peers = peers.into_iter().map(Into::into).collect();
        match http::Control::connect(&*self.control, peers, false).await {
            Ok(()) => Ok(()),
            Err(http::ConnectError::Targets(errors)) => Err(NodeError::misuse(errors.join("; "))),
            Err(http::ConnectError::Unavailable(error)) => Err(NodeError::stopped(error)),
        }
    }

    /// Stops connecting to peers.
    ///
    /// # Errors
    /// The node is stopping, or cannot remember it.
    pub async fn forget(
        &self,
        peers: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), NodeError> {
        let peers = peers.into_iter().map(Into::into).collect();
        Ok(http::Control::forget(&*self.control, peers).await.map_err(anyhow::Error::from)?)
    }

    /// Returns everything that is known.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn report(&self) -> Result<Report, NodeError> {
        let report = http::report(&*self.control, Detail::Everything).await;
        report.map_err(NodeError::stopped)
    }

    /// Waits until the node ends by something that cannot be mended, and returns what that is. It
    /// still has to be shut down.
    pub async fn ended(&mut self) -> NodeError {
        let error = tokio::select! {
            ended = &mut self.keeper => match ended {
                Ok(Err(error)) => error,
                Err(error) => error.into(),
                Ok(Ok(())) => anyhow!("the data plane ended by itself"),
            },
            () = self.handle.stopped() => anyhow!("the router ended by itself"),
        };
        error.into()
    }

    /// Ends in good order: nobody asks any more, then no peer is there any more, then the devices
    /// go. No thread, socket or device of the node is left but a [bridge](Bridge::named), to which
    /// containers are attached, and devices or flows by which the kernel carries on what these say
    /// to others, until a node takes over or removes them.
    pub async fn shut_down(self) {
        let Self { mut tasks, servers, handle, release, keeper, control, encryption, .. } = self;
        let events = self.events;
        tasks.shutdown().await;
        servers.stop().await;
        handle.shut_down().await;
        drop(release);
        if !keeper.is_finished() {
            // What it says has no consequence any more.
            let _ = keeper.await;
        }
        // The fast datapath is gone with the devices and all who asked for its state.
        drop(control);
        encryption.stop();
        events.close();
    }
}

fn driver_settings(listen: SocketAddr, events: &EventSender) -> driver::Settings {
    let events = events.clone();
    driver::Settings {
        listen,
        round_trip: sys::tcp::round_trip,
        events: EventSink::new(move |event| events.router_event(event)),
        ..driver::Settings::default()
    }
}

fn introduce(settings: &MeshSettings, name: PeerName) {
    tracing::info!("Our name is {name}({})", settings.nickname);
    if settings.password.is_some() {
        tracing::info!("Communication between peers via untrusted networks is encrypted.");
    } else {
        tracing::info!("Communication between peers is unencrypted.");
    }
}

/// In order of preference.
fn overlays(
    own: Vec<(Preference, Box<dyn Transport>)>,
    context: &TransportContext,
    devices: &Devices,
    encryption: &Encryption,
    sleeve: Sleeve,
) -> Result<Vec<Box<dyn Overlay>>> {
    let report = devices.report();
    let fast = report.fastdp().overlay(&context.clock);
    let fast = fast.map(|fast| fast.with_encryption(encryption.of_tunnels()));
    let mut first: Vec<Box<dyn Overlay>> = Vec::new();
    let mut middle: Vec<Box<dyn Overlay>> = Vec::new();
    let mut last: Vec<Box<dyn Overlay>> = Vec::new();
    for (preference, transport) in own {
        let place = match preference {
            Preference::First => &mut first,
            Preference::BeforeSleeve => &mut middle,
            Preference::Last => &mut last,
        };
        let started = transport.start(context.clone());
        place.push(started.map_err(|reason| anyhow!("a transport does not start: {reason}"))?);
    }
    let fast = fast.into_iter().map(|fast| Box::new(fast) as _);
    let sleeve = [Box::new(sleeve) as _];
    Ok(first.into_iter().chain(fast).chain(middle).chain(sleeve).chain(last).collect())
}

fn config(settings: &MeshSettings, name: PeerName) -> Result<Config> {
    // Zero stands for peers of which only the name is known.
    let uid = Uid(random()?.max(1));
    let mut config = Config::new(name, uid);
    config.nickname.clone_from(&settings.nickname);
    config.password.clone_from(&settings.password);
    config.port = settings.listen.port();
    config.connection_limit = settings.connection_limit;
    config.discovery = settings.discovery;
    config.trusted_subnets.clone_from(&settings.trusted_subnets);
    Ok(config)
}
