//! The fast datapath of this router, or why it has none.

mod encryption;

use std::sync::Arc;

use weave_core::mesh::ShortId;
use weave_core::switch::{Inject, Switch, Waker};
use weave_fastdp::odp::OdpEngine;
use weave_fastdp::vxlan::{VxlanConfig, VxlanEnds, VxlanEngine};
use weave_fastdp::{Engine, EngineStatus};
use weave_host::{BridgeConfig, PortNames, VxlanSenders};
use weave_sleeve::Clock;

pub(crate) use encryption::Encryption;

/// What carries frames in the kernel.
#[derive(Clone, Default)]
pub(crate) enum Fastdp {
    /// Nothing: it is not wanted, or there is no bridge.
    #[default]
    Off,
    /// Nothing: this host cannot; why.
    Unavailable(String),
    /// VXLAN devices.
    Vxlan(Arc<VxlanEngine>),
    /// A datapath of Open vSwitch, which also captures.
    Datapath(Arc<OdpEngine>),
}

impl Fastdp {
    /// Tries it out on this host. Without it the sleeve carries everything. If `adopt`, devices of
    /// the router before this one go on.
    pub(crate) fn start(
        port: Option<u16>,
        adopt: bool,
        bridge: &BridgeConfig,
        switch: &Arc<Switch>,
        injector: Box<dyn Inject + Send>,
        clock: &Clock,
    ) -> Self {
        let Some(port) = port else {
            return Self::unavailable("there is no UDP port after 65535".to_owned(), bridge);
        };
        let PortNames { tap, bridge_end, .. } = PortNames::of(&bridge.name);
        let config = VxlanConfig {
            bridge: bridge.name.clone(),
            router_ports: vec![tap, bridge_end],
            mtu: usize::try_from(bridge.mtu).unwrap_or(usize::MAX),
            port,
            adopt,
        };
        let clock = clock.clone();
        match VxlanEngine::start(config, Arc::clone(switch), injector, move || clock.now()) {
            Ok(engine) => {
                tracing::info!("fastdp: VXLAN devices, UDP port {port}");
                Self::Vxlan(Arc::new(engine))
            }
            Err(error) => Self::unavailable(error.to_string(), bridge),
        }
    }

    fn unavailable(reason: String, bridge: &BridgeConfig) -> Self {
        tracing::warn!("no fastdp, the sleeve carries everything: {reason}");
        if let Err(error) = weave_fastdp::vxlan::remove_leftovers(&bridge.name) {
            tracing::warn!("devices of an earlier router stay: {error}");
        }
        Self::Unavailable(reason)
    }

    /// The transport, if there is one.
    pub(crate) fn overlay(&self, clock: &Clock) -> Option<weave_fastdp::Fastdp> {
        let (engine, clock) = (self.engine()?, clock.clone());
        Some(weave_fastdp::Fastdp::new(engine, move || clock.now()))
    }

    /// Who may send VXLAN to this host, where the kernel does not look who does.
    pub(crate) fn senders(&self) -> Option<VxlanSenders> {
        let Self::Vxlan(engine) = self else { return None };
        let VxlanEnds { ports, neighbours } = engine.ends()?;
        Some(VxlanSenders { ports, neighbours })
    }

    /// Calls `waker` when that changes.
    pub(crate) fn on_senders(&self, waker: Waker) {
        if let Self::Vxlan(engine) = self {
            engine.on_ends(waker);
        }
    }

    /// Ends what the router does in it. What the kernel carries by itself goes on.
    pub(crate) fn stop(&self) {
        if let Self::Vxlan(engine) = self {
            engine.stop();
        }
    }

    /// The short id of this peer by which the kernel carries on what an earlier router began.
    pub(crate) fn earlier_id(&self) -> Option<ShortId> {
        match self {
            Self::Off | Self::Unavailable(_) => None,
            Self::Vxlan(engine) => engine.earlier_id(),
            // With another id, what neighbours send misses here and there, by which both learn where
            // stations are; their flows of before go on until then.
            Self::Datapath(_) => None,
        }
    }

    /// The port on the bridge is another one.
    pub(crate) fn inject_into(&self, injector: Box<dyn Inject + Send>) {
        if let Self::Vxlan(engine) = self {
            engine.inject_into(injector);
        }
    }

    /// In one line, for the status.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Off => "disabled".to_owned(),
            Self::Unavailable(reason) => format!("unavailable: {reason}"),
            Self::Vxlan(engine) => match engine.problem() {
                Some(problem) => format!("unavailable: {problem}, fastdp begins when it is free"),
                None => engine.name().to_owned(),
            },
            Self::Datapath(engine) => engine.name().to_owned(),
        }
    }

    /// What the engine knows of itself, with so many flows at most. Asks the kernel.
    pub(crate) fn status(&self, most_flows: usize) -> Option<EngineStatus> {
        self.engine().map(|engine| engine.status(most_flows))
    }

    fn engine(&self) -> Option<Arc<dyn Engine>> {
        match self {
            Self::Off | Self::Unavailable(_) => None,
            Self::Vxlan(engine) => Some(Arc::clone(engine) as Arc<dyn Engine>),
            Self::Datapath(engine) => Some(Arc::clone(engine) as Arc<dyn Engine>),
        }
    }
}
