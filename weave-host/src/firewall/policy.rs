//! What the rules are to achieve, whoever keeps them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::names::{self, BRIDGE_NAME};
use weave_core::Cidr;

/// What the firewall shall do for the switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The bridge. What its containers send is forwarded, among themselves and elsewhere.
    pub bridge: String,
    /// The TCP port for control on 127.0.0.1, closed to packets that a neighbour of the host
    /// routes there (CVE-2020-8558).
    pub control_port: Option<u16>,
    /// The bridge of Docker, whose containers are kept apart from ours.
    pub docker: Option<String>,
    /// The ports of routers that containers must not reach.
    pub closed: ClosedPorts,
    /// Who may send VXLAN to this host, if the kernel's VXLAN devices take it in.
    pub vxlan: Option<VxlanSenders>,
    /// The addresses of the host on the bridge.
    pub exposed: Vec<HostAddress>,
    /// Whether the host has an address on the bridge, so that it can forward between containers and
    /// elsewhere. Only then a rule needs to know what is the answer to what: it has the kernel
    /// track all connections, which costs small packets a sixth of their rate.
    pub routed: bool,
}

/// The ports of routers that containers on some bridges must not reach: a container that can
/// speak to a router becomes a peer, or puts frames into its links. They are closed on this host,
/// at all of its addresses, and on whatever host lies behind it, which takes such packets for
/// those of this host where they are masqueraded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClosedPorts {
    /// The bridges.
    pub bridges: BTreeSet<String>,
    /// The port of the mesh, TCP and UDP; the fast datapath has the next one.
    pub mesh: u16,
    /// TCP ports of further transports.
    pub transports: BTreeSet<u16>,
    /// The TCP port for control, where it is open to other hosts.
    pub control: Option<u16>,
}

impl ClosedPorts {
    /// Each bridge with each of the protocols and ports.
    pub(super) fn list(&self) -> impl Iterator<Item = (&str, &'static str, u16)> {
        let mesh = [("tcp", self.mesh), ("udp", self.mesh)];
        let fastdp = self.mesh.checked_add(1).map(|port| ("udp", port));
        let others = self.transports.iter().chain(&self.control).map(|port| ("tcp", *port));
        let ports: Vec<_> = mesh.into_iter().chain(fastdp).chain(others).collect();
        self.bridges.iter().flat_map(move |bridge| {
            let ports = ports.clone();
            ports.into_iter().map(move |(protocol, port)| (bridge.as_str(), protocol, port))
        })
    }
}

/// The hosts that may send VXLAN to this one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VxlanSenders {
    /// The UDP ports for it.
    pub ports: BTreeSet<u16>,
    /// Their addresses.
    pub neighbours: BTreeSet<Ipv4Addr>,
}

/// An address of the host on the bridge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostAddress {
    /// The address.
    pub cidr: Cidr,
    /// Whether what passes between its network and the world gets the address of the host.
    pub masquerade: bool,
}

/// Returns an IPv4 network as firewalls print it: `10.32.0.0/12`.
pub(super) fn network(cidr: Cidr) -> Option<String> {
    // A network of everything has no outside.
    (cidr.address().is_ipv4() && cidr.prefix() > 0).then(|| cidr.masked().to_string())
}

impl Policy {
    /// Returns the networks of the exposed addresses, each once.
    pub(super) fn networks(&self) -> Vec<String> {
        distinct(self.exposed.iter())
    }

    /// Returns the networks that are masqueraded.
    pub(super) fn masqueraded(&self) -> Vec<String> {
        distinct(self.exposed.iter().filter(|exposed| exposed.masquerade))
    }
}

fn distinct<'a>(exposed: impl Iterator<Item = &'a HostAddress>) -> Vec<String> {
    let mut networks: Vec<_> = exposed.filter_map(|exposed| network(exposed.cidr)).collect();
    networks.sort();
    networks.dedup();
    networks
}

