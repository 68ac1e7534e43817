//! The handle by which a link uses its tunnel.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use weave_core::metric::Reading;
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
            tunnel.counters.stations_announced.increment();
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

    fn counters(&self) -> Vec<Reading> {
        let own = &self.tunnel.counters;
        let device = self.tunnel.device.load().as_ref().map(|device| device.index);
        let kernel = device.and_then(|index| self.shared.link(index)).unwrap_or_default();
        vec![
            Reading::counter("tx_frames", "Frames sent to the neighbour.", own.tx_frames.get()),
            Reading::counter("tx_bytes", "Bytes sent to the neighbour.", own.tx_bytes.get()),
            Reading::counter(
                "tx_dropped",
                "Frames not sent since the kernel could not take them.",
                own.tx_dropped.get(),
            ),
            Reading::counter(
                "rx_frames",
                "Frames received from the neighbour.",
                own.rx_frames.get(),
            ),
            Reading::counter(
                "rx_dropped_malformed",
                "Datagrams dropped: not made of records.",
                own.rx_malformed.get(),
            ),
            Reading::counter(
                "stations_told",
                "Stations that the bridge was told to be behind the neighbour.",
                own.stations_announced.get(),
            ),
            Reading::counter(
                "kernel_tx_frames",
                "Frames sent by the device, those of the router included.",
                kernel.sent.packets,
            ),
            Reading::counter("kernel_tx_bytes", "Bytes of these.", kernel.sent.bytes),
            Reading::counter(
                "kernel_tx_dropped",
                "Frames that the device could not send.",
                kernel.sent.dropped,
            ),
            Reading::counter(
                "kernel_rx_frames",
                "Frames received by the device.",
                kernel.received.packets,
            ),
            Reading::counter("kernel_rx_bytes", "Bytes of these.", kernel.received.bytes),
            Reading::counter(
                "kernel_rx_dropped",
                "Frames that the device could not give to the bridge.",
                kernel.received.dropped,
            ),
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
