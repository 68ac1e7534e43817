//! Rules in a table of our own, for hosts without iptables.
//!
//! Only what drops and what masquerades: accepting a packet here would have no effect elsewhere
//! (see the module above).

use std::fmt::Write as _;

use super::Outcome;
use super::policy::{Policy, RuleNames, has_ipv6};
use super::program::Program;
use crate::error::HostError;

/// A table of nftables.
#[derive(Debug)]
pub(super) struct Nftables {
    program: Program,
    /// What was asked for last, and how the kernel showed it then. Any difference means that
    /// somebody changed it.
    made: Option<(Policy, String)>,
}

impl Nftables {
    pub(super) fn open() -> Result<Self, HostError> {
        let program = Program::find("nft").ok_or(HostError::NoProgram { program: "nft" })?;
        Ok(Self { program, made: None })
    }

    /// Whether the kernel answers.
    pub(super) fn probe(&self) -> Result<(), HostError> {
        self.program.run(&["list", "tables"], "").map(drop)
    }

    pub(super) fn apply(&mut self, policy: &Policy) -> Result<Outcome, HostError> {
        let RuleNames { table, .. } = RuleNames::of(&policy.bridge);
        let families = families();
        if let (Some((made, shown)), Some(now)) = (&self.made, self.show_all(families, &table)?)
            && made == policy
            && *shown == now
        {
            return Ok(Outcome::InOrder);
        }
        let script: String = families.iter().map(|family| script(family, policy)).collect();
        self.replace(&script)?;
        let shown = self.show_all(families, &table)?.unwrap_or_default();
        self.made = Some((policy.clone(), shown));
        Ok(Outcome::Changed)
    }

    /// Whether another chain drops what is forwarded unless it is accepted there.
    pub(super) fn is_overruled(&self) -> bool {
        let chains = self.program.run(&["list", "chains"], "").unwrap_or_default();
        chains.lines().any(|line| line.contains("hook forward") && line.contains("policy drop"))
    }

    pub(super) fn remove(&self, bridge: &str) -> Result<bool, HostError> {
        let RuleNames { table, .. } = RuleNames::of(bridge);
        let mut found = false;
        for family in ALL_FAMILIES {
            found |= self.delete(family, &table)?;
        }
        Ok(found)
    }

    /// Does what this script says, all of it or nothing.
    pub(super) fn replace(&self, script: &str) -> Result<(), HostError> {
        self.program.run(&["-f", "-"], script).map(drop)
    }

    /// Deletes a table; `false` if there is none.
    pub(super) fn delete(&self, family: &str, table: &str) -> Result<bool, HostError> {
        if self.show(family, table)?.is_none() {
            return Ok(false);
        }
        self.program.run(&["delete", "table", family, table], "").map(|_| true)
    }

    /// The table as the kernel has it, if it has.
    pub(super) fn show(&self, family: &str, table: &str) -> Result<Option<String>, HostError> {
        // A kernel without a family has no table of it.
        let absent = ["No such file or directory", "not supported"];
        match self.program.run(&["-n", "list", "table", family, table], "") {
            Ok(text) => Ok(Some(text)),
            Err(HostError::Program { complaint, .. })
                if absent.iter().any(|text| complaint.contains(text)) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The tables of all these families, if all are there.
    fn show_all(&self, families: &[&str], table: &str) -> Result<Option<String>, HostError> {
        families.iter().map(|family| self.show(family, table)).collect()
    }
}

const ALL_FAMILIES: &[&str] = &["ip", "ip6"];

/// The families of which this host can have packets.
fn families() -> &'static [&'static str] {
    if has_ipv6() { ALL_FAMILIES } else { &["ip"] }
}

/// Replaces the table of a family in one transaction.
fn script(family: &str, policy: &Policy) -> String {
    let RuleNames { table, guard, .. } = RuleNames::of(&policy.bridge);
    let ipv4 = family == "ip";
    let mut text = format!(
        "table {family} {table}\ndelete table {family} {table}\ntable {family} {table} {{\n"
    );
    let senders = policy.vxlan.as_ref().filter(|_| ipv4);
    if let Some(senders) = senders {
        let addresses: Vec<_> = senders.neighbours.iter().map(ToString::to_string).collect();
        let elements = match &addresses[..] {
            [] => String::new(),
            some => format!(" elements = {{ {} }}", some.join(", ")),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "set neighbours {{ type ipv4_addr;{elements} }}");
    }
    let mut chain = |head: &str, rules: &[String]| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "chain {head}");
        rules.iter().for_each(|rule| text.extend([rule, "\n"]));
        text.push_str("}\n");
    };
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
    let incoming: Vec<_> = guard.into_iter().chain(closed(false)).chain(strangers).collect();
    chain("input {\ntype filter hook input priority 0; policy accept;", &incoming);
    let docker = policy.docker.iter().filter(|name| ipv4 && **name != policy.bridge);
    let docker =
        docker.map(|name| format!("iifname \"{name}\" oifname \"{}\" drop", policy.bridge));
    let forwarded: Vec<_> = closed(true).chain(docker).collect();
    if !forwarded.is_empty() {
        chain("forward {\ntype filter hook forward priority 0; policy accept;", &forwarded);
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
        chain("postrouting {\ntype nat hook postrouting priority 100;", &masqueraded);
    }
    text.push_str("}\n");
    text
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
            closed: ClosedPorts { bridges: [].into(), mesh: 6783, control: None },
            vxlan: None,
            exposed: Vec::new(),
            routed: false,
        };
        assert_eq!(
            script("ip", &policy),
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
        for family in ["ip", "ip6"] {
            let script = script(family, &policy);
            let has = |line: &str| script.lines().any(|other| other == line);
            assert!(both.iter().all(|line| has(line)), "{script}");
            for line in of_ipv4 {
                assert_eq!(has(line), family == "ip", "{line}\n{script}");
            }
        }
    }
}