/// Names in the firewall that belong to a bridge. Those of the default bridge are the
/// original's; those of another follow from its name, so that each can have a router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RuleNames {
    /// Chain of table nat.
    pub(super) nat: String,
    /// Chain of table filter.
    pub(super) expose: String,
    /// Another chain of table filter.
    pub(super) vxlan: String,
    /// Table of nftables.
    pub(super) table: String,
    /// Comment on the rule that guards the control port.
    pub(super) guard: String,
    /// Comment on the rules that close ports to containers.
    pub(super) closed: String,
    /// Comment on the rules that lead to the chain for VXLAN.
    pub(super) senders: String,
}

impl RuleNames {
    pub(super) fn of(bridge: &str) -> Self {
        const GUARD: &str = "Block non-local access to Weave Net control port";
        const CLOSED: &str = "Block access of containers to Weave Net";
        const SENDERS: &str = "Take VXLAN of Weave Net from neighbours alone";
        if bridge == BRIDGE_NAME {
            return Self {
                nat: "WEAVE".to_owned(),
                expose: "WEAVE-EXPOSE".to_owned(),
                vxlan: "WEAVE-VXLAN".to_owned(),
                table: "weave".to_owned(),
                guard: GUARD.to_owned(),
                closed: CLOSED.to_owned(),
                senders: SENDERS.to_owned(),
            };
        }
        let id = names::id(bridge);
        Self {
            nat: format!("WEAVE-{id}"),
            expose: format!("WEAVE-EXPOSE-{id}"),
            vxlan: format!("WEAVE-VXLAN-{id}"),
            table: format!("weave-{id}"),
            guard: format!("{GUARD} ({id})"),
            closed: format!("{CLOSED} ({id})"),
            senders: format!("{SENDERS} ({id})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_no_host_bits_and_come_once() {
        let exposed =
            |text: &str, masquerade| HostAddress { cidr: text.parse().unwrap(), masquerade };
        let policy = Policy {
            bridge: "weave".to_owned(),
            control_port: None,
            docker: None,
            closed: ClosedPorts {
                bridges: BTreeSet::new(),
                mesh: 6783,
                transports: [].into(),
                control: None,
            },
            vxlan: None,
            routed: true,
            exposed: vec![
                exposed("10.33.0.1/16", false),
                exposed("10.32.0.1/12", true),
                exposed("10.32.0.2/12", true),
                exposed("192.0.2.1/32", true),
                exposed("fd00::1/64", true),
            ],
        };
        assert_eq!(policy.networks(), ["10.32.0.0/12", "10.33.0.0/16", "192.0.2.1/32"]);
        assert_eq!(policy.masqueraded(), ["10.32.0.0/12", "192.0.2.1/32"]);
    }

    #[test]
    fn each_bridge_has_each_port_closed() {
        let bridges = BTreeSet::from(["docker0".to_owned(), "weave".to_owned()]);
        let closed =
            ClosedPorts { bridges, mesh: 7000, transports: [7002].into(), control: Some(80) };
        let list: Vec<_> = closed.list().collect();
        let ports = [("tcp", 7000), ("udp", 7000), ("udp", 7001), ("tcp", 7002), ("tcp", 80)];
        let expected = ["docker0", "weave"]
            .into_iter()
            .flat_map(|bridge| ports.map(|(protocol, port)| (bridge, protocol, port)));
        assert_eq!(list, expected.collect::<Vec<_>>());
        let last = ClosedPorts { mesh: u16::MAX, transports: [].into(), control: None, ..closed };
        assert_eq!(last.list().count(), 4, "there is no port after the last one");
    }

    #[test]
    fn chains_have_names_that_iptables_takes() {
        let RuleNames { nat, expose, vxlan, .. } = RuleNames::of("a-name-of-15-chr");
        // XT_EXTENSION_MAXNAMELEN of the kernel, less the zero at the end.
        assert!(
            [&nat, &expose, &vxlan].iter().all(|name| name.len() <= 28),
            "{nat} {expose} {vxlan}"
        );
        assert_ne!(RuleNames::of("weave2"), RuleNames::of("weave"));
    }
}
