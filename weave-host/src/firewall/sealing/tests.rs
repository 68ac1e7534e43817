use weave_firewall::iptables::{Listing, removal, transaction};

use super::*;

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 168, 48, 11);
const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 168, 48, 12);

fn policy() -> SealPolicy {
    SealPolicy {
        tunnels: [SealedTunnel { local: LOCAL, remote: REMOTE, port: 6784 }].into(),
        states: [SealedState { remote: REMOTE, local: LOCAL, spi: 0xdead_beef }].into(),
        ..SealPolicy::default()
    }
}

/// Returns what is there after a transaction on an empty firewall.
fn after(tables: &[IptablesTable]) -> Listing {
    let mut listing = Listing::new();
    for table in tables {
        for IptablesChain { name, rules } in &table.own {
            listing.insert((table.name, name.clone()), rules.clone());
        }
        for Shared { chain, rules, .. } in &table.shared {
            listing.insert((table.name, (*chain).to_owned()), rules.clone());
        }
    }
    listing
}

fn sort(text: &str) -> Vec<&str> {
    let mut words: Vec<_> = text.split(' ').collect();
    words.sort_unstable();
    words
}

/// The rules of the original, but for what iptables adds when it prints them.
#[test]
fn the_rules_of_a_connection_are_the_original_s() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/ipsec.json")).unwrap();
    let tables = tables(&Names::of(BRIDGE_NAME), &policy());
    for entry in vectors["per_connection_rules"]["rules"].as_array().unwrap() {
        let text = |key: &str| entry[key].as_str().unwrap();
        let table = tables.iter().find(|table| table.name == text("table")).unwrap();
        let chain = table.own.iter().find(|chain| chain.name == text("chain")).unwrap();
        let rules = &chain.rules;
        let [rule] = &rules[..] else { panic!("{rules:?}") };
        let rule =
            rule.replace("/32", "").replace("-m udp ", "").replace("3735928559", "0xdeadbeef");
        assert_eq!(sort(&rule), sort(text("rule")));
    }
}

#[test]
fn what_drops_is_made_before_what_marks() {
    let tables = tables(&Names::of(BRIDGE_NAME), &policy());
    let text = transaction(&tables, &Listing::new()).unwrap();
    assert_eq!(
        text,
        "*filter\n\
         :WEAVE-IPSEC-IN - [0:0]\n\
         -A WEAVE-IPSEC-IN -s 192.168.48.12/32 -d 192.168.48.11/32 -p udp -m udp --dport 6784 \
         -m mark ! --mark 0x20000/0x20000 -j DROP\n\
         -I INPUT 1 -j WEAVE-IPSEC-IN\n\
         -I OUTPUT 1 ! -p esp -m policy --dir out --pol none -m mark --mark 0x20000/0x20000 \
         -j DROP\n\
         COMMIT\n\
         *mangle\n\
         :WEAVE-IPSEC-IN-MARK - [0:0]\n\
         :WEAVE-IPSEC-OUT-MARK - [0:0]\n\
         :WEAVE-IPSEC-IN - [0:0]\n\
         :WEAVE-IPSEC-OUT - [0:0]\n\
         -A WEAVE-IPSEC-IN-MARK -j MARK --set-xmark 0x20000/0x20000\n\
         -A WEAVE-IPSEC-OUT-MARK -j MARK --set-xmark 0x20000/0x20000\n\
         -A WEAVE-IPSEC-IN -s 192.168.48.12/32 -d 192.168.48.11/32 -p esp -m esp \
         --espspi 3735928559 -j WEAVE-IPSEC-IN-MARK\n\
         -A WEAVE-IPSEC-OUT -s 192.168.48.11/32 -d 192.168.48.12/32 -p udp -m udp --dport 6784 \
         -j WEAVE-IPSEC-OUT-MARK\n\
         -I INPUT 1 -j WEAVE-IPSEC-IN\n\
         -I OUTPUT 1 -j WEAVE-IPSEC-OUT\n\
         COMMIT\n"
    );
    let mut present = after(&tables);
    assert_eq!(transaction(&tables, &present), None);
    present.get_mut(&("filter", "INPUT".to_owned())).unwrap().insert(0, "-j OTHERS".to_owned());
    assert_eq!(transaction(&tables, &present), None);
}

