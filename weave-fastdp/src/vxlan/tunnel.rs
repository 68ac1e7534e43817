//! One tunnel, as the threads of the router see it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use arc_swap::ArcSwapOption;
use weave_core::mesh::PeerName;
use weave_core::switch::{Addresses, Envelope, Forwarded, Forwarder, Frame, WorkerId, virtio};
use weave_core::wire::MacAddress;

use super::Shared;
use super::control::Command;
use crate::engine::{Inbox, Tunnel, TunnelParams};
use crate::sys::packet::PacketSocket;

/// Stations to be told to the bridge that may wait; more are a storm, and each is asked for again
/// with its next frame.
const MOST_WAITING: usize = 64;
/// Stations whose telling is remembered. A power of two.
const REMEMBERED: usize = 64;

/// What the threads share of a tunnel.
pub(super) struct VxlanTunnel {
    /// Tells it apart from all others of this engine.
    pub(super) number: u64,
    pub(super) own: PeerName,
    pub(super) params: TunnelParams,
    pub(super) inbox: Arc<dyn Inbox>,
    /// None while there is no device.
    pub(super) device: ArcSwapOption<OpenDevice>,
    /// Whether the kernel may carry its unicast.
    pub(super) carry: AtomicBool,
    /// The station that was told last, by a part of its address, and in which second.
    told: [AtomicU64; REMEMBERED],
    pub(super) waiting: AtomicUsize,
    pub(super) counters: TunnelCounters,
}

/// A device that is up.
pub(super) struct OpenDevice {
    pub(super) index: u32,
    pub(super) socket: PacketSocket,
}

#[derive(Debug, Default)]
pub(super) struct TunnelCounters {
    tx_frames: AtomicU64,
    tx_bytes: AtomicU64,
    tx_dropped: AtomicU64,
    pub(super) rx_frames: AtomicU64,
    pub(super) rx_malformed: AtomicU64,
    stations_told: AtomicU64,
}

impl VxlanTunnel {
    pub(super) fn new(
        number: u64,
        own: PeerName,
        params: TunnelParams,
        inbox: Arc<dyn Inbox>,
    ) -> Self {
        Self {
            number,
            own,
            params,
            inbox,
            device: ArcSwapOption::empty(),
            carry: AtomicBool::new(false),
            told: [const { AtomicU64::new(0) }; REMEMBERED],
            waiting: AtomicUsize::new(0),
            counters: TunnelCounters::default(),
        }
    }

    fn send(&self, device: &OpenDevice, frame: &Frame<'_>, mtu: usize) -> Forwarded {
        let counters = &self.counters;
        match device.socket.send(&virtio::encode(frame), frame.bytes) {
            Ok(()) => {
                counters.tx_frames.fetch_add(1, Ordering::Relaxed);
                counters.tx_bytes.fetch_add(frame.bytes.len() as u64, Ordering::Relaxed);
                Forwarded::Taken
            }
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Forwarded::TooBig { mtu },
            // Somebody took the device away or down.
            Err(error) if is_gone(&error) => Forwarded::Refused,
            Err(_) => {
                counters.tx_dropped.fetch_add(1, Ordering::Relaxed);
                Forwarded::Dropped
            }
        }
    }

    /// A frame for this station had to be sent from here. Whether the bridge is to be told where
    /// the station is: once a second at most, as far as one can remember.
    fn is_news(&self, station: MacAddress, second: u64) -> bool {
        let [a, b, c, d, e, f] = station.0;
        if a & 1 != 0 {
            return false;
        }
        let place = usize::from(f ^ e ^ d) % REMEMBERED;
        let note = u64::from_be_bytes([a, b, c, d, e, f, 0, 0]) | second & 0xffff;
        let Some(told) = self.told.get(place) else { return false };
        told.swap(note, Ordering::Relaxed) != note
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENODEV | libc::ENXIO))
}

/// What the link holds. Dropping it closes the tunnel.
pub(super) struct Handle {
    pub(super) tunnel: Arc<VxlanTunnel>,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Sender<Command>,
}

impl Forwarder for Handle {
    fn forward(&self, _: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let Self { tunnel, shared, commands } = self;
        // The device stands for these two peers alone; what is relayed goes by another transport.
        if envelope.source != tunnel.own || envelope.destination != tunnel.params.remote {
            return Forwarded::Refused;
        }
        let device = tunnel.device.load();
        let Some(device) = &*device else { return Forwarded::Refused };
        let sent = tunnel.send(device, &envelope.frame, shared.config.mtu);
        if sent == Forwarded::Taken
            && !envelope.broadcast
            && tunnel.carry.load(Ordering::Relaxed)
            && let Some(Addresses { destination, .. }) = Addresses::of(envelope.frame.bytes)
            && tunnel.is_news(destination, (shared.clock)().elapsed().as_secs())
            && tunnel.waiting.load(Ordering::Relaxed) < MOST_WAITING
        {
            tunnel.waiting.fetch_add(1, Ordering::Relaxed);
            tunnel.counters.stations_told.fetch_add(1, Ordering::Relaxed);
            // It ends before the engine only when the process does.
            let _ = commands.send(Command::Station { tunnel: tunnel.number, mac: destination });
        }
        sent
    }

    fn flush(&self, _: WorkerId) {}
}

impl Tunnel for Handle {
    fn send_special(&self, frame: &[u8]) {
        if let Some(device) = &*self.tunnel.device.load() {
            self.tunnel.send(device, &Frame::plain(frame), self.shared.config.mtu);
        }
    }

    fn carry(&self, carry: bool) {
        if self.tunnel.carry.swap(carry, Ordering::Relaxed) != carry {
            let _ = self.commands.send(Command::Carry { tunnel: self.tunnel.number });
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let own = &self.tunnel.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let device = self.tunnel.device.load().as_ref().map(|device| device.index);
        let kernel = device.and_then(|index| self.shared.interface(index)).unwrap_or_default();
        vec![
            ("tx_frames", count(&own.tx_frames)),
            ("tx_bytes", count(&own.tx_bytes)),
            ("tx_dropped", count(&own.tx_dropped)),
            ("rx_frames", count(&own.rx_frames)),
            ("rx_dropped_malformed", count(&own.rx_malformed)),
            ("stations_told", count(&own.stations_told)),
            ("kernel_tx_frames", kernel.tx.packets),
            ("kernel_tx_bytes", kernel.tx.bytes),
            ("kernel_tx_dropped", kernel.tx.dropped),
            ("kernel_rx_frames", kernel.rx.packets),
            ("kernel_rx_bytes", kernel.rx.bytes),
            ("kernel_rx_dropped", kernel.rx.dropped),
        ]
    }

    fn problem(&self) -> Option<String> {
        self.shared.taken.problem(self.tunnel.params.port)
    }

    fn forwarder(self: Arc<Self>) -> Arc<dyn Forwarder> {
        self
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close { tunnel: self.tunnel.number });
    }
}
