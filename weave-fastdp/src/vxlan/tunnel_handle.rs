//! The handle by which a link uses its tunnel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use weave_core::switch::{Addresses, Envelope, Forwarded, Forwarder, Frame, WorkerId};

use super::command::Command;
use super::shared::Shared;
use super::tunnel::{MAX_PENDING, VxlanTunnel};
use crate::engine::Tunnel;

/// The handle by which a link uses its tunnel. Dropping it closes the tunnel.
pub(super) struct TunnelHandle {
    pub(super) tunnel: Arc<VxlanTunnel>,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Sender<Command>,
}

impl Forwarder for TunnelHandle {
    fn forward(&self, _: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let Self { tunnel, shared, commands } = self;
        // The device is for frames between these two peers. Another transport takes relayed ones.
        if envelope.source != tunnel.own || envelope.destination != tunnel.params.remote {
            return Forwarded::Refused;
        }
        let device = tunnel.device.load();
        let Some(device) = &*device else { return Forwarded::Refused };
        let sent = tunnel.send(device, &envelope.frame, shared.config.mtu);
        if sent == Forwarded::Accepted
            && !envelope.broadcast
            && tunnel.offload.load(Ordering::Relaxed)
            && let Some(Addresses { destination, .. }) = Addresses::of(envelope.frame.bytes)
            && tunnel.should_announce(destination, shared.clock.now().elapsed().as_secs())
            && tunnel.pending.load(Ordering::Relaxed) < MAX_PENDING
        {
            tunnel.pending.fetch_add(1, Ordering::Relaxed);
            tunnel.counters.stations_announced.fetch_add(1, Ordering::Relaxed);
            // The thread ends before the engine only when the process does.
            let _ = commands.send(Command::Station { tunnel: tunnel.number, mac: destination });
        }
        sent
    }

    fn flush(&self, _: WorkerId) {}
}

impl Tunnel for TunnelHandle {
    fn send_special(&self, frame: &[u8]) {
        if let Some(device) = &*self.tunnel.device.load() {
            self.tunnel.send(device, &Frame::plain(frame), self.shared.config.mtu);
        }
    }

    fn set_offload(&self, offload: bool) {
        if self.tunnel.offload.swap(offload, Ordering::Relaxed) != offload {
            let _ = self.commands.send(Command::Offload { tunnel: self.tunnel.number });
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let own = &self.tunnel.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let device = self.tunnel.device.load().as_ref().map(|device| device.index);
        let kernel = device.and_then(|index| self.shared.link(index)).unwrap_or_default();
        vec![
            ("tx_frames", count(&own.tx_frames)),
            ("tx_bytes", count(&own.tx_bytes)),
            ("tx_dropped", count(&own.tx_dropped)),
            ("rx_frames", count(&own.rx_frames)),
            ("rx_dropped_malformed", count(&own.rx_malformed)),
            ("stations_told", count(&own.stations_announced)),
            ("kernel_tx_frames", kernel.sent.packets),
            ("kernel_tx_bytes", kernel.sent.bytes),
            ("kernel_tx_dropped", kernel.sent.dropped),
            ("kernel_rx_frames", kernel.received.packets),
            ("kernel_rx_bytes", kernel.received.bytes),
            ("kernel_rx_dropped", kernel.received.dropped),
        ]
    }

    fn problem(&self) -> Option<String> {
        self.shared.busy_ports.problem(self.tunnel.params.port)
    }

    fn forwarder(self: Arc<Self>) -> Arc<dyn Forwarder> {
        self
    }
}

impl Drop for TunnelHandle {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close { tunnel: self.tunnel.number });
    }
}
