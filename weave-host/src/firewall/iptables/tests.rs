//! From rules that are there to rules that should be, with a model of `iptables-restore`.

use super::super::policy::{ClosedPorts, HostAddress, VxlanSenders};
use super::*;
use weave_firewall::iptables::{Listing, removal, transaction};

fn policy() -> Policy {
    Policy {
        bridge: "weave".to_owned(),
        control_port: Some(6784),
        docker: Some("docker0".to_owned()),
        closed: closed_to(&["docker0", "weave"]),
        vxlan: Some(VxlanSenders {
            ports: [6784].into(),
            neighbours: [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()].into(),
        }),
        routed: true,
        exposed: vec![
            HostAddress { cidr: "10.32.0.1/12".parse().unwrap(), masquerade: true },
            HostAddress { cidr: "10.50.0.1/16".parse().unwrap(), masquerade: false },
        ],
    }
}

fn closed_to(bridges: &[&str]) -> ClosedPorts {
    let bridges = bridges.iter().map(|&bridge| bridge.to_owned()).collect();
    ClosedPorts { bridges, mesh: 6783, transports: [].into(), control: None }
}

/// Returns the chains every host has.
fn bare_host() -> Listing {
    let chains = [("filter", "INPUT"), ("filter", "FORWARD"), ("nat", "POSTROUTING")];
    chains.map(|(table, chain)| ((table, chain.to_owned()), Vec::new())).into()
}

/// Does to the listing what `iptables-restore --noflush` would do; panics where it would fail.
fn restore(listing: &mut Listing, text: &str) {
    let mut table = "";
    for line in text.lines() {
        let (command, rest) = line.split_at(1);
        let mut parts = rest.splitn(3, ' ');
        let (first, chain) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        let rest = parts.next().unwrap_or_default();
        match (command, first) {
            ("*", name) => table = if name == "nat" { "nat" } else { "filter" },
            (":", chain) => drop(listing.insert((table, chain.to_owned()), Vec::new())),
            ("C", "OMMIT") => {}
            ("-", "X") => {
                let rules = listing.remove(&(table, chain.to_owned())).unwrap();
                assert!(rules.is_empty());
                let used = listing.values().flatten().any(|rule| rule.ends_with(chain));
                assert!(!used, "{chain} is in use: {listing:?}");
            }
            ("-", command) => {
                let rules = listing.get_mut(&(table, chain.to_owned())).unwrap();
                match command {
                    "A" => rules.push(rest.to_owned()),
                    "D" => drop(rules.remove(rules.iter().position(|r| r == rest).unwrap())),
                    "F" => rules.clear(),
                    "I" => {
                        let (number, rule) = rest.split_once(' ').unwrap();
                        rules.insert(number.parse::<usize>().unwrap() - 1, rule.to_owned());
                    }
                    _ => panic!("{line}"),
                }
            }
            _ => panic!("{line}"),
        }
    }
}

fn complete(listing: &mut Listing, policy: &Policy) {
    let tables = tables(policy);
    if let Some(text) = transaction(&tables, listing) {
        restore(listing, &text);
    }
    assert_eq!(transaction(&tables, listing), None, "{listing:?}");
}

