//! The rules in the kernel, in each back end, in network namespaces that each test makes for
//! itself. Needs root, iptables and nft.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "common/command.rs"]
mod command;
mod common;

use weave_host::{
    Backend, ClosedPorts, Firewall, HostAddress, Outcome, Policy, VxlanSenders, remove_rules,
};

use command::{faults_of_programs, run};
use common::isolated;

fn policy() -> Policy {
    Policy {
        bridge: "weave".to_owned(),
        control_port: Some(6784),
        docker: Some("docker0".to_owned()),
        closed: ClosedPorts {
            bridges: ["docker0".to_owned(), "weave".to_owned()].into(),
            mesh: 6783,
            transports: [].into(),
            control: None,
        },
        vxlan: Some(VxlanSenders {
            ports: [6784].into(),
            neighbours: [[192, 0, 2, 1].into()].into(),
        }),
        routed: true,
        exposed: vec![HostAddress { cidr: "10.32.0.1/12".parse().unwrap(), masquerade: true }],
    }
}

/// Makes the rules, lets each of these commands damage them, and removes them.
fn kept(backend: Backend, damages: &[&str]) {
    let mut firewall = Firewall::open(Some(backend)).unwrap();
    assert_eq!(firewall.backend(), backend);
    let mut policy = policy();
    assert_eq!(firewall.apply(&policy).unwrap(), Outcome::Changed);
    assert_eq!(firewall.apply(&policy).unwrap(), Outcome::InOrder);
    for damage in damages {
        run(damage);
        assert_eq!(firewall.apply(&policy).unwrap(), Outcome::Changed, "{damage}");
        assert_eq!(firewall.apply(&policy).unwrap(), Outcome::InOrder, "{damage}");
    }
    // The next router finds them in order, but for a table that it cannot know.
    let mut next = Firewall::open(None).unwrap();
    if backend != Backend::Nftables {
        assert_eq!(next.backend(), backend);
        assert_eq!(next.apply(&policy).unwrap(), Outcome::InOrder);
    }
    policy.exposed.clear();
    policy.routed = false;
    policy.vxlan = None;
    assert_eq!(firewall.apply(&policy).unwrap(), Outcome::Changed);
    assert_eq!(firewall.apply(&policy).unwrap(), Outcome::InOrder);
    assert_eq!(remove_rules("other").unwrap(), []);
    assert_eq!(remove_rules("weave").unwrap(), [backend]);
    assert_eq!(remove_rules("weave").unwrap(), []);
}

#[test]
fn iptables_on_nftables_keeps_the_rules() {
    isolated(|| {
        let damages = [
            "iptables-nft -F",
            "iptables-nft -t nat -F",
            "iptables-nft -D FORWARD 2",
            "iptables-nft -t nat -D POSTROUTING -j WEAVE",
            "ip6tables-nft -D INPUT 1",
            "ip6tables-nft -F",
            "nft flush ruleset",
        ];
        kept(Backend::IptablesNft, &damages);
        assert!(!run("iptables-nft-save").contains("-A"));
        assert!(!run("ip6tables-nft-save").contains("-A"));
    });
}

#[test]
fn the_iptables_of_old_keeps_the_rules() {
    isolated(|| {
        let damages =
            ["iptables-legacy -F", "iptables-legacy -t nat -F WEAVE", "ip6tables-legacy -F"];
        kept(Backend::IptablesLegacy, &damages);
        assert!(!run("iptables-legacy-save").contains("-A"));
        assert!(!run("ip6tables-legacy-save").contains("-A"));
    });
}

#[test]
fn a_table_of_our_own_keeps_the_rules() {
    isolated(|| {
        let damages = [
            "nft flush table ip weave",
            "nft delete table ip6 weave",
            "nft flush ruleset",
            "nft flush chain ip weave input",
        ];
        kept(Backend::Nftables, &damages);
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn the_rules_move_with_the_back_end_of_the_host() {
    isolated(|| {
        let mut before = Firewall::open(Some(Backend::IptablesLegacy)).unwrap();
        before.apply(&policy()).unwrap();
        let mut now = Firewall::open(Some(Backend::IptablesNft)).unwrap();
        now.apply(&policy()).unwrap();
        now.remove_elsewhere("weave").unwrap();
        assert!(!run("iptables-legacy-save").contains("weave"));
        assert_eq!(now.apply(&policy()).unwrap(), Outcome::InOrder);
        // A host that drops by default in iptables cannot be overruled from elsewhere.
        run("iptables-nft -P FORWARD DROP");
        assert!(Firewall::open(Some(Backend::Nftables)).unwrap().is_overruled());
        assert!(!now.is_overruled());
    });
}

#[test]
fn most_rules_decide_which_iptables_it_is() {
    for kind in ["iptables-nft", "iptables-legacy"] {
        isolated(|| {
            run(&format!("{kind} -A FORWARD -j ACCEPT"));
            assert_eq!(Firewall::open(None).unwrap().backend().to_string(), kind);
        });
    }
}

#[test]
fn a_look_starts_no_program_where_nobody_changed_a_rule() {
    for backend in [Backend::IptablesNft, Backend::Nftables] {
        isolated(|| {
            let mut firewall = Firewall::open(Some(backend)).unwrap();
            assert_eq!(firewall.apply(&policy()).unwrap(), Outcome::Changed);
            assert_eq!(firewall.apply(&policy()).unwrap(), Outcome::InOrder);
            let before = faults_of_programs();
            assert_eq!(firewall.apply(&policy()).unwrap(), Outcome::InOrder);
            assert_eq!(faults_of_programs(), before, "{backend}");
            // Somebody else's rule is reason enough to look.
            run("nft add table ip other");
            let before = faults_of_programs();
            assert_eq!(firewall.apply(&policy()).unwrap(), Outcome::InOrder);
            assert_ne!(faults_of_programs(), before, "{backend}");
        });
    }
}

/// Connections that the kernel tracks after a datagram from the host to itself.
fn tracked() -> u32 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    count.trim().parse().unwrap()
}

#[test]
fn connections_are_tracked_only_where_the_host_forwards() {
    for backend in [Backend::IptablesNft, Backend::IptablesLegacy, Backend::Nftables] {
        isolated(|| {
            run("ip link set lo up");
            let alone = Policy { exposed: Vec::new(), routed: false, ..policy() };
            let mut firewall = Firewall::open(Some(backend)).unwrap();
            firewall.apply(&alone).unwrap();
            assert_eq!(tracked(), 0, "{backend}");
            firewall.apply(&policy()).unwrap();
            assert_ne!(tracked(), 0, "{backend}");
        });
    }
}
