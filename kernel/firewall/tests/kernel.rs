//! Rules in the kernel, in network namespaces that each test makes for itself. Needs root,
//! iptables and nft.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod common;

use weave_firewall::iptables::{self, Iptables, Place, Shared};
use weave_firewall::nftables::{
    Batch, Chain, Family, Hook, Nftables, Set, Table, Verdict, VerdictMap,
};
use weave_firewall::{Backend, Counter, Firewall, FirewallError, Leftovers, Outcome, Rules};

use common::{arrives, isolated, receiver, run};

const LEN: u64 = 29;

/// A table by which packets to two ports of this host go to chains by a map, and are counted.
fn policy() -> Table {
    Table::new(Family::Ip, "npc")
        .with_counter("refused")
        .with_set(Set::new("friends", "ipv4_addr").with_intervals())
        .with_map(VerdictMap::new("ports", "inet_service"))
        .with_chain(Chain::base("in", Hook::Input).with_rule("udp dport vmap @ports"))
}

fn guard(port: u16) -> Batch {
    let chain = Chain::regular("guard")
        .with_rule("ip saddr @friends accept")
        .with_rule("counter name refused drop");
    Batch::new(Family::Ip, "npc")
        .replace_chain(chain)
        .add_to_map("ports", [(port.to_string(), Verdict::Jump("guard".to_owned()))])
}

#[test]
fn a_table_is_replaced_changed_and_counted() {
    isolated(|| {
        run("ip link set lo up");
        let mut nftables = Nftables::open().unwrap();
        nftables.probe().unwrap();
        assert_eq!(nftables.counters(Family::Ip, "npc").unwrap(), None);
        nftables.replace(&policy()).unwrap();
        let (socket, port) = receiver();
        let refused =
            |nftables: &Nftables| nftables.counters(Family::Ip, "npc").unwrap().unwrap()["refused"];
        assert!(arrives(&socket));
        nftables.change(&guard(port)).unwrap();
        assert!(!arrives(&socket));
        assert_eq!(refused(&nftables), Counter { packets: 1, bytes: LEN });

        let batch = || Batch::new(Family::Ip, "npc");
        nftables.change(&batch().add_elements("friends", ["127.0.0.0/8"])).unwrap();
        assert!(arrives(&socket));
        nftables.change(&batch().delete_elements("friends", ["127.0.0.0/8"])).unwrap();
        assert!(!arrives(&socket));
        assert_eq!(refused(&nftables).packets, 2);
        nftables.change(&batch()).unwrap();

        // A batch that fails in its last step has changed nothing.
        let half = batch().delete_elements("ports", [port.to_string()]).delete_chain("missing");
        assert!(matches!(nftables.change(&half), Err(FirewallError::Program { .. })));
        assert!(!arrives(&socket));
        let gone = batch().delete_elements("ports", [port.to_string()]).delete_chain("guard");
        nftables.change(&gone).unwrap();
        assert!(arrives(&socket));
        assert!(nftables.delete(Family::Ip, "npc").unwrap());
        assert!(!nftables.delete(Family::Ip, "npc").unwrap());
    });
}

#[test]
fn a_table_with_everything_in_it_is_replaced_by_another() {
    isolated(|| {
        let map = VerdictMap::new("pods", "ipv4_addr . inet_service")
            .with_elements([("10.0.0.1 . 80".to_owned(), Verdict::Goto("pod".to_owned()))]);
        let whole = policy()
            .with_chain(Chain::regular("pod").with_rule("counter name refused drop"))
            .with_map(map)
            .with_chain(
                Chain::base("out", Hook::RouteOutput).with_rule("meta mark set meta mark | 0x1"),
            )
            .with_chain(Chain::base("nat", Hook::NatPostrouting).with_rule("masquerade"));
        let mut nftables = Nftables::open().unwrap();
        assert_eq!(nftables.apply(std::slice::from_ref(&whole)).unwrap(), Outcome::Changed);
        assert_eq!(nftables.apply(std::slice::from_ref(&whole)).unwrap(), Outcome::InOrder);
        run("nft flush chain ip npc pod");
        assert_eq!(nftables.apply(&[whole]).unwrap(), Outcome::Changed);
        assert_eq!(nftables.apply(&[policy()]).unwrap(), Outcome::Changed);
        let shown = nftables.show(Family::Ip, "npc").unwrap().unwrap();
        assert!(!shown.contains("pods"), "{shown}");
    });
}

/// Drops what is sent to a port, in a chain of its own.
fn drops(port: u16) -> Vec<iptables::Table> {
    let own = iptables::Chain {
        name: "OURS".to_owned(),
        rules: vec![format!("-p udp -m udp --dport {port} -j DROP")],
    };
    let shared = Shared { chain: "INPUT", rules: vec!["-j OURS".to_owned()], place: Place::First };
    vec![iptables::Table {
        name: "filter",
        own: vec![own],
        shared: vec![shared],
        ..iptables::Table::default()
    }]
}

#[test]
fn rules_of_either_iptables_are_counted_and_removed() {
    for backend in [Backend::IptablesNft, Backend::IptablesLegacy] {
        isolated(|| {
            run("ip link set lo up");
            let (socket, port) = receiver();
            let rules = Rules { ipv4: drops(port), ..Rules::default() };
            let mut firewall = Firewall::open(Some(backend)).unwrap();
            assert_eq!(firewall.apply(&rules).unwrap(), Outcome::Changed, "{backend}");
            assert!(!arrives(&socket));
            let iptables = Iptables::open(backend).unwrap();
            let counted = iptables.counters("filter", "OURS").unwrap().unwrap();
            let rule = format!("-p udp -m udp --dport {port} -j DROP");
            assert_eq!(counted, [(rule, Counter { packets: 1, bytes: LEN })], "{backend}");
            assert_eq!(iptables.counters("filter", "THEIRS").unwrap(), None);
            assert_eq!(firewall.apply(&rules).unwrap(), Outcome::InOrder);

            // What is there stays as it is if nothing is said about it.
            let nothing = iptables::Chain { name: "OURS".to_owned(), rules: Vec::new() };
            let [mut table] = <[_; 1]>::try_from(drops(port)).unwrap();
            table.own = vec![nothing];
            let prepared = Rules { ipv4: vec![table], ..Rules::default() };
            firewall.prepare(&prepared).unwrap();
            assert!(!arrives(&socket));
            let leftovers = Leftovers { ipv4: drops(port), ..Leftovers::default() };
            assert!(firewall.remove(&leftovers).unwrap());
            assert!(!firewall.remove(&leftovers).unwrap());
            assert!(arrives(&socket));
        });
    }
}
