//! The ports of the datapath, and the bridge between those with local stations.

use std::collections::BTreeMap;

use weave_odp::{PortNumber, Vport, VportKind};

use super::bridge::Bridge;

/// The ports of the datapath on this host.
#[derive(Debug, Default)]
pub(super) struct LocalPorts {
    vports: BTreeMap<PortNumber, Vport>,
    own_port: Option<PortNumber>,
    pub(super) bridge: Bridge,
}

/// The role of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PortRole {
    /// The router's own port, for packets of other transports.
    Own,
    /// A port with stations of this host.
    Local,
    /// A port for tunnels to neighbours.
    Tunnel,
}

impl LocalPorts {
    /// Returns whether this port is known already.
    pub(super) fn contains(&self, vport: &Vport) -> bool {
        self.vports
            .get(&vport.number)
            .is_some_and(|known| known.name == vport.name && known.kind.name() == vport.kind.name())
    }

    /// Adds a port, which may be the router's own. Returns whether that may change plans.
    pub(super) fn add(&mut self, vport: Vport, is_own: bool) -> bool {
        let (number, kind) = (vport.number, vport.kind);
        self.vports.insert(number, vport);
        if is_own {
            self.own_port = Some(number);
        }
        is_own || is_local(kind) && self.bridge.add_port(number)
    }

    /// Removes a port. Returns whether that may change plans.
    pub(super) fn remove(&mut self, number: PortNumber) -> bool {
        self.vports.remove(&number);
        let was_own = self.own_port.take_if(|own| *own == number).is_some();
        self.bridge.remove_port(number) || was_own
    }

    /// Returns the router's own port.
    pub(super) const fn own_port(&self) -> Option<PortNumber> {
        self.own_port
    }

    /// Returns the role of a port; `None` if the port is unknown or of another kind.
    pub(super) fn role(&self, number: PortNumber) -> Option<PortRole> {
        match self.vports.get(&number)?.kind {
            _ if self.own_port == Some(number) => Some(PortRole::Own),
            VportKind::Vxlan { .. } => Some(PortRole::Tunnel),
            kind => is_local(kind).then_some(PortRole::Local),
        }
    }

    /// Returns the port with this name.
    pub(super) fn named(&self, name: &str) -> Option<PortNumber> {
        self.vports.values().find(|vport| vport.name == name).map(|vport| vport.number)
    }

    /// Iterates over all ports.
    pub(super) fn vports(&self) -> impl Iterator<Item = &Vport> {
        self.vports.values()
    }
}

const fn is_local(kind: VportKind) -> bool {
    matches!(kind, VportKind::Netdev | VportKind::Internal)
}

#[cfg(test)]
mod tests {
    use weave_odp::DatapathId;

    use super::*;

    fn vport(number: u32, name: &str, kind: VportKind) -> Vport {
        let (datapath, number) = (DatapathId(7), PortNumber(number));
        Vport { datapath, number, name: name.to_owned(), kind, stats: None }
    }

    #[test]
    fn ports_come_and_go() {
        let mut local = LocalPorts::default();
        let vxlan = vport(1, "vxlan-6784", VportKind::Vxlan { udp_port: Some(6784) });
        assert!(!local.add(vxlan.clone(), false), "no plan sends to a tunnel by its port alone");
        assert!(local.add(vport(2, "vethwe-datapath", VportKind::Netdev), false));
        assert!(local.add(vport(3, "vethwe-tap", VportKind::Netdev), true));
        let roles = [1, 2, 3, 4].map(|number| local.role(PortNumber(number)));
        assert_eq!(
            roles,
            [Some(PortRole::Tunnel), Some(PortRole::Local), Some(PortRole::Own), None]
        );
        assert!(local.contains(&vxlan) && local.named("vxlan-6784") == Some(PortNumber(1)));
        let again = vport(1, "vxlan-6784", VportKind::Internal);
        assert!(!local.contains(&again), "another port got its number");
        assert!(local.remove(PortNumber(3)) && local.own_port().is_none());
        assert!(!local.remove(PortNumber(1)) && local.remove(PortNumber(2)));
        assert_eq!(local.vports().count(), 0);
    }
}
