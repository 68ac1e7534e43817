//! The kernel's Open vSwitch datapath of this router, and what the host looks like with it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use weave_core::switch::{Inject, Switch};
use weave_fastdp::odp::{OdpConfig, OdpEngine};
use weave_host::{
    BridgeConfig, HostError, Origin, PortNames, detect_layout, prepare_bridge,
    prepare_bridge_of_datapath, prepare_datapath_pair, prepare_fastdp, raise_datapath, raise_port,
};
use weave_sleeve::Clock;
use weave_sleeve::port::{Capture, Offloads, PacketPort, Port, PortCounters};

use super::port::{Opened, TUN, make_tap};
use crate::settings::{Bridge, data_threads};

/// What the host looks like while the router runs (spec router.md, section 6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Bridge,
    /// A bridge and a datapath.
    BridgedFastdp,
    /// A datapath alone, which is called as the bridge would be.
    Fastdp,
}

impl Layout {
    /// The word for it in logs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::BridgedFastdp => "bridged_fastdp",
            Self::Fastdp => "fastdp",
        }
    }
}

/// Makes or adopts the bridge, or what is there in its place.
pub(super) fn make(bridge: &BridgeConfig, layout: Layout) -> Result<Origin, HostError> {
    match layout {
        Layout::Bridge => prepare_bridge(bridge),
        Layout::BridgedFastdp => prepare_bridge_of_datapath(bridge),
        // The engine made or adopted it; containers may be on it.
        Layout::Fastdp => prepare_fastdp(bridge).map(|()| Origin::Adopted),
    }
}

/// That of a router before this one, so that its containers stay where they are, or the one that is
/// wanted.
pub(super) fn layout_with_datapath(settings: &Bridge) -> Result<Layout> {
    use weave_host::Layout as Found;
    let bridge = &settings.name;
    match detect_layout(bridge)? {
        Found::Fastdp => Ok(Layout::Fastdp),
        found @ (Found::Bridge | Found::BridgedFastdp) if !settings.bridged => Err(anyhow!(
            "--no-bridged-fastdp: {bridge} is of type {}; `weave reset` removes it with all that is \
             plugged into it",
            found.name()
        )),
        _ if !settings.bridged => Ok(Layout::Fastdp),
        _ => Ok(Layout::BridgedFastdp),
    }
}

/// What the fast datapath has to know of the mesh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vxlan {
    /// Its UDP port, if there is one.
    pub(crate) port: Option<u16>,
    /// Whether the mesh has a password.
    pub(crate) is_encrypted: bool,
}

impl Vxlan {
    /// Whether what an earlier router left in the kernel may go on: it sends in clear, or with keys
    /// of that router.
    pub(super) fn may_adopt(self) -> bool {
        !self.is_encrypted && !weave_fastdp::ipsec::is_in_use()
    }
}

/// Makes or adopts the datapath.
pub(super) fn engine(
    vxlan: Vxlan,
    layout: Layout,
    bridge: &BridgeConfig,
    switch: &Arc<Switch>,
    clock: &Clock,
    ended: impl FnOnce(String) + Send + 'static,
) -> Result<Arc<OdpEngine>> {
    let PortNames { datapath, tap, .. } = PortNames::of(&bridge.name);
    let datapath = if layout == Layout::Fastdp {
        ensure!(Path::new(TUN).exists(), "this layout needs the module tun as well");
        bridge.name.clone()
    } else {
        datapath
    };
    let port = vxlan.port.context("there is no UDP port after 65535")?;
    let config = OdpConfig {
        datapath,
        port,
        mtu: usize::try_from(bridge.mtu)?,
        threads: data_threads(),
        own_port: tap,
        adopt: vxlan.may_adopt(),
    };
    if OdpEngine::is_supported() {
        // They hold the UDP port.
        weave_fastdp::vxlan::remove_leftovers(&bridge.name)?;
    }
    let clock = clock.clone();
    Ok(Arc::new(OdpEngine::start(
        config,
        switch,
        move || clock.now(),
        move |failure| {
            ended(failure.to_string());
        },
    )?))
}

/// The datapath answers for itself, and brings what other transports carry to a TAP device, by
/// which they also give what they have for local stations.
pub(super) fn open(
    bridge: &BridgeConfig,
    layout: Layout,
    buffer: usize,
    engine: &Arc<OdpEngine>,
    threads: usize,
    counters: Arc<PortCounters>,
) -> Result<Opened> {
    let PortNames { bridge_end, datapath, datapath_end, tap, .. } = PortNames::of(&bridge.name);
    let bridged = layout == Layout::BridgedFastdp;
    if bridged {
        prepare_datapath_pair(&bridge.name)?;
        raise_datapath(bridge)?;
        engine.attach(&datapath_end)?;
    }
    let inner: Box<dyn Port> = if Path::new(TUN).exists() {
        let port = make_tap(&tap, threads)?;
        raise_port(&tap)?;
        engine.attach(&tap)?;
        Box::new(port.with_counters(counters))
    } else {
        tracing::warn!(
            "this kernel has no TUN driver (tun): frames of other transports are slower"
        );
        let port = PacketPort::open(&datapath_end, buffer)
            .with_context(|| format!("cannot inject on {datapath_end}"))?;
        Box::new(InjectOnly(port.with_counters(counters)))
    };
    let port = DatapathPort { inner, engine: Arc::clone(engine) };
    let (device, datapath) =
        if bridged { (bridge_end, datapath) } else { (tap, bridge.name.clone()) };
    Ok(Opened { port: Box::new(port), device, interface: format!("{datapath} (via ODP)") })
}

/// The way of other transports into a datapath.
struct DatapathPort {
    inner: Box<dyn Port>,
    engine: Arc<OdpEngine>,
}

impl Port for DatapathPort {
    fn queues(&self) -> usize {
        self.inner.queues()
    }

    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        self.inner.capture()
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        Ok(self.engine.learning_injector(self.inner.injector()?))
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn counters(&self) -> Arc<PortCounters> {
        self.inner.counters()
    }
}

/// Frames go in there and come out elsewhere.
struct InjectOnly(PacketPort);

impl Port for InjectOnly {
    fn queues(&self) -> usize {
        0
    }

    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        self.0.injector()
    }

    fn offloads(&self) -> Offloads {
        self.0.offloads()
    }

    fn counters(&self) -> Arc<PortCounters> {
        self.0.counters()
    }
}
