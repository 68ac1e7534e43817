//! A tunnel, as the transport above sees it, and the slow path for frames of data threads.

use std::sync::Arc;

use weave_core::mesh::PeerName;
use weave_core::metric::Reading;
use weave_core::switch::{Envelope, Forwarded, Forwarder, ForwarderId, WorkerId};
use weave_core::wire::Ethernet;

use super::execute::execute;
use super::segment::{SplitError, split};
use super::shared::Shared;
use super::tunnel_ports::TunnelPort;
use super::worker_clients::{LazyClient, WorkerClients};
use crate::engine::Tunnel;

/// The tunnel to a neighbour.
pub(super) struct OdpTunnel {
    shared: Arc<Shared>,
    clients: Arc<WorkerClients>,
    port: Arc<TunnelPort>,
}

impl OdpTunnel {
    pub(super) const fn new(
        shared: Arc<Shared>,
        clients: Arc<WorkerClients>,
        port: Arc<TunnelPort>,
    ) -> Self {
        Self { shared, clients, port }
    }

    /// Sends a frame between these peers. Returns whether it was handed to the kernel.
    fn send(&self, client: &mut LazyClient<'_>, ends: (PeerName, PeerName), frame: &[u8]) -> bool {
        let Some(vni) = self.shared.tunnel_ports().vni(ends.0, ends.1) else { return false };
        let Some(client) = client.get() else { return false };
        execute(&self.shared, client, frame, &self.port.actions(vni));
        true
    }
}

impl Forwarder for OdpTunnel {
    fn forward(&self, worker: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let Envelope { source, destination, frame, .. } = envelope;
        let Some(mut client) = self.clients.of(worker) else {
            return Forwarded::Refused;
        };
        let mtu = self.shared.config.mtu;
        // The tag of a VLAN is not part of what the MTU limits.
        let header = Ethernet::new(frame.bytes).map_or(0, |frame| frame.network().offset);
        let (mut client, buffer) = client.parts();
        let mut sent = true;
        let result = split(frame, mtu + header, buffer, |frame| {
            sent = sent && self.send(&mut client, (source, destination), frame);
        });
        match result {
            Err(SplitError::TooLong) => Forwarded::TooBig { mtu },
            Err(SplitError::Malformed) => Forwarded::Dropped,
            Ok(()) if sent => {
                self.port.sent.increment();
                Forwarded::Accepted
            }
            Ok(()) => {
                self.port.refused.increment();
                Forwarded::Refused
            }
        }
    }

    fn flush(&self, _: WorkerId) {}

    fn id(&self) -> Option<ForwarderId> {
        Some(self.port.forwarder_id())
    }
}

impl Tunnel for OdpTunnel {
    fn send_special(&self, frame: &[u8]) {
        let ends = (self.shared.switch.own(), self.port.params.remote);
        let mut client = self.clients.first();
        if !self.send(&mut client.parts().0, ends, frame) {
            self.port.refused.increment();
        }
    }

    fn set_offload(&self, offload: bool) {
        if self.port.set_offload(offload) {
            self.shared.signals.invalidate();
        }
    }

    fn connection_ended(&self) {
        // Without keys nothing arrives through an encrypted tunnel.
        if self.port.is_offloaded() && !self.port.params.encrypted {
            let now = self.shared.now();
            self.shared.change_tunnel_ports(|ports| ports.retain_flows(now, self.port.remote()));
        }
    }

    fn counters(&self) -> Vec<Reading> {
        // Frames that the kernel carries by flows are counted by the flows.
        vec![
            Reading::counter(
                "tx_by_hand",
                "Frames given to the kernel one by one, without a flow.",
                self.port.sent.get(),
            ),
            Reading::counter(
                "tx_refused",
                "Frames left to other transports: the kernel could not be asked.",
                self.port.refused.get(),
            ),
        ]
    }

    fn forwarder(self: Arc<Self>) -> Arc<dyn Forwarder> {
        self
    }
}

impl Drop for OdpTunnel {
    fn drop(&mut self) {
        self.port.set_offload(false);
        let (remote, id) = (self.port.params.remote, self.port.forwarder_id());
        self.shared.change_tunnel_ports(|ports| {
            // The tunnel of another connection may have replaced it.
            if ports.by_neighbour.get(&remote).is_some_and(|port| port.forwarder_id() == id) {
                ports.by_neighbour.remove(&remote);
            }
        });
    }
}
