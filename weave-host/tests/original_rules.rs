//! Rules that routers of Weave Net 2.8.1 left, as `iptables-save` printed them, in either back end
//! and beside ours in either. Needs root, iptables of both kinds, nft and ipset.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "common/command.rs"]
#[expect(dead_code, reason = "not all of it is of use here")]
mod command;
mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use weave_host::{
    Backend, ClosedPorts, Firewall, HostAddress, Policy, original_policies_stand,
    remove_original_rules,
};

use command::run;
use common::isolated;

const CANARIES: &str = "*mangle\n:WEAVE-CANARY - [0:0]\nCOMMIT\n*nat\n:WEAVE-CANARY - [0:0]\nCOMMIT\n\
                        *filter\n:WEAVE-CANARY - [0:0]\nCOMMIT\n";

/// Of a router with an exposed address.
const PLAIN: &str = r#"*filter
:WEAVE-EXPOSE - [0:0]
-A INPUT -d 127.0.0.1/32 -p tcp -m tcp --dport 6784 -m addrtype ! --src-type LOCAL -m conntrack ! --ctstate RELATED,ESTABLISHED -m comment --comment "Block non-local access to Weave Net control port" -j DROP
-A FORWARD -i weave -o weave -j ACCEPT
-A FORWARD -o weave -j WEAVE-EXPOSE
-A FORWARD -i weave ! -o weave -j ACCEPT
-A FORWARD -o weave -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A WEAVE-EXPOSE -d 10.32.0.0/12 -j ACCEPT
COMMIT
*nat
:WEAVE - [0:0]
-A POSTROUTING -j WEAVE
-A WEAVE -s 10.32.0.0/12 -d 224.0.0.0/4 -j RETURN
-A WEAVE ! -s 10.32.0.0/12 -d 10.32.0.0/12 -j MASQUERADE
-A WEAVE -s 10.32.0.0/12 ! -d 10.32.0.0/12 -j MASQUERADE
COMMIT
"#;

/// Of a router with `--expect-npc --no-masq-local`.
const POLICED: &str = r#"*filter
:WEAVE-NPC - [0:0]
:WEAVE-NPC-EGRESS - [0:0]
-A INPUT -d 127.0.0.1/32 -p tcp -m tcp --dport 6784 -m addrtype ! --src-type LOCAL -m conntrack ! --ctstate RELATED,ESTABLISHED -m comment --comment "Block non-local access to Weave Net control port" -j DROP
-A INPUT -i weave -j WEAVE-NPC-EGRESS
-A FORWARD -i weave -m comment --comment "NOTE: this must go before \'-j KUBE-FORWARD\'" -j WEAVE-NPC-EGRESS
-A FORWARD -o weave -m comment --comment "NOTE: this must go before \'-j KUBE-FORWARD\'" -j WEAVE-NPC
-A FORWARD -o weave -m state --state NEW -j NFLOG --nflog-group 86
-A FORWARD -o weave -j DROP
-A FORWARD -i weave ! -o weave -j ACCEPT
-A FORWARD -o weave -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 -j ACCEPT
COMMIT
*nat
:WEAVE - [0:0]
-A POSTROUTING -j WEAVE
-A WEAVE -m set --match-set weaver-no-masq-local dst -m comment --comment "Prevent SNAT to locally running containers" -j RETURN
COMMIT
"#;

const BACKENDS: [Backend; 2] = [Backend::IptablesNft, Backend::IptablesLegacy];

fn restore(backend: Backend, text: &str) {
    let mut command = Command::new(format!("{backend}-restore"));
    let mut child = command.arg("--noflush").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
}

fn saved(backend: Backend) -> String {
    run(&format!("{backend}-save"))
}

fn policy() -> Policy {
    Policy {
        bridge: "weave".to_owned(),
        control_port: Some(6784),
        docker: None,
        closed: ClosedPorts {
            bridges: ["weave".to_owned()].into(),
            mesh: 6783,
            transports: [].into(),
            control: None,
        },
        vxlan: None,
        routed: true,
        exposed: vec![HostAddress { cidr: "10.32.0.1/12".parse().unwrap(), masquerade: true }],
    }
}

/// Ours are made in one back end while those of the original are in the other, or in the same.
fn replaced(original: Backend, ours: Backend, rules: &str) {
    isolated(|| {
        run("ipset create weaver-no-masq-local hash:net");
        restore(original, CANARIES);
        restore(original, rules);
        let mut firewall = Firewall::open(Some(ours)).unwrap();
        firewall.apply(&policy()).unwrap();
        firewall.remove_elsewhere("weave").unwrap();
        assert_eq!(remove_original_rules("weave").unwrap(), [original]);
        assert_eq!(remove_original_rules("weave").unwrap(), []);

        let (before, now) = (saved(original), saved(ours));
        assert!(!now.contains("WEAVE-CANARY") && !now.contains("-j WEAVE-NPC"), "{now}");
        assert!(!now.contains("NFLOG") && !now.contains("-o weave -j DROP"), "{now}");
        assert_eq!(now.matches("Block non-local access").count(), 1, "{now}");
        assert_eq!(now.matches("-A WEAVE ").count(), 3, "{now}");
        if original != ours {
            let of_weave = |line: &&str| line.starts_with("-A") && line.contains("weave");
            assert_eq!(before.lines().find(of_weave), None, "{before}");
        }
        let docker = "-A FORWARD -i docker0 -j ACCEPT";
        assert_eq!(before.contains(docker), rules.contains(docker), "what is not ours stays");
        assert_eq!(run("ipset list -n"), "", "nothing used it any more");
        // All that goes with the next look would come again.
        assert_eq!(firewall.apply(&policy()).unwrap(), weave_host::Outcome::InOrder);
    });
}

#[test]
fn rules_of_the_original_go_in_both_back_ends() {
    for original in BACKENDS {
        for ours in BACKENDS {
            replaced(original, ours, PLAIN);
            replaced(original, ours, POLICED);
        }
    }
}

#[test]
fn network_policies_of_the_original_stand_until_ours_do() {
    for backend in BACKENDS {
        isolated(|| {
            run("ipset create weaver-no-masq-local hash:net");
            restore(backend, PLAIN);
            assert!(!original_policies_stand("weave").unwrap());
            restore(backend, POLICED);
            assert!(original_policies_stand("weave").unwrap());
            assert!(!original_policies_stand("other").unwrap(), "of another router");
            run("nft add table inet weave-npc");
            assert!(!original_policies_stand("weave").unwrap());
            run("nft delete table inet weave-npc");
            assert!(original_policies_stand("weave").unwrap());
            remove_original_rules("weave").unwrap();
            assert!(!original_policies_stand("weave").unwrap());
        });
    }
}
