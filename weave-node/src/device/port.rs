//! The kinds of ports on the bridge, and how they are opened.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use weave_host::{Origin, PortNames, join, prepare_capture_pair, remove_capture_pair};
use weave_sleeve::port::{PacketPort, Port, PortCounters, TapPort};

use crate::settings::Capture as How;

/// A port that is on the bridge.
pub(super) struct Opened {
    pub(super) port: Box<dyn Port>,
    /// The device that is plugged into the bridge.
    pub(super) device: String,
    /// For the report: where the router listens, and how.
    pub(super) interface: String,
}

/// What TAP devices are made with.
pub(super) const TUN: &str = "/dev/net/tun";

/// One of the kinds of ports.
pub(super) enum Kind {
    Tap,
    Pair,
    Datapath,
}

/// What was asked for; automatically a TAP where there is one.
pub(super) fn kind(how: How) -> Kind {
    match how {
        How::Tap => Kind::Tap,
        How::Pcap => Kind::Pair,
        How::Datapath => Kind::Datapath,
        How::Auto | How::None if Path::new(TUN).exists() => Kind::Tap,
        How::Auto | How::None => {
            tracing::warn!(
                "this kernel has no TUN driver (tun): using a veth pair, which is slower"
            );
            Kind::Pair
        }
    }
}

pub(super) fn open_tap(bridge: &str, queues: usize, counters: Arc<PortCounters>) -> Result<Opened> {
    let PortNames { tap, .. } = PortNames::of(bridge);
    let port = make_tap(&tap, queues)?;
    join(bridge, &tap)?;
    remove_capture_pair(bridge)?;
    let interface = format!("{tap} (via tap, offloads: {})", port.offloads());
    Ok(Opened { port: Box::new(port.with_counters(counters)), device: tap, interface })
}

/// Makes or opens the TAP device of this name.
pub(super) fn make_tap(tap: &str, queues: usize) -> Result<TapPort> {
    TapPort::open(tap, queues).map_err(|error| {
        let advice = match error.raw_os_error() {
            Some(libc::EBUSY) => "another program uses it",
            Some(libc::EINVAL) => "another kind of interface has that name",
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                "the kernel lacks the module tun; --capture pcap does without"
            }
            Some(libc::EPERM | libc::EACCES) => "run as root or with CAP_NET_ADMIN",
            _ => "see --capture for another way",
        };
        anyhow!("cannot make the TAP device {tap}: {error} ({advice})")
    })
}

pub(super) fn open_pair(
    bridge: &str,
    buffer: usize,
    counters: Arc<PortCounters>,
) -> Result<(Opened, Origin)> {
    let origin = prepare_capture_pair(bridge)?;
    let PortNames { bridge_end, router_end, .. } = PortNames::of(bridge);
    let port = PacketPort::open(&router_end, buffer)
        .with_context(|| format!("cannot capture on {router_end}"))?;
    let interface = format!("{router_end} (via pcap)");
    let port = Box::new(port.with_counters(counters));
    Ok((Opened { port, device: bridge_end, interface }, origin))
}
