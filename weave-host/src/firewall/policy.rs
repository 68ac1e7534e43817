//! What the rules are to achieve, whoever keeps them.

use std::net::Ipv4Addr;

use crate::Cidr;
use crate::names::{self, BRIDGE_NAME};

/// What the firewall shall do for the switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The bridge. What its containers send is forwarded, among themselves and elsewhere.
    pub bridge: String,
    /// The TCP port for control on 127.0.0.1, closed to packets that a neighbour of the host
    /// routes there (CVE-2020-8558).
    pub control_port: Option<u16>,
    /// The bridge of Docker, kept apart from ours.
    pub docker: Option<DockerBridge>,
    /// The addresses of the host on the bridge.
    pub exposed: Vec<Exposed>,
    /// Whether the host has an address on the bridge, so that it can forward between containers and elsewhere. Only
    /// then a rule needs to know what is the answer to what: it has the kernel track all connections, which costs
    /// small packets a sixth of their rate.
    pub routed: bool,
}

/// A bridge whose containers must neither reach ours nor the router's ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DockerBridge {
    /// Its name.
    pub name: String,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// The port of the mesh; the datapath has the next one.
    pub port: u16,
}

/// An address of the host on the bridge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Exposed {
    /// The address.
    pub cidr: Cidr,
    /// Whether what passes between its network and the world gets the address of the host.
    pub masquerade: bool,
}

/// An IPv4 network as firewalls print it: `10.32.0.0/12`.
pub(super) fn network(cidr: Cidr) -> Option<String> {
    // A network of everything has no outside.
    (cidr.address().is_ipv4() && cidr.prefix() > 0).then(|| cidr.masked().to_string())
}

impl Policy {
    /// The networks of the exposed addresses, each once.
    pub(super) fn networks(&self) -> Vec<String> {
        distinct(self.exposed.iter())
    }

    /// Those of them that are masqueraded.
    pub(super) fn masqueraded(&self) -> Vec<String> {
        distinct(self.exposed.iter().filter(|exposed| exposed.masquerade))
    }
}

fn distinct<'a>(exposed: impl Iterator<Item = &'a Exposed>) -> Vec<String> {
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
    /// Table of nftables.
    pub(super) table: String,
    /// Comment on the rule that guards the control port.
    pub(super) guard: String,
    /// Comment on the rules that guard the ports of the mesh.
    pub(super) docker: String,
}

impl RuleNames {
    pub(super) fn of(bridge: &str) -> Self {
        const GUARD: &str = "Block non-local access to Weave Net control port";
        const DOCKER: &str = "Block access of Docker containers to Weave Net";
        if bridge == BRIDGE_NAME {
            return Self {
                nat: "WEAVE".to_owned(),
                expose: "WEAVE-EXPOSE".to_owned(),
                table: "weave".to_owned(),
                guard: GUARD.to_owned(),
                docker: DOCKER.to_owned(),
            };
        }
        let id = names::id(bridge);
        Self {
            nat: format!("WEAVE-{id}"),
            expose: format!("WEAVE-EXPOSE-{id}"),
            table: format!("weave-{id}"),
            guard: format!("{GUARD} ({id})"),
            docker: format!("{DOCKER} ({id})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_no_host_bits_and_come_once() {
        let exposed = |text: &str, masquerade| Exposed { cidr: text.parse().unwrap(), masquerade };
        let policy = Policy {
            bridge: "weave".to_owned(),
            control_port: None,
            docker: None,
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
    fn chains_have_names_that_iptables_takes() {
        let RuleNames { nat, expose, .. } = RuleNames::of("a-name-of-15-chr");
        // XT_EXTENSION_MAXNAMELEN of the kernel, less the zero at the end.
        assert!(nat.len() <= 28 && expose.len() <= 28, "{nat} {expose}");
        assert_ne!(RuleNames::of("weave2"), RuleNames::of("weave"));
    }
}
