//! The running router, as the HTTP interface uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Mutex;
use tokio::task::block_in_place;
use weave_core::driver::{Handle, Stopped, TokioClock};
use weave_core::mesh::TargetError;
use weave_host::{Cidr, HostAddress};

use crate::VERSION;
use crate::device::PortReport;
use crate::fastdp::Encryption;
use crate::host::Exposure;
use crate::http::{self, ConnectError, ExposeError, Unavailable};
use crate::ipam::Ipam;
use crate::peer_source::PeerSource;
use crate::status::{HostStatus, Now, gather};
use crate::store::Store;
use crate::targets::{is_ipv6, unreachable};
use weave_api::Detail;
use weave_api::report::{KubernetesStatus, Report};

/// Returns what is known of the cluster.
pub(crate) type ClusterStatus = Box<dyn Fn() -> KubernetesStatus + Send + Sync>;

/// A running router and what is kept of it.
pub(super) struct Control {
    handle: Handle,
    state: Arc<dyn Store>,
    clock: TokioClock,
    port: PortReport,
    encryption: Encryption,
    exposure: Exposure,
    ipam: Option<Ipam>,
    cluster: Option<ClusterStatus>,
    /// Held from a change of the targets until they are stored, so that the order is the same.
    wishes: Mutex<Wishes>,
}

/// Who wants which peers.
#[derive(Default)]
struct Wishes {
    /// The user, by flags and HTTP.
    user: BTreeSet<String>,
    /// The sources, by their numbers.
    sources: BTreeMap<usize, BTreeSet<String>>,
}

impl Wishes {
    /// Whether the user asked for it, or no source did: then it is remembered.
    fn is_of_user(&self, peer: &String) -> bool {
        self.user.contains(peer) || !self.is_of_source(peer)
    }

    fn is_of_source(&self, peer: &String) -> bool {
        self.sources.values().any(|peers| peers.contains(peer))
    }
}

impl Control {
    pub(super) fn new(
        handle: Handle,
        state: Arc<dyn Store>,
        clock: TokioClock,
        port: PortReport,
        encryption: Encryption,
        exposure: Exposure,
        ipam: Option<Ipam>,
    ) -> Self {
        let wishes = Mutex::default();
        Self { handle, state, clock, port, encryption, exposure, ipam, cluster: None, wishes }
    }

    /// The router is the pod network of a cluster.
    pub(super) fn in_cluster(self, cluster: Option<ClusterStatus>) -> Self {
        Self { cluster, ..self }
    }

    /// Connects to the peers of a source as long as it names some. `number` tells it from others.
    pub(super) async fn follow(control: Arc<Self>, number: usize, mut source: Box<dyn PeerSource>) {
        while let Some(peers) = source.next().await {
            match control.handle_source(number, peers.into_iter().collect()).await {
                Ok(()) => {}
                Err(error) if control.state.fault().is_some() => tracing::debug!("{error}"),
                Err(_) => return,
            }
        }
    }

    async fn handle_source(
        &self,
        number: usize,
        peers: BTreeSet<String>,
    ) -> Result<(), Unavailable> {
        let mut wishes = self.wishes.lock().await;
        let before = wishes.sources.insert(number, peers.clone()).unwrap_or_default();
        let gone = before.difference(&peers).cloned();
        let unwanted = |peer: &String| !wishes.user.contains(peer) && !wishes.is_of_source(peer);
        let gone: Vec<_> = gone.filter(unwanted).collect();
        let new: Vec<_> = peers.difference(&before).cloned().collect();
        if let Err(errors) = self.handle.connect(new, false).await.map_err(stopped)? {
            for error in errors {
                tracing::error!("{error}");
            }
        }
        self.handle.forget(gone).await.map_err(stopped)?;
        self.store_targets(&wishes).await
    }