#[test]
fn a_guarded_port_takes_nothing_in_clear_but_from_trusted_networks() {
    let networks = ["10.9.0.0/16", "fd00::/8", "0.0.0.0/0"];
    let policy = |count: usize| SealPolicy {
        guarded: [6784].into(),
        trusted: networks.iter().take(count).filter_map(|text| Cidr::network(text).ok()).collect(),
        ..policy()
    };
    let filter = &tables(&Names::of(BRIDGE_NAME), &policy(2))[0];
    let rules = &filter.own[0].rules;
    assert!(rules[0].contains("192.168.48.12/32"), "{rules:?}");
    let guards = [
        "-s 10.9.0.0/16 -p udp -m udp --dport 6784 -j RETURN",
        "-p udp -m udp --dport 6784 -m mark ! --mark 0x20000/0x20000 -j DROP",
    ];
    assert_eq!(rules[1..], guards);
    let text = table("weave-ipsec", &policy(2)).script().unwrap();
    let guards = "ip saddr 10.9.0.0/16 udp dport 6784 return\n\
                  udp dport 6784 meta mark & 0x20000 == 0 drop\n";
    assert!(text.contains(guards), "{text}");
    let filter = &tables(&Names::of(BRIDGE_NAME), &policy(3))[0];
    assert_eq!(filter.own[0].rules[1], "-p udp -m udp --dport 6784 -j RETURN");
}

#[test]
fn only_the_chain_that_changed_is_written() {
    let names = Names::of(BRIDGE_NAME);
    let present = after(&tables(&names, &policy()));
    let mut policy = policy();
    policy.states.clear();
    let text = transaction(&tables(&names, &policy), &present).unwrap();
    assert_eq!(text, "*mangle\n:WEAVE-IPSEC-IN - [0:0]\nCOMMIT\n");
}

#[test]
fn removal_takes_our_rules_and_leaves_the_rest() {
    let names = Names::of("other");
    let tables = leftovers_of(&names).ipv4;
    let mut present = after(&tables);
    for rules in present.values_mut() {
        rules.push("-j OTHERS".to_owned());
    }
    let text = removal(&tables, &present).unwrap();
    assert!(text.starts_with("*mangle\n-D INPUT -j WEAVE-IPSEC-IN-"), "{text}");
    assert!(!text.contains("OTHERS"), "{text}");
    let rule = text.lines().find(|line| line.starts_with("-D OUTPUT !")).unwrap();
    assert!(rule.contains("Weave Net encryption ("), "the rule of another router stays: {rule}");
    assert_eq!(text.matches("-X ").count(), 5);
    assert_eq!(removal(&tables, &Listing::new()), None);
}

#[test]
fn routers_of_other_bridges_have_names_of_their_own() {
    let names = Names::of("a-name-of-15-chr");
    // XT_EXTENSION_MAXNAMELEN of the kernel, less the zero at the end.
    assert!(names.mark_outgoing().len() <= 28, "{names:?}");
    assert_ne!(names, Names::of("weave2"));
}

#[test]
fn the_table_of_nftables_is_replaced_whole() {
    let text = table("weave-ipsec", &policy()).script().unwrap();
    let start = "table ip weave-ipsec\ndelete table ip weave-ipsec\ntable ip weave-ipsec {\n";
    assert!(text.starts_with(start), "{text}");
    for line in [
        "type route hook output priority -150; policy accept;",
        "ip saddr 192.168.48.11 ip daddr 192.168.48.12 udp dport 6784 meta mark set meta mark | \
         0x20000",
        "ip saddr 192.168.48.12 ip daddr 192.168.48.11 udp dport 6784 meta mark & 0x20000 == 0 drop",
        "ip saddr 192.168.48.12 ip daddr 192.168.48.11 esp spi 3735928559 meta mark set meta mark \
         | 0x20000",
        "ip protocol != esp meta mark & 0x20000 == 0x20000 rt ipsec missing drop",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
}
