//! The state that all threads of the engine share.

use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, Guard};
use weave_core::switch::{ForwardingTable, Switch};
use weave_core::time::{Clock, Instant};
use weave_core::wire::MacAddress;
use weave_odp::DatapathId;

use super::bridge::BridgePort;
use super::config::{OdpConfig, OdpFailure};
use super::counters::Counters;
use super::plan::Planner;
use super::signals::Signals;
use super::state::{State, lock};
use super::tunnel_ports::TunnelPorts;
use crate::error::{SharedError, TunnelError};

/// A function that is called when the engine stops by itself.
pub(super) type OnFailure = Box<dyn FnOnce(&OdpFailure) + Send>;

/// The state that all threads of the engine share.
pub(super) struct Shared {
    // Never changes.
    pub(super) switch: Arc<Switch>,
    pub(super) clock: Clock,
    pub(super) config: OdpConfig,
    pub(super) datapath: DatapathId,
    pub(super) upcalls: UpcallSockets,
    // Replaced as a whole.
    pub(super) tunnel_ports: ArcSwap<TunnelPorts>,
    // Atomic.
    pub(super) signals: Signals,
    pub(super) counters: Counters,
    // Under locks: see `state`.
    pub(super) state: State,
    pub(super) on_failure: Mutex<Option<OnFailure>>,
}

/// The port ids of the sockets to which misses go.
pub(super) struct UpcallSockets {
    /// For local ports.
    pub(super) local: Vec<u32>,
    /// For tunnels, through which heartbeats come: local stations cannot fill this socket.
    pub(super) tunnel: [u32; 1],
}

impl Shared {
    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Returns the tunnel ports at this moment.
    pub(super) fn tunnel_ports(&self) -> Guard<Arc<TunnelPorts>> {
        self.tunnel_ports.load()
    }

    /// Changes the tunnel ports. `change` is called again if another thread changes them at the
    /// same time.
    pub(super) fn change_tunnel_ports(&self, change: impl Fn(&mut TunnelPorts)) {
        self.tunnel_ports.rcu(|ports| {
            let mut ports = TunnelPorts::clone(ports);
            change(&mut ports);
            ports
        });
        self.signals.invalidate();
    }

    /// Learns that a frame of this station came from there.
    pub(super) fn learn(&self, station: MacAddress, port: BridgePort) {
        let now = self.now();
        if self.state.local(|local| local.bridge.learn(now, station, port)) {
            tracing::debug!(%station, ?port, "station moved");
            self.signals.invalidate();
        }
    }

    /// Lends everything that plans depend on at this moment.
    pub(super) fn with_planner<R>(
        &self,
        table: &ForwardingTable,
        work: impl FnOnce(&Planner<'_>) -> R,
    ) -> R {
        let tunnel_ports = self.tunnel_ports();
        self.state.local(|local| {
            work(&Planner {
                switch: &self.switch,
                table,
                bridge: &local.bridge,
                tunnel_ports: &tunnel_ports,
                own_port: local.own_port(),
            })
        })
    }

    /// Ends all tunnels and reports the failure. Only the first failure is reported.
    pub(super) fn fail(&self, failure: OdpFailure) {
        tracing::error!("the fast datapath ends: {failure}");
        let on_failure = lock(&self.on_failure).take();
        let failure = Arc::new(failure);
        for port in self.tunnel_ports().by_neighbour.values() {
            let failure = Arc::clone(&failure) as SharedError;
            port.inbox.failed(TunnelError::Engine(failure));
        }
        if let Some(on_failure) = on_failure {
            on_failure(&failure);
        }
    }
}
