//! Sets in the kernel, in network namespaces that each test makes for itself. Needs root, iptables
//! and ipset.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod common;

use weave_firewall::ipset::{Ipset, Set};
use weave_firewall::iptables::{Place, Shared, Table};
use weave_firewall::{Backend, Firewall, FirewallError, Outcome, Rules};

use common::{arrives, isolated, receiver, run};

fn set(elements: &[&str]) -> Set {
    Set {
        name: "weave-refused".to_owned(),
        kind: "hash:net".to_owned(),
        ipv6: false,
        elements: elements.iter().map(|&element| element.to_owned()).collect(),
    }
}

/// Drops what comes from members of the set.
fn rules() -> Rules {
    let rule = "-m set --match-set weave-refused src -j DROP".to_owned();
    let shared = vec![Shared { chain: "INPUT", rules: vec![rule], place: Place::First }];
    Rules { ipv4: vec![Table { name: "filter", shared, ..Table::default() }], ..Rules::default() }
}

#[test]
fn rules_match_what_is_in_a_set() {
    for backend in [Backend::IptablesNft, Backend::IptablesLegacy] {
        isolated(|| {
            run("ip link set lo up");
            let ipset = Ipset::open().unwrap();
            ipset.replace(&set(&["192.0.2.0/24"])).unwrap();
            let mut firewall = Firewall::open(Some(backend)).unwrap();
            assert_eq!(firewall.apply(&rules()).unwrap(), Outcome::Changed, "{backend}");
            assert_eq!(firewall.apply(&rules()).unwrap(), Outcome::InOrder, "{backend}");
            let (socket, _) = receiver();
            assert!(arrives(&socket));
            let loopback = ["127.0.0.0/8".to_owned()];
            ipset.add("weave-refused", &loopback).unwrap();
            ipset.add("weave-refused", &loopback).unwrap();
            assert!(!arrives(&socket));
            ipset.delete("weave-refused", &loopback).unwrap();
            ipset.delete("weave-refused", &loopback).unwrap();
            assert!(arrives(&socket));
            // What a rule uses is replaced, too.
            ipset.replace(&set(&["127.0.0.0/8", "198.51.100.7"])).unwrap();
            assert!(!arrives(&socket));
            ipset.replace(&set(&[])).unwrap();
            assert!(arrives(&socket));
            assert_eq!(ipset.names().unwrap(), ["weave-refused"]);

            let in_use = ipset.destroy("weave-refused");
            assert!(matches!(in_use, Err(FirewallError::Program { .. })), "{in_use:?}");
            run(&format!("{backend} -F"));
            assert!(ipset.destroy("weave-refused").unwrap());
            assert!(!ipset.destroy("weave-refused").unwrap());
        });
    }
}