#[test]
fn the_rules_of_the_specification() {
    let mut listing = bare_host();
    complete(&mut listing, &policy());
    let rules = |table, chain: &str| listing[&(table, chain.to_owned())].join("\n");
    let comment = "-m comment --comment \"Block access of containers to Weave Net\" -j DROP";
    let closed = |out: fn(&str) -> String| {
        let bridges = ["docker0", "weave"].map(|bridge| {
            [("tcp", 6783), ("udp", 6783), ("udp", 6784)].map(|(protocol, port)| {
                let out = out(bridge);
                format!("-i {bridge} {out}-p {protocol} -m {protocol} --dport {port} {comment}\n")
            })
        });
        bridges.as_flattened().concat()
    };
    assert_eq!(
        rules("filter", "FORWARD"),
        closed(|bridge| format!("! -o {bridge} "))
            + "-i docker0 -o weave -j DROP\n\
               -i weave -o weave -j ACCEPT\n\
               -o weave -j WEAVE-EXPOSE\n\
               -i weave ! -o weave -j ACCEPT\n\
               -o weave -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    );
    assert_eq!(
        rules("filter", "INPUT") + "\n",
        "-d 127.0.0.1/32 -p tcp -m tcp --dport 6784 -m addrtype ! --src-type LOCAL -m comment \
         --comment \"Block non-local access to Weave Net control port\" -j DROP\n"
            .to_owned()
            + &closed(|_| String::new())
            + "-p udp -m udp --dport 6784 -m comment --comment \"Take VXLAN of Weave Net from \
               neighbours alone\" -j WEAVE-VXLAN\n"
    );
    assert_eq!(
        rules("filter", "WEAVE-VXLAN"),
        "-s 192.0.2.1/32 -j RETURN\n-s 192.0.2.2/32 -j RETURN\n-j DROP"
    );
    assert_eq!(
        rules("filter", "WEAVE-EXPOSE"),
        "-d 10.32.0.0/12 -j ACCEPT\n-d 10.50.0.0/16 -j ACCEPT"
    );
    assert_eq!(rules("nat", "POSTROUTING"), "-j WEAVE");
    assert_eq!(
        rules("nat", "WEAVE"),
        "-s 10.32.0.0/12 -d 224.0.0.0/4 -j RETURN\n\
         ! -s 10.32.0.0/12 -d 10.32.0.0/12 -j MASQUERADE --random-fully\n\
         -s 10.32.0.0/12 ! -d 10.32.0.0/12 -j MASQUERADE --random-fully"
    );
}

#[test]
fn whatever_was_taken_away_comes_back_and_no_more() {
    let policy = policy();
    let mut whole = bare_host();
    complete(&mut whole, &policy);
    for (key, rules) in &whole {
        for missing in 0..rules.len() {
            let mut damaged = whole.clone();
            damaged.get_mut(key).unwrap().remove(missing);
            complete(&mut damaged, &policy);
            let sorted = |listing: &Listing| {
                let mut rules = listing[key].clone();
                rules.sort();
                rules
            };
            assert_eq!(sorted(&damaged), sorted(&whole), "{key:?} {missing}");
        }
        let mut damaged = whole.clone();
        damaged.get_mut(key).unwrap().clear();
        complete(&mut damaged, &policy);
        assert_eq!(damaged, whole, "{key:?} emptied");
    }
}

#[test]
fn rules_of_others_stay_where_they_are() {
    let mut listing = bare_host();
    let forward = ("filter", "FORWARD".to_owned());
    listing.get_mut(&forward).unwrap().push("-j DOCKER-USER".to_owned());
    complete(&mut listing, &policy());
    // Somebody else comes before ours: nobody fights for the first place.
    listing.get_mut(&forward).unwrap().insert(0, "-j FIRST".to_owned());
    complete(&mut listing, &policy());
    let rules = &listing[&forward];
    assert_eq!((rules.first().unwrap().as_str(), rules.len()), ("-j FIRST", 13));
    assert_eq!(rules.last().unwrap(), "-j DOCKER-USER");
    // In the wrong order, or twice, they are put in again.
    listing.get_mut(&forward).unwrap().swap(7, 9);
    complete(&mut listing, &policy());
    assert_eq!(
        listing[&forward][10],
        "-o weave -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    );
    assert_eq!(listing[&forward].len(), 13);

    let text = removal(&leftovers("weave"), &listing).unwrap();
    restore(&mut listing, &text);
    assert_eq!(listing[&forward], ["-j FIRST", "-j DOCKER-USER"]);
    listing.get_mut(&forward).unwrap().clear();
    assert_eq!(listing, bare_host());
    assert_eq!(removal(&leftovers("weave"), &listing), None);
}

#[test]
fn two_bridges_do_not_meet() {
    let mut listing = bare_host();
    complete(&mut listing, &policy());
    let one = listing.clone();
    let other = Policy {
        bridge: "other".to_owned(),
        control_port: Some(7784),
        docker: None,
        closed: closed_to(&["other"]),
        vxlan: None,
        exposed: Vec::new(),
        routed: false,
    };
    complete(&mut listing, &other);
    assert_eq!(transaction(&tables(&policy()), &listing), None);
    let text = removal(&leftovers("other"), &listing).unwrap();
    restore(&mut listing, &text);
    assert_eq!(listing, one);
}

#[test]
fn what_drops_comes_before_what_others_accept() {
    let mut listing = bare_host();
    let accept = "-i weave -j ACCEPT".to_owned();
    for chain in ["INPUT", "FORWARD"] {
        listing.get_mut(&("filter", chain.to_owned())).unwrap().push(accept.clone());
    }
    complete(&mut listing, &policy());
    for chain in ["INPUT", "FORWARD"] {
        assert_eq!(listing[&("filter", chain.to_owned())].last(), Some(&accept), "{chain}");
    }
}

#[test]
fn a_port_that_is_no_longer_closed_is_open() {
    let mut listing = bare_host();
    complete(&mut listing, &policy());
    let moved = Policy { closed: ClosedPorts { mesh: 7000, ..closed_to(&["weave"]) }, ..policy() };
    complete(&mut listing, &moved);
    let closed = |listing: &Listing| {
        let rules = listing.values().flatten();
        rules
            .filter(|rule| rule.contains("Block access of containers"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(closed(&listing).len(), 6);
    assert!(closed(&listing).iter().all(|rule| rule.contains("--dport 700")), "{listing:?}");
    complete(&mut listing, &Policy { closed: closed_to(&[]), ..policy() });
    assert!(closed(&listing).is_empty(), "{listing:?}");
}

#[test]
fn without_vxlan_devices_nobody_is_kept_from_that_port() {
    let mut listing = bare_host();
    complete(&mut listing, &policy());
    let without = Policy { vxlan: None, ..policy() };
    complete(&mut listing, &without);
    let mut other = bare_host();
    complete(&mut other, &without);
    assert_eq!(listing, other);
}

#[test]
fn what_version_2_6_3_left_goes() {
    let mut listing = bare_host();
    let left = "-d 127.0.0.1/32 -p tcp -m addrtype ! --src-type LOCAL -m conntrack ! --ctstate \
                RELATED,ESTABLISHED -j DROP";
    listing.get_mut(&("filter", "INPUT".to_owned())).unwrap().push(left.to_owned());
    complete(&mut listing, &policy());
    assert!(!listing[&("filter", "INPUT".to_owned())].iter().any(|rule| rule == left));
}

#[test]
fn only_a_host_that_forwards_tracks_connections() {
    let mut listing = bare_host();
    // The original's way to guard the control port.
    let guard = "-d 127.0.0.1/32 -p tcp -m tcp --dport 6784 -m addrtype ! --src-type LOCAL -m \
                 conntrack ! --ctstate RELATED,ESTABLISHED -m comment --comment \"Block non-local \
                 access to Weave Net control port\" -j DROP";
    listing.get_mut(&("filter", "INPUT".to_owned())).unwrap().push(guard.to_owned());
    let alone = Policy { exposed: Vec::new(), routed: false, ..policy() };
    let tracking = |listing: &Listing| {
        listing.values().flatten().filter(|rule| rule.contains("conntrack")).count()
    };
    complete(&mut listing, &alone);
    let before = listing.clone();
    assert_eq!(tracking(&listing), 0, "{listing:?}");
    complete(&mut listing, &policy());
    assert_eq!(tracking(&listing), 1, "{listing:?}");
    complete(&mut listing, &alone);
    assert_eq!(listing, before);
}