    /// Stores the targets there are now.
    async fn store_targets(&self, wishes: &Wishes) -> Result<(), Unavailable> {
        if let Some(ipam) = &self.ipam {
            ipam.targets_changed().await.map_err(stopped)?;
        }
        let targets = self
            .handle
            .with(|router, _| router.mesh().targets().map(str::to_owned).collect::<Vec<_>>())
            .await
            .map_err(stopped)?;
        let targets: Vec<_> = targets.into_iter().filter(|peer| wishes.is_of_user(peer)).collect();
        let state = Arc::clone(&self.state);
        // A transaction waits for the disk.
        tokio::task::spawn_blocking(move || state.set_direct_peers(&targets))
            .await
            .map_err(|error| Unavailable(error.to_string()))?
            .map_err(|error| Unavailable(format!("done, but not remembered: {error}")))
    }
}

impl http::Control for Control {
    async fn report(&self, detail: Detail) -> Result<Report, Unavailable> {
        let report = self.handle.report().await.map_err(stopped)?;
        let now = Now { router: self.clock.now(), wall: SystemTime::now() };
        // Both wait for the kernel, longer the more flows and keys there are.
        let (engine, ipsec) = if detail.asks_kernel() {
            let engine = || self.port.fastdp().status(detail.most_flows());
            block_in_place(|| (engine(), self.encryption.status()))
        } else {
            (None, None)
        };
        let host = HostStatus {
            version: VERSION.to_owned(),
            interface: self.port.interface(),
            firewall: self.exposure.firewall(),
            fastdp: match (self.port.fastdp_summary(), self.encryption.summary()) {
                (engine, Some(encryption)) => format!("{engine}; {encryption}"),
                (engine, None) => engine,
            },
            engine,
            ipsec,
            capture: self.port.counters(),
            sleeve: self.port.socket_counters(),
            state_fault: self.state.fault(),
        };
        Ok(gather(report, &host, now, detail))
    }

    async fn connect(&self, peers: Vec<String>, replace: bool) -> Result<(), ConnectError> {
        let unavailable = ConnectError::Unavailable;
        let (ipv6, peers): (Vec<_>, Vec<_>) = peers.into_iter().partition(|peer| is_ipv6(peer));
        let mut refused: Vec<_> = ipv6.iter().map(|peer| unreachable(peer)).collect();
        let mut wishes = self.wishes.lock().await;
        if replace {
            wishes.user.clear();
        }
        wishes.user.extend(peers.iter().cloned());
        let result = self.handle.connect(peers, replace).await;
        let result = result.map_err(|error| unavailable(stopped(error)))?;
        if replace && !wishes.sources.is_empty() {
            let others = wishes.sources.values().flatten().cloned().collect();
            // They were told of when they came.
            let _known = self.handle.connect(others, false).await;
        }
        self.store_targets(&wishes).await.map_err(unavailable)?;
        refused.extend(result.err().iter().flatten().map(TargetError::to_string));
        if refused.is_empty() { Ok(()) } else { Err(ConnectError::Targets(refused)) }
    }

    async fn forget(&self, peers: Vec<String>) -> Result<(), Unavailable> {
        let mut wishes = self.wishes.lock().await;
        wishes.user.retain(|peer| !peers.contains(peer));
        self.handle.forget(peers).await.map_err(stopped)?;
        self.store_targets(&wishes).await
    }

    async fn expose(&self, address: HostAddress) -> Result<(), ExposeError> {
        self.exposure.expose(address).await
    }

    async fn hide(&self, cidr: Cidr) -> Result<(), ExposeError> {
        self.exposure.hide(cidr).await
    }

    fn exposed(&self) -> Vec<HostAddress> {
        self.exposure.exposed()
    }

    fn ipam(&self) -> Option<&Ipam> {
        self.ipam.as_ref()
    }

    fn kubernetes(&self) -> Option<KubernetesStatus> {
        self.cluster.as_ref().map(|status| status())
    }
}

fn stopped(_: Stopped) -> Unavailable {
    Unavailable("the router is stopping".to_owned())
}
