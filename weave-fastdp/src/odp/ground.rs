//! The ports of the datapath, and the bridge between those of local stations.

use std::collections::BTreeMap;

use weave_odp::{PortNumber, Vport, VportKind};

use super::bridge::Bridge;

/// What there is on this host.
#[derive(Debug, Default)]
pub(super) struct Ground {
    vports: BTreeMap<PortNumber, Vport>,
    own_port: Option<PortNumber>,
    pub(super) bridge: Bridge,
}

/// Who is behind a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// The router, with what other transports bring.
    Own,
    /// Stations of this host.
    Local,
    /// Neighbours.
    Tunnel,
}

impl Ground {
    /// Whether this port is there already.
    pub(super) fn knows(&self, vport: &Vport) -> bool {
        self.vports
            .get(&vport.number)
            .is_some_and(|known| known.name == vport.name && known.kind.name() == vport.kind.name())
    }

    /// A port is there, that of the router or another one. Whether plans may change by that.
    pub(super) fn add(&mut self, vport: Vport, is_own: bool) -> bool {
        let (number, kind) = (vport.number, vport.kind);
        self.vports.insert(number, vport);
        if is_own {
            self.own_port = Some(number);
        }
        is_own || is_local(kind) && self.bridge.add_port(number)
    }

    /// A port is gone. Whether plans may change by that.
    pub(super) fn remove(&mut self, number: PortNumber) -> bool {
        self.vports.remove(&number);
        let was_own = self.own_port.take_if(|own| *own == number).is_some();
        self.bridge.remove_port(number) || was_own
    }

    /// The port of the router itself.
    pub(super) const fn own_port(&self) -> Option<PortNumber> {
        self.own_port
    }

    /// Who is behind a port, if that is known.
    pub(super) fn side(&self, number: PortNumber) -> Option<Side> {
        match self.vports.get(&number)?.kind {
            _ if self.own_port == Some(number) => Some(Side::Own),
            VportKind::Vxlan { .. } => Some(Side::Tunnel),
            kind => is_local(kind).then_some(Side::Local),
        }
    }

    /// The port of this name.
    pub(super) fn named(&self, name: &str) -> Option<PortNumber> {
        self.vports.values().find(|vport| vport.name == name).map(|vport| vport.number)
    }

    /// All ports.
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
        let mut ground = Ground::default();
        let vxlan = vport(1, "vxlan-6784", VportKind::Vxlan { udp_port: Some(6784) });
        assert!(!ground.add(vxlan.clone(), false), "no plan sends to a tunnel by its port alone");
        assert!(ground.add(vport(2, "vethwe-datapath", VportKind::Netdev), false));
        assert!(ground.add(vport(3, "vethwe-tap", VportKind::Netdev), true));
        let sides = [1, 2, 3, 4].map(|number| ground.side(PortNumber(number)));
        assert_eq!(sides, [Some(Side::Tunnel), Some(Side::Local), Some(Side::Own), None]);
        assert!(ground.knows(&vxlan) && ground.named("vxlan-6784") == Some(PortNumber(1)));
        let again = vport(1, "vxlan-6784", VportKind::Internal);
        assert!(!ground.knows(&again), "another one got its number");
        assert!(ground.remove(PortNumber(3)) && ground.own_port().is_none());
        assert!(!ground.remove(PortNumber(1)) && ground.remove(PortNumber(2)));
        assert_eq!(ground.vports().count(), 0);
    }
}
