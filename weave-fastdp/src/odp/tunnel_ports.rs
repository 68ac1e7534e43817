//! The tunnels to neighbours, and the short ids of peers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use weave_core::mesh::{PeerName, ShortIdTable};
use weave_core::metric::Counter;
use weave_core::switch::ForwarderId;
use weave_core::time::Instant;
use weave_odp::{Action, FlowMatch, PortNumber, Tunnel};

use super::unicast_flow::UnicastFlow;
use crate::engine::{GRACE, Inbox, TunnelParams};
use crate::vni::Vni;

/// Name of the engine, also in the ids of its forwarders.
pub(super) const ENGINE: &str = "openvswitch";
/// Time to live of outer packets (spec fastdp.md, section 6).
const TTL: u8 = 64;

/// The tunnel to a neighbour.
pub(super) struct TunnelPort {
    pub(super) params: TunnelParams,
    /// Port of the datapath that the tunnel uses.
    vport: AtomicU32,
    pub(super) inbox: Arc<dyn Inbox>,
    /// Address of the neighbour, from which its last special frame came.
    remote: AtomicU32,
    offloaded: AtomicBool,
    /// Frames sent without a flow.
    pub(super) sent: Counter,
    /// Frames that could not be handed to the kernel.
    pub(super) refused: Counter,
}

impl TunnelPort {
    pub(super) fn new(params: TunnelParams, vport: PortNumber, inbox: Arc<dyn Inbox>) -> Self {
        Self {
            remote: AtomicU32::new(params.remote_address.to_bits()),
            params,
            vport: AtomicU32::new(vport.0),
            inbox,
            offloaded: AtomicBool::new(false),
            sent: Counter::default(),
            refused: Counter::default(),
        }
    }

    /// Returns the port of the datapath that the tunnel uses.
    pub(super) fn vport(&self) -> PortNumber {
        PortNumber(self.vport.load(Ordering::Relaxed))
    }

    /// Uses another port of the datapath, since the one before was recreated.
    pub(super) fn use_vport(&self, vport: PortNumber) {
        self.vport.store(vport.0, Ordering::Relaxed);
    }

    /// Returns the id of the forwarder that sends into this tunnel.
    pub(super) const fn forwarder_id(&self) -> ForwarderId {
        ForwarderId { transport: ENGINE, connection: self.params.connection }
    }

    /// Returns the address of the neighbour.
    pub(super) fn remote(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.remote.load(Ordering::Relaxed))
    }

    /// Returns whether the neighbour may use this address. An encrypted tunnel stays at its own:
    /// packets to any other address would leave in clear.
    pub(super) fn may_move_to(&self, address: Ipv4Addr) -> bool {
        !self.params.encrypted || self.remote() == address
    }

    /// Notes the address that the neighbour uses. Returns whether it has changed.
    pub(super) fn set_remote(&self, address: Ipv4Addr) -> bool {
        self.remote.swap(address.to_bits(), Ordering::Relaxed) != address.to_bits()
    }

    /// Returns whether the kernel may carry frames through the tunnel by flows.
    pub(super) fn is_offloaded(&self) -> bool {
        self.offloaded.load(Ordering::Relaxed)
    }

    /// Sets whether the kernel may carry frames by flows. Returns whether that is a change.
    pub(super) fn set_offload(&self, offload: bool) -> bool {
        self.offloaded.swap(offload, Ordering::Relaxed) != offload
    }

    /// Returns the actions that send a packet into the tunnel.
    pub(super) fn actions(&self, vni: Vni) -> [Action; 2] {
        let tunnel = Tunnel {
            id: vni.get().into(),
            source: self.params.local_address,
            destination: self.remote(),
            ttl: TTL,
            dont_fragment: true,
            ..Tunnel::ZERO
        };
        [Action::SetTunnel(tunnel), Action::Output(self.vport())]
    }
}

/// All tunnels at one moment. The value never changes, but is replaced as a whole.
#[derive(Clone, Default)]
pub(super) struct TunnelPorts {
    pub(super) ids: Arc<ShortIdTable>,
    pub(super) by_neighbour: BTreeMap<PeerName, Arc<TunnelPort>>,
    /// Hosts whose connection has ended recently, and until when their flows are retained.
    retained: BTreeMap<Ipv4Addr, Instant>,
}

/// The peers by which a packet came through a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sender {
    pub(super) source: PeerName,
    pub(super) destination: PeerName,
    pub(super) neighbour: PeerName,
}

impl TunnelPorts {
    /// Retains flows of a host whose connection ends now, or ended with an earlier router.
    pub(super) fn retain_flows(&mut self, now: Instant, remote: Ipv4Addr) {
        self.retained.insert(remote, now + GRACE);
    }

    /// Stops retaining flows whose time is over.
    pub(super) fn expire_retained(&mut self, now: Instant) {
        self.retained.retain(|_, until| *until > now);
    }

    /// Returns when [`Self::expire_retained`] has something to do.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.retained.values().min().copied()
    }

    /// Returns a flow as one that is retained although no plan would create it now.
    pub(super) fn retained(&self, matches: &FlowMatch, actions: &[Action]) -> Option<UnicastFlow> {
        UnicastFlow::of(matches, actions).filter(|flow| self.retained.contains_key(&flow.remote()))
    }

    /// Returns the identifier of the tunnel for frames between two peers.
    pub(super) fn vni(&self, source: PeerName, destination: PeerName) -> Option<Vni> {
        let source = self.ids.of(source)?;
        Some(Vni { source, destination: self.ids.of(destination)? })
    }

    /// Returns the sender of a frame that came through this tunnel; `None` if one of its peers is
    /// unknown, or if no neighbour sends from its address.
    pub(super) fn sender(&self, tunnel: &Tunnel) -> Option<Sender> {
        let (source, destination) = self.ends(tunnel)?;
        let is_from = |port: &Arc<TunnelPort>| port.remote() == tunnel.source;
        // Several neighbours may share a host; then the one that is the source is meant.
        let neighbour = match self.by_neighbour.get(&source) {
            Some(port) if is_from(port) => source,
            _ => *self.by_neighbour.iter().find(|(_, port)| is_from(port))?.0,
        };
        Some(Sender { source, destination, neighbour })
    }

    /// Returns the sender of a special frame, which may show that the neighbour has another
    /// address.
    pub(super) fn sender_of_special(&self, tunnel: &Tunnel) -> Option<Sender> {
        let (source, destination) = self.ends(tunnel)?;
        let port = self.by_neighbour.get(&source)?;
        let may_move = port.may_move_to(tunnel.source);
        may_move.then_some(Sender { source, destination, neighbour: source })
    }

    /// Returns the source and the destination of a packet that came through this tunnel.
    fn ends(&self, tunnel: &Tunnel) -> Option<(PeerName, PeerName)> {
        let vni = u32::try_from(tunnel.id).ok().and_then(Vni::new)?;
        Some((self.ids.owner(vni.source)?, self.ids.owner(vni.destination)?))
    }
}
