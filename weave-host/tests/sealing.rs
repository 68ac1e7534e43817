//! The rules for sealed tunnels in the kernel, in each back end, in network namespaces that each
//! test makes for itself. Needs root, iptables and nft.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "common/command.rs"]
mod command;
mod common;

use weave_host::{
    Backend, Cidr, Outcome, SealFirewall, SealPolicy, SealedState, SealedTunnel, remove_rules,
};

use command::{faults_of_programs, run};
use common::isolated;

fn policy() -> SealPolicy {
    let guarded = [6784].into();
    let trusted = ["10.9.0.0/16", "10.8.0.7/32"].map(|text| Cidr::network(text).unwrap()).into();
    let (local, remote) = ([192, 168, 48, 11].into(), [192, 168, 48, 12].into());
    SealPolicy {
        tunnels: [SealedTunnel { local, remote, port: 6784 }].into(),
        states: [SealedState { remote, local, spi: 0xdead_beef }].into(),
        guarded,
        trusted,
    }
}

/// Makes the rules, lets each of these commands damage them, hands them on to the next router,
/// and removes them.
fn kept(backend: Backend, list: &str, damages: &[&str]) {
    let before = run(list);
    let open = || SealFirewall::open(Some(backend), "weave").unwrap();
    let mut firewall = open();
    firewall.prepare().unwrap();
    let prepared = run(list);
    assert_ne!(prepared, before);
    assert_eq!(firewall.apply(&policy()).unwrap(), Outcome::Changed);
    assert_eq!(firewall.apply(&policy()).unwrap(), Outcome::InOrder);
    let made = run(list);
    for damage in damages {
        run(damage);
        assert_eq!(firewall.apply(&policy()).unwrap(), Outcome::Changed, "{damage}");
        assert_eq!(firewall.apply(&policy()).unwrap(), Outcome::InOrder, "{damage}");
    }
    let before = faults_of_programs();
    assert_eq!(firewall.apply(&policy()).unwrap(), Outcome::InOrder);
    assert_eq!(faults_of_programs() == before, backend != Backend::IptablesLegacy);
    // The next router leaves the rules of tunnels alone until it has tunnels itself.
    let mut next = open();
    next.prepare().unwrap();
    assert_eq!(run(list), made);
    assert_eq!(next.apply(&SealPolicy::default()).unwrap(), Outcome::Changed);
    assert_eq!(run(list), prepared);
    assert!(next.remove().unwrap());
    assert!(!next.remove().unwrap());
    let after = run(list);
    assert!(!after.to_lowercase().contains("weave"), "{after}");
    // `weave reset` finds them, too.
    next.apply(&policy()).unwrap();
    assert_eq!(remove_rules("weave").unwrap(), [backend]);
    assert_eq!(run(list), after);
}

#[test]
fn in_iptables_on_nftables() {
    isolated(|| {
        kept(
            Backend::IptablesNft,
            "iptables-nft -t mangle -S",
            &["iptables-nft -t mangle -F", "iptables-nft -F", "iptables-nft -F WEAVE-IPSEC-IN"],
        );
        run("iptables-nft -A OUTPUT -j ACCEPT");
        let mut firewall = SealFirewall::open(Some(Backend::IptablesNft), "weave").unwrap();
        firewall.prepare().unwrap();
        let rules = run("iptables-nft -S OUTPUT");
        let drop = rules.find("--pol none").unwrap();
        assert!(drop < rules.find("-j ACCEPT").unwrap(), "{rules}");
        firewall.remove().unwrap();
        assert_eq!(run("iptables-nft -S OUTPUT"), "-P OUTPUT ACCEPT\n-A OUTPUT -j ACCEPT\n");
    });
}

#[test]
fn in_the_iptables_of_old() {
    isolated(|| {
        kept(
            Backend::IptablesLegacy,
            "iptables-legacy -t mangle -S",
            &["iptables-legacy -t mangle -F", "iptables-legacy -F"],
        );
    });
}

#[test]
fn in_a_table_of_nftables() {
    isolated(|| {
        run("nft add table ip others");
        kept(
            Backend::Nftables,
            "nft list ruleset",
            &["nft flush table ip weave-ipsec", "nft delete table ip weave-ipsec"],
        );
    });
}

#[test]
fn no_rules_are_no_sealing() {
    let error = SealFirewall::open(Some(Backend::None), "weave").unwrap_err();
    assert!(error.to_string().contains("iptables or nft"), "{error}");
}
