//! The rules of a policy in tables of our own, for hosts without iptables.
//!
//! Only what drops and what masquerades: accepting a packet here would have no effect elsewhere
//! (see the module above).

use weave_firewall::nftables::{Chain, Family, Hook, Set, Table};

use super::policy::{Policy, RuleNames};

pub(super) const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

pub(super) fn tables(policy: &Policy) -> Vec<Table> {
    FAMILIES.map(|family| table(family, policy)).into()
}

fn table(family: Family, policy: &Policy) -> Table {
    let RuleNames { table, guard, .. } = RuleNames::of(&policy.bridge);
    let ipv4 = family == Family::Ip;
    let mut table = Table::new(family, table);
    let senders = policy.vxlan.as_ref().filter(|_| ipv4);
    if let Some(senders) = senders {
        let addresses = senders.neighbours.iter().map(ToString::to_string);
        table = table.with_set(Set::new("neighbours", "ipv4_addr").with_elements(addresses));
    }
    let guard = policy.control_port.filter(|_| ipv4).map(|port| {
        format!(
            "ip daddr 127.0.0.1 tcp dport {port} fib saddr type != local drop comment \"{guard}\""
        )
    });
    let closed = |out: bool| {
        policy.closed.list().map(move |(bridge, protocol, port)| {
            let out = if out { format!("oifname != \"{bridge}\" ") } else { String::new() };
            format!("iifname \"{bridge}\" {out}{protocol} dport {port} drop")
        })
    };
    let strangers = senders.iter().flat_map(|senders| &senders.ports);
    let strangers = strangers.map(|port| format!("udp dport {port} ip saddr != @neighbours drop"));
    let incoming = guard.into_iter().chain(closed(false)).chain(strangers);
    table = table.with_chain(Chain::base("input", Hook::Input).with_rules(incoming));
    let docker = policy.docker.iter().filter(|name| ipv4 && **name != policy.bridge);
    let docker =
        docker.map(|name| format!("iifname \"{name}\" oifname \"{}\" drop", policy.bridge));
    let forwarded: Vec<_> = closed(true).chain(docker).collect();
    if !forwarded.is_empty() {
        table = table.with_chain(Chain::base("forward", Hook::Forward).with_rules(forwarded));
    }
    let masquerade = |network: &String| {
        [
            format!("ip saddr {network} ip daddr 224.0.0.0/4 return"),
            format!("ip saddr != {network} ip daddr {network} masquerade fully-random"),
            format!("ip saddr {network} ip daddr != {network} masquerade fully-random"),
        ]
    };
    let masqueraded: Vec<_> = policy.masqueraded().iter().flat_map(masquerade).collect();
    if ipv4 && !masqueraded.is_empty() {
        let chain = Chain::base("postrouting", Hook::NatPostrouting);
        table = table.with_chain(chain.with_rules(masqueraded));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::policy::{ClosedPorts, HostAddress, VxlanSenders};
    use super::*;

    #[test]
    fn the_table_is_replaced_whole() {
        let mut policy = Policy {
            bridge: "weave".to_owned(),
            control_port: None,
            docker: None,
            closed: ClosedPorts {
                bridges: [].into(),
                mesh: 6783,
                transports: [].into(),
                control: None,
            },
            vxlan: None,
            exposed: Vec::new(),
            routed: false,
        };
        assert_eq!(
            table(Family::Ip, &policy).script().unwrap(),
            "table ip weave\ndelete table ip weave\ntable ip weave {\nchain input {\n\
             type filter hook input priority 0; policy accept;\n}\n}\n"
        );
        policy.control_port = Some(6784);
        policy.docker = Some("docker0".to_owned());
        policy.closed.bridges = ["docker0".to_owned(), "weave".to_owned()].into();
        let neighbours = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()].into();
        policy.vxlan = Some(VxlanSenders { ports: [6784].into(), neighbours });
        policy.exposed =
            vec![HostAddress { cidr: "10.32.0.1/12".parse().unwrap(), masquerade: true }];
        let both = [
            "iifname \"docker0\" udp dport 6784 drop",
            "iifname \"weave\" tcp dport 6783 drop",
            "iifname \"weave\" oifname != \"weave\" udp dport 6783 drop",
        ];
        let of_ipv4 = [
            "ip daddr 127.0.0.1 tcp dport 6784 fib saddr type != local drop comment \"Block \
             non-local access to Weave Net control port\"",
            "iifname \"docker0\" oifname \"weave\" drop",
            "set neighbours { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 } }",
            "udp dport 6784 ip saddr != @neighbours drop",
            "ip saddr 10.32.0.0/12 ip daddr != 10.32.0.0/12 masquerade fully-random",
        ];
        for family in FAMILIES {
            let script = table(family, &policy).script().unwrap();
            let has = |line: &str| script.lines().any(|other| other == line);
            assert!(both.iter().all(|line| has(line)), "{script}");
            for line in of_ipv4 {
                assert_eq!(has(line), family == Family::Ip, "{line}\n{script}");
            }
        }
    }
}
