//! What must be true of a mesh, whatever happened to it.

use std::collections::{BTreeMap, BTreeSet};

use super::names::HostId;
use super::net::Net;
use crate::mesh::{PeerName, Report};

/// Sums over all routers that run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Messages between routers.
    pub messages: u64,
    /// Those of them that carried gossip.
    pub gossip: u64,
    /// Bytes between routers.
    pub bytes: u64,
}

impl Net {
    /// What the routers that run now have sent since they started.
    pub fn traffic(&self) -> Traffic {
        let mut traffic = Traffic::default();
        for counters in self.reports().values().map(|report| report.counters) {
            traffic.messages += counters.messages_sent;
            traffic.gossip += counters.gossip_sent;
            traffic.bytes += counters.bytes_sent;
        }
        traffic
    }

    /// The reports of the routers that run.
    pub fn reports(&self) -> BTreeMap<HostId, Report> {
        let reports = self.host_ids().filter_map(|id| Some((id, self.router(id)?.mesh().report())));
        reports.collect()
    }

    /// Whether every router knows the peers of its part of the network, no others, and all of
    /// them have the same records, in which every connection is established at both ends.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn converged(&self) -> Result<(), String> {
        for component in self.components() {
            self.component_converged(&component)?;
        }
        Ok(())
    }

    fn component_converged(&self, component: &BTreeSet<HostId>) -> Result<(), String> {
        let expected: BTreeSet<PeerName> = component.iter().map(|id| self.name(*id)).collect();
        let first = component.first().and_then(|id| self.router(*id));
        let Some(first) = first else { return Ok(()) };
        for id in component {
            let Some(router) = self.router(*id) else { continue };
            let mesh = router.mesh();
            let known: BTreeSet<PeerName> = mesh.peers().names().collect();
            if known != expected {
                let missing = expected.difference(&known).count();
                let extra = known.difference(&expected).count();
                return Err(format!("{id:?} misses {missing} peers and has {extra} too many"));
            }
            for (ours, theirs) in mesh.peers().iter().zip(first.mesh().peers().iter()) {
                if ours != theirs {
                    return Err(format!("{id:?} has another record of {}", ours.name));
                }
                if let Some(pending) = ours.connections.iter().find(|c| !c.established) {
                    let (from, to) = (ours.name, pending.remote);
                    return Err(format!("{id:?}: {from} is not yet established to {to}"));
                }
            }
            self.routes_lead_everywhere(*id, &expected)?;
        }
        Ok(())
    }

    /// Whether the router reaches every peer, over a connection that exists.
    fn routes_lead_everywhere(
        &self,
        id: HostId,
        expected: &BTreeSet<PeerName>,
    ) -> Result<(), String> {
        let Some(router) = self.router(id) else { return Ok(()) };
        let routes = router.mesh().routes();
        let own = router.mesh().peers().own();
        for peer in expected.iter().filter(|peer| **peer != own.name) {
            let Some(hop) = routes.unicast(*peer) else {
                return Err(format!("{id:?} has no route to {peer}"));
            };
            if own.connection(hop).is_none() {
                return Err(format!("{id:?} routes to {peer} by {hop}, which is no neighbour"));
            }
        }
        Ok(())
    }

    /// Whether, on top of [`Self::converged`], every router has a connection to every other in
    /// its part of the network.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn fully_meshed(&self) -> Result<(), String> {
        for component in self.components() {
            for id in &component {
                let Some(router) = self.router(*id) else { continue };
                let connections = router.mesh().peers().own().connections.len();
                if connections != component.len() - 1 {
                    let wanted = component.len() - 1;
                    return Err(format!("{id:?} has {connections} of {wanted} connections"));
                }
            }
        }
        self.converged()
    }
}
