//! The kinds of ports on the bridge, and how they are opened.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use weave_core::switch::Inject;
use weave_fastdp::odp::OdpEngine;
use weave_host::{
    BridgeConfig, Origin, PortNames, join, prepare_capture_pair, prepare_datapath_pair,
    raise_datapath, remove_capture_pair,
};
use weave_sleeve::port::{Capture, Offloads, PacketPort, Port, PortCounters, TapPort};

use super::settings::Capture as How;

/// A port that is on the bridge.
pub(super) struct Opened {
    pub(super) port: Box<dyn Port>,
    /// The device that is plugged into the bridge.
    pub(super) device: String,
    /// For the report: where the router listens, and how.
    pub(super) interface: String,
}

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
        How::Auto | How::None if Path::new("/dev/net/tun").exists() => Kind::Tap,
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
    let port = TapPort::open(&tap, queues).map_err(|error| {
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
    })?;
    join(bridge, &tap)?;
    remove_capture_pair(bridge)?;
    let interface = format!("{tap} (via tap, offloads: {})", port.offloads());
    Ok(Opened { port: Box::new(port.with_counters(counters)), device: tap, interface })
}

/// The datapath captures by itself; what other transports have for local stations goes through the
/// pair to the bridge, with all offloads.
pub(super) fn open_datapath(
    bridge: &BridgeConfig,
    engine: &Arc<OdpEngine>,
    buffer: usize,
    counters: Arc<PortCounters>,
) -> Result<Opened> {
    let PortNames { bridge_end, datapath, datapath_end, .. } = PortNames::of(&bridge.name);
    prepare_datapath_pair(&bridge.name)?;
    raise_datapath(bridge)?;
    engine.plug(&datapath_end)?;
    let inner = PacketPort::open(&datapath_end, buffer)
        .with_context(|| format!("cannot inject on {datapath_end}"))?;
    let port = DatapathPort { inner: inner.with_counters(counters), engine: Arc::clone(engine) };
    let interface = format!("{datapath} (via ODP)");
    Ok(Opened { port: Box::new(port), device: bridge_end, interface })
}

/// The way from other transports to the bridge beside a datapath.
struct DatapathPort {
    inner: PacketPort,
    engine: Arc<OdpEngine>,
}

impl Port for DatapathPort {
    fn queues(&self) -> usize {
        0
    }

    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        Ok(self.engine.listening(self.inner.injector()?))
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn counters(&self) -> Arc<PortCounters> {
        self.inner.counters()
    }
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
