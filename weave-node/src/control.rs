//! The running router, as the HTTP interface uses it.

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
use crate::status::{HostStatus, Now, gather};
use crate::store::State;
use crate::targets::{is_ipv6, unreachable};
use weave_api::Detail;
use weave_api::report::Report;

/// A running router and what is kept of it.
pub(super) struct Control {
    handle: Handle,
    state: Arc<State>,
    clock: TokioClock,
    port: PortReport,
    encryption: Encryption,
    exposure: Exposure,
    ipam: Option<Ipam>,
    /// Held from a change of the targets until they are stored, so that the order is the same.
    storing: Mutex<()>,
}

impl Control {
    pub(super) fn new(
        handle: Handle,
        state: Arc<State>,
        clock: TokioClock,
        port: PortReport,
        encryption: Encryption,
        exposure: Exposure,
        ipam: Option<Ipam>,
    ) -> Self {
        Self { handle, state, clock, port, encryption, exposure, ipam, storing: Mutex::default() }
    }

    /// Stores the targets there are now.
    async fn store_targets(&self) -> Result<(), Unavailable> {
        if let Some(ipam) = &self.ipam {
            ipam.targets_changed().await.map_err(stopped)?;
        }
        let targets = self
            .handle
            .with(|router, _| router.mesh().targets().map(str::to_owned).collect::<Vec<_>>())
            .await
            .map_err(stopped)?;
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
            ipam: self.ipam.as_ref().map(|ipam| (ipam.report(), ipam.default_subnet())),
            state_fault: self.state.fault(),
        };
        Ok(gather(report, &host, now, detail))
    }

    async fn connect(&self, peers: Vec<String>, replace: bool) -> Result<(), ConnectError> {
        let unavailable = ConnectError::Unavailable;
        let (ipv6, peers): (Vec<_>, Vec<_>) = peers.into_iter().partition(|peer| is_ipv6(peer));
        let mut refused: Vec<_> = ipv6.iter().map(|peer| unreachable(peer)).collect();
        let _storing = self.storing.lock().await;
        let result = self.handle.connect(peers, replace).await;
        let result = result.map_err(|error| unavailable(stopped(error)))?;
        self.store_targets().await.map_err(unavailable)?;
        refused.extend(result.err().iter().flatten().map(TargetError::to_string));
        if refused.is_empty() { Ok(()) } else { Err(ConnectError::Targets(refused)) }
    }

    async fn forget(&self, peers: Vec<String>) -> Result<(), Unavailable> {
        let _storing = self.storing.lock().await;
        self.handle.forget(peers).await.map_err(stopped)?;
        self.store_targets().await
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
}

fn stopped(_: Stopped) -> Unavailable {
    Unavailable("the router is stopping".to_owned())
}
