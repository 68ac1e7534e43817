//! Rules in a table of our own, for hosts without iptables.
//!
//! Only what drops and what masquerades: accepting a packet here would have no effect elsewhere
//! (see the module above).

use std::fmt::Write as _;

use super::Outcome;
use super::policy::{Policy, RuleNames};
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
        if let (Some((made, shown)), Some(now)) = (&self.made, self.show(&table)?)
            && made == policy
            && *shown == now
        {
            return Ok(Outcome::InOrder);
        }
        self.replace(&script(policy))?;
        let shown = self.show(&table)?.unwrap_or_default();
        self.made = Some((policy.clone(), shown));
        Ok(Outcome::Made)
    }

    /// Whether another chain drops what is forwarded unless it is accepted there.
    pub(super) fn is_overruled(&self) -> bool {
        let chains = self.program.run(&["list", "chains"], "").unwrap_or_default();
        chains.lines().any(|line| line.contains("hook forward") && line.contains("policy drop"))
    }

    pub(super) fn remove(&self, bridge: &str) -> Result<bool, HostError> {
        self.delete(&RuleNames::of(bridge).table)
    }

    /// Does what this script says, all of it or nothing.
    pub(super) fn replace(&self, script: &str) -> Result<(), HostError> {
        self.program.run(&["-f", "-"], script).map(drop)
    }

    /// Deletes a table; `false` if there is none.
    pub(super) fn delete(&self, table: &str) -> Result<bool, HostError> {
        if self.show(table)?.is_none() {
            return Ok(false);
        }
        self.program.run(&["delete", "table", "ip", table], "").map(|_| true)
    }

    /// The table as the kernel has it, if it has.
    pub(super) fn show(&self, table: &str) -> Result<Option<String>, HostError> {
        match self.program.run(&["-n", "list", "table", "ip", table], "") {
            Ok(text) => Ok(Some(text)),
            Err(HostError::Program { complaint, .. })
                if complaint.contains("No such file or directory") =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Replaces the table in one transaction.
fn script(policy: &Policy) -> String {
    let RuleNames { table, guard, .. } = RuleNames::of(&policy.bridge);
    let mut text = format!("table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "chain input {{\ntype filter hook input priority 0; policy accept;");
    if let Some(port) = policy.control_port {
        let _ = writeln!(
            text,
            "ip daddr 127.0.0.1 tcp dport {port} fib saddr type != local drop comment \"{guard}\""
        );
    }
    if let Some(docker) = &policy.docker {
        let (name, address, port) = (&docker.name, docker.address, docker.port);
        let _ = writeln!(text, "iifname \"{name}\" ip daddr {address} tcp dport {port} drop");
        for port in [port, port.saturating_add(1)] {
            let _ = writeln!(text, "iifname \"{name}\" ip daddr {address} udp dport {port} drop");
        }
    }
    text.push_str("}\n");
    if let Some(docker) = &policy.docker {
        let _ = writeln!(
            text,
            "chain forward {{\ntype filter hook forward priority 0; policy accept;\n\
             iifname \"{}\" oifname \"{}\" drop\n}}",
            docker.name, policy.bridge
        );
    }
    let masqueraded = policy.masqueraded();
    if !masqueraded.is_empty() {
        text.push_str("chain postrouting {\ntype nat hook postrouting priority 100;\n");
        for network in masqueraded {
            let _ = writeln!(
                text,
                "ip saddr {network} ip daddr 224.0.0.0/4 return\n\
                 ip saddr != {network} ip daddr {network} masquerade fully-random\n\
                 ip saddr {network} ip daddr != {network} masquerade fully-random"
            );
        }
        text.push_str("}\n");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::super::policy::{DockerBridge, Exposed};
    use super::*;

    #[test]
    fn the_table_is_replaced_whole() {
        let mut policy = Policy {
            bridge: "weave".to_owned(),
            control_port: None,
            docker: None,
            exposed: Vec::new(),
            routed: false,
        };
        assert_eq!(
            script(&policy),
            "table ip weave\ndelete table ip weave\ntable ip weave {\nchain input {\n\
             type filter hook input priority 0; policy accept;\n}\n}\n"
        );
        policy.control_port = Some(6784);
        policy.docker = Some(DockerBridge {
            name: "docker0".to_owned(),
            address: [172, 17, 0, 1].into(),
            port: 6783,
        });
        policy.exposed = vec![Exposed { cidr: "10.32.0.1/12".parse().unwrap(), masquerade: true }];
        let script = script(&policy);
        for line in [
            "ip daddr 127.0.0.1 tcp dport 6784 fib saddr type != local drop comment \"Block \
             non-local access to Weave Net control port\"",
            "iifname \"docker0\" ip daddr 172.17.0.1 udp dport 6784 drop",
            "iifname \"docker0\" oifname \"weave\" drop",
            "ip saddr 10.32.0.0/12 ip daddr != 10.32.0.0/12 masquerade fully-random",
        ] {
            assert!(script.lines().any(|l| l == line), "{line}\n{script}");
        }
    }
}
