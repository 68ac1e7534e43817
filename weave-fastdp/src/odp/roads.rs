//! The tunnels there are, and what short ids stand for.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use weave_core::mesh::{PeerName, ShortIdTable};
use weave_core::switch::Forwarder;
use weave_core::time::Instant;
use weave_odp::{Action, FlowMatch, PortNumber, Tunnel};

use super::mile::{GRACE, Mile};
use crate::engine::{Inbox, TunnelParams};
use crate::vni::Vni;

/// The time to live of outer packets (spec fastdp.md, section 6).
const TTL: u8 = 64;

/// The tunnel to a neighbour.
pub(super) struct Road {
    pub(super) params: TunnelParams,
    /// The port of the datapath that it uses.
    vport: AtomicU32,
    pub(super) inbox: Arc<dyn Inbox>,
    /// Where its forwarder lies, by which it is told from those of other transports.
    forwarder: AtomicUsize,
    /// The address of the neighbour: where the last special frame came from.
    remote: AtomicU32,
    carried: AtomicBool,
    pub(super) sent: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Road {
    pub(super) fn new(params: TunnelParams, vport: PortNumber, inbox: Arc<dyn Inbox>) -> Self {
        Self {
            remote: AtomicU32::new(params.remote_address.to_bits()),
            params,
            forwarder: AtomicUsize::new(0),
            vport: AtomicU32::new(vport.0),
            inbox,
            carried: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// The port of the datapath that it uses.
    pub(super) fn vport(&self) -> PortNumber {
        PortNumber(self.vport.load(Ordering::Relaxed))
    }

    /// The port was made anew.
    pub(super) fn use_vport(&self, vport: PortNumber) {
        self.vport.store(vport.0, Ordering::Relaxed);
    }

    /// From now on this is its forwarder.
    pub(super) fn is_served_by(&self, forwarder: &Arc<dyn Forwarder>) {
        self.forwarder.store(address(forwarder), Ordering::Relaxed);
    }

    /// Whether this is its forwarder.
    pub(super) fn is(&self, forwarder: &Arc<dyn Forwarder>) -> bool {
        self.forwarder.load(Ordering::Relaxed) == address(forwarder)
    }

    pub(super) fn remote(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.remote.load(Ordering::Relaxed))
    }

    /// Whether the neighbour may speak from this address: one whose tunnel is sealed from its own
    /// alone. To another one everything would go in clear.
    pub(super) fn takes_from(&self, address: Ipv4Addr) -> bool {
        !self.params.sealed || self.remote() == address
    }

    /// The neighbour speaks from this address. Whether that is another one than before.
    pub(super) fn heard_from(&self, address: Ipv4Addr) -> bool {
        self.remote.swap(address.to_bits(), Ordering::Relaxed) != address.to_bits()
    }

    /// Whether the kernel may carry frames on it by itself.
    pub(super) fn is_carried(&self) -> bool {
        self.carried.load(Ordering::Relaxed)
    }

    /// Whether that is a change.
    pub(super) fn carry(&self, carry: bool) -> bool {
        self.carried.swap(carry, Ordering::Relaxed) != carry
    }

    /// What sends a packet on it.
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

fn address(forwarder: &Arc<dyn Forwarder>) -> usize {
    Arc::as_ptr(forwarder).cast::<()>().addr()
}

/// All tunnels at one moment. Never changed, replaced as a whole.
#[derive(Clone, Default)]
pub(super) struct Roads {
    pub(super) ids: Arc<ShortIdTable>,
    pub(super) by_neighbour: BTreeMap<PeerName, Arc<Road>>,
    /// Connections that ended a moment ago, by the host at the other end, and until when flows
    /// outlive them.
    ended: BTreeMap<Ipv4Addr, Instant>,
}

/// How a packet came through a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sender {
    pub(super) source: PeerName,
    pub(super) destination: PeerName,
    pub(super) neighbour: PeerName,
}

impl Roads {
    /// A connection with that host has ended now, or that of a router before this one.
    pub(super) fn end(&mut self, now: Instant, remote: Ipv4Addr) {
        self.ended.insert(remote, now + GRACE);
    }

    /// Nothing stays for those that ended too long ago.
    pub(super) fn forget_ended(&mut self, now: Instant) {
        self.ended.retain(|_, until| *until > now);
    }

    /// When there is something to forget.
    pub(super) fn next_to_forget(&self) -> Option<Instant> {
        self.ended.values().min().copied()
    }

    /// The mile of a flow that may stay although nobody would make it now.
    pub(super) fn outliving(&self, matches: &FlowMatch, actions: &[Action]) -> Option<Mile> {
        Mile::of(matches, actions).filter(|mile| self.ended.contains_key(&mile.remote()))
    }

    /// The tunnel identifier for frames between two peers.
    pub(super) fn vni(&self, source: PeerName, destination: PeerName) -> Option<Vni> {
        let source = self.ids.of(source)?;
        Some(Vni { source, destination: self.ids.of(destination)? })
    }

    /// Who sent a packet that came through this tunnel; `None` if one of its peers is unknown, or
    /// none of the neighbours can have sent it.
    pub(super) fn sender(&self, tunnel: &Tunnel) -> Option<Sender> {
        let vni = u32::try_from(tunnel.id).ok().and_then(Vni::new)?;
        let source = self.ids.owner(vni.source)?;
        let destination = self.ids.owner(vni.destination)?;
        let speaks = |road: &Arc<Road>| road.remote() == tunnel.source;
        // Several neighbours may share a host; the one that says it is the source is meant then.
        let neighbour = match self.by_neighbour.get(&source) {
            Some(road) if speaks(road) => source,
            own => {
                let other = self.by_neighbour.iter().find(|(_, road)| speaks(road));
                let moved = own.filter(|road| road.takes_from(tunnel.source)).map(|_| source);
                other.map(|(name, _)| *name).or(moved)?
            }
        };
        Some(Sender { source, destination, neighbour })
    }
}
