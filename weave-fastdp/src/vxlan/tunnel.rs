//! The part of a tunnel that the threads of the router share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use weave_core::mesh::PeerName;
use weave_core::metric::Counter;
use weave_core::switch::{Forwarded, Frame, virtio};
use weave_core::wire::MacAddress;

use crate::engine::{Inbox, TunnelParams};
use crate::sys::packet::PacketSocket;

/// Largest number of stations that wait to be announced to the bridge. The next frame for a station
/// beyond that asks again.
pub(super) const MAX_PENDING: usize = 64;
/// Number of recently announced stations that are remembered, a power of two.
const REMEMBERED: usize = 64;

/// The part of a tunnel that the threads of the router share.
pub(super) struct VxlanTunnel {
    /// Number that no other tunnel of this engine has.
    pub(super) number: u64,
    pub(super) own: PeerName,
    pub(super) params: TunnelParams,
    pub(super) inbox: Arc<dyn Inbox>,
    /// Device of the tunnel; `None` while there is none.
    pub(super) device: ArcSwapOption<OpenDevice>,
    /// Whether the kernel may carry unicast through the tunnel by itself.
    pub(super) offload: AtomicBool,
    /// Station that was announced last and in which second, by a part of its address.
    announced: [AtomicU64; REMEMBERED],
    /// Number of stations that wait to be announced.
    pub(super) pending: AtomicUsize,
    pub(super) counters: TunnelCounters,
}

/// A device that is up.
pub(super) struct OpenDevice {
    pub(super) index: u32,
    pub(super) socket: PacketSocket,
}

#[derive(Debug, Default)]
pub(super) struct TunnelCounters {
    pub(super) tx_frames: Counter,
    pub(super) tx_bytes: Counter,
    pub(super) tx_dropped: Counter,
    pub(super) rx_frames: Counter,
    pub(super) rx_malformed: Counter,
    pub(super) stations_announced: Counter,
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
            offload: AtomicBool::new(false),
            announced: [const { AtomicU64::new(0) }; REMEMBERED],
            pending: AtomicUsize::new(0),
            counters: TunnelCounters::default(),
        }
    }

    /// Sends a frame out of the device.
    pub(super) fn send(&self, device: &OpenDevice, frame: &Frame<'_>, mtu: usize) -> Forwarded {
        let counters = &self.counters;
        match device.socket.send(&virtio::encode(frame), frame.bytes) {
            Ok(()) => {
                counters.tx_frames.increment();
                counters.tx_bytes.add(frame.bytes.len());
                Forwarded::Accepted
            }
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Forwarded::TooBig { mtu },
            // Another program deleted the device or brought it down.
            Err(error) if is_gone(&error) => Forwarded::Refused,
            Err(_) => {
                counters.tx_dropped.increment();
                Forwarded::Dropped
            }
        }
    }

    /// Returns whether the bridge is to be told where a station is, after a frame for it was sent
    /// by the router: at most once a second, as far as recent announcements are remembered.
    pub(super) fn should_announce(&self, station: MacAddress, second: u64) -> bool {
        let [a, b, c, d, e, f] = station.0;
        if a & 1 != 0 {
            return false;
        }
        let slot = usize::from(f ^ e ^ d) % REMEMBERED;
        let entry = u64::from_be_bytes([a, b, c, d, e, f, 0, 0]) | second & 0xffff;
        let Some(last) = self.announced.get(slot) else { return false };
        last.swap(entry, Ordering::Relaxed) != entry
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENODEV | libc::ENXIO))
}
