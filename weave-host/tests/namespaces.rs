//! What the crate does to a host, done to network namespaces that each test makes for itself.
//! Needs root; what the kernel shows is read with `ip`.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use std::fs::File;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;
use weave_core::wire::MacAddress;
use weave_host::{
    Attachment, BRIDGE_NAME, BridgeClaim, BridgeConfig, Cidr, Condition, Forwarding, HostError,
    Layout, MendedPort, Namespace, Origin, PROBE_TIME, PortFault, Ports, attach, attached_ids,
    automatic_mtu, condition, detach, detect_layout, endpoints, forwarding, holder_of,
    interface_peer_name, join, mend_ports, overlapping_route, prepare_bridge, prepare_capture_pair,
    remove_capture_pair, remove_port_of, remove_unnoted_port, reset,
};

use common::isolated;

const TAP_NAME: &str = "vethwe-tap";
const CAPTURE_BRIDGE_END: &str = "vethwe-bridge";
const CAPTURE_ROUTER_END: &str = "vethwe-pcap";
const MAC: MacAddress = MacAddress([0x7a, 0x9f, 0xeb, 0xb6, 0x0c, 0x6e]);

fn config(mtu: u32) -> BridgeConfig {
    BridgeConfig { name: BRIDGE_NAME.to_owned(), mac: MAC, mtu }
}

#[test]
fn the_bridge_is_made_once_and_then_adopted() {
    isolated(|| {
        assert_eq!(detect_layout(BRIDGE_NAME).unwrap(), Layout::None);
        assert_eq!(prepare_bridge(&config(65_521)).unwrap(), Origin::Created);
        let bridge = link(BRIDGE_NAME).unwrap();
        assert_eq!(bridge["linkinfo"]["info_kind"], "bridge");
        assert_eq!(bridge["address"], MAC.to_string());
        assert_eq!(bridge["mtu"], 65_521);
        assert!(has_flag(&bridge, "UP"));
        assert_eq!(detect_layout(BRIDGE_NAME).unwrap(), Layout::Bridge);

        assert_eq!(prepare_bridge(&config(1376)).unwrap(), Origin::Adopted);
        let again = link(BRIDGE_NAME).unwrap();
        assert_eq!(again["ifindex"], bridge["ifindex"]);
        assert_eq!(again["mtu"], 1376);
        assert_eq!(
            interface_peer_name(BRIDGE_NAME).unwrap().map(|name| name.to_string()),
            Some(MAC.to_string())
        );
    });
}

#[test]
fn a_bridge_has_one_router() {
    isolated(|| {
        let claim = BridgeClaim::acquire(BRIDGE_NAME).unwrap();
        let error = BridgeClaim::acquire(BRIDGE_NAME).unwrap_err();
        assert!(matches!(error, HostError::Claimed { .. }), "{error}");
        BridgeClaim::acquire("other").unwrap();
        isolated(|| drop(BridgeClaim::acquire(BRIDGE_NAME).unwrap()));
        drop(claim);
        BridgeClaim::acquire(BRIDGE_NAME).unwrap();
    });
}

#[test]
fn a_foreign_interface_of_that_name_is_left_alone() {
    isolated(|| {
        ip(&["link", "add", BRIDGE_NAME, "type", "veth", "peer", "name", "other"]);
        let error = prepare_bridge(&config(1376)).unwrap_err();
        assert!(matches!(error, HostError::Inconsistent { .. }), "{error}");
        assert_eq!(reset(BRIDGE_NAME).unwrap(), Vec::<String>::new());
        assert!(link(BRIDGE_NAME).is_some());
    });
}

#[test]
fn a_wide_port_leaves_mtu_and_address_of_the_bridge_alone() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        ip(&["tuntap", "add", "dev", TAP_NAME, "mode", "tap"]);
        join(BRIDGE_NAME, TAP_NAME).unwrap();
        join(BRIDGE_NAME, TAP_NAME).unwrap();
        let tap = link(TAP_NAME).unwrap();
        assert_eq!(tap["master"], BRIDGE_NAME);
        assert_eq!(tap["mtu"], 65_521);
        assert!(has_flag(&tap, "UP"));
        let bridge = link(BRIDGE_NAME).unwrap();
        assert_eq!(bridge["address"], MAC.to_string());
        assert_eq!(bridge["mtu"], 1376);
    });
}

#[test]
fn the_capture_pair_comes_and_goes() {
    isolated(|| {
        prepare_bridge(&config(9000)).unwrap();
        prepare_capture_pair(BRIDGE_NAME).unwrap();
        let port = link(CAPTURE_BRIDGE_END).unwrap();
        assert_eq!(port["master"], BRIDGE_NAME);
        for name in [CAPTURE_BRIDGE_END, CAPTURE_ROUTER_END] {
            let end = link(name).unwrap();
            assert_eq!(end["mtu"], 65_535);
            assert!(has_flag(&end, "LOWER_UP"), "{end}");
        }

        prepare_capture_pair(BRIDGE_NAME).unwrap();
        assert_eq!(link(CAPTURE_BRIDGE_END).unwrap()["ifindex"], port["ifindex"]);

        remove_capture_pair(BRIDGE_NAME).unwrap();
        remove_capture_pair(BRIDGE_NAME).unwrap();
        assert!(link(CAPTURE_ROUTER_END).is_none());
    });
}

#[test]
fn attached_containers_reach_each_other() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let [a, b] = [Container::new(), Container::new()];
        let attached =
            attach(&a.namespace(), &attachment(&["10.32.0.1/24", "fd00::1/64"])).unwrap();
        assert!(attached.created);
        assert_eq!(attached.added.len(), 2);
        attach(&b.namespace(), &attachment(&["10.32.0.2/24"])).unwrap();

        let listening = a.run(|| {
            let socket = UdpSocket::bind("10.32.0.1:7000").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        });
        b.run(|| {
            let socket = UdpSocket::bind("10.32.0.2:7001").unwrap();
            socket.send_to(b"hello", "10.32.0.1:7000").unwrap();
        });
        let mut buffer = [0; 16];
        let (length, from) = listening.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.ip()), (&b"hello"[..], "10.32.0.2".parse().unwrap()));

        a.run(|| {
            let ethwe = link("ethwe").unwrap();
            assert_eq!(ethwe["mtu"], 1376);
            let routes = ip(&["-j", "route", "show", "224.0.0.0/4"]);
            assert_eq!(routes[0]["dev"], "ethwe");
            assert_eq!(routes[0]["scope"], "link");
        });
    });
}

#[test]
fn the_neighbours_hear_of_a_new_address() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        ip(&["address", "add", "10.32.0.99/24", "dev", BRIDGE_NAME]);
        let container = Container::new();
        // The first makes the interface, the second comes to it.
        for (ip_address, cidr) in [("10.32.0.1", "10.32.0.1/24"), ("10.32.0.2", "10.32.0.2/24")] {
            // An entry that is wrong and known to be used: only an announcement mends it.
            let stale = "02:00:00:00:00:99";
            ip(&["neigh", "add", ip_address, "lladdr", stale, "dev", BRIDGE_NAME, "nud", "stale"]);
            attach(&container.namespace(), &attachment(&[cidr])).unwrap();
            let mac = container.run(|| link("ethwe").unwrap()["address"].clone());
            let neighbours = ip(&["-j", "neigh", "show", ip_address, "dev", BRIDGE_NAME]);
            assert_eq!(neighbours[0]["lladdr"], mac);
        }
    });
}

#[test]
fn attaching_again_only_adds() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let container = Container::new();
        attach(&container.namespace(), &attachment(&["10.32.0.1/24"])).unwrap();
        let first = container.run(|| link("ethwe").unwrap()["ifindex"].clone());
        let again =
            attach(&container.namespace(), &attachment(&["10.32.0.1/24", "10.33.0.1/16"])).unwrap();
        assert!(!again.created);
        assert_eq!(again.added, ["10.33.0.1/16".parse::<Cidr>().unwrap()]);
        container.run(|| {
            assert_eq!(link("ethwe").unwrap()["ifindex"], first);
            assert_eq!(addresses("ethwe"), ["10.32.0.1/24", "10.33.0.1/16"]);
        });
    });
}

#[test]
fn detaching_takes_the_interface_with_the_last_address() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let container = Container::new();
        let namespace = container.namespace();
        attach(&namespace, &attachment(&["10.32.0.1/24", "10.33.0.1/16", "fd00::1/64"])).unwrap();

        let one = detach(&namespace, BRIDGE_NAME, &["10.32.0.1/24".parse().unwrap()]).unwrap();
        assert_eq!((one.removed.len(), one.interface_removed), (1, false));
        container.run(|| assert_eq!(addresses("ethwe"), ["10.33.0.1/16", "fd00::1/64"]));

        let rest = detach(&namespace, BRIDGE_NAME, &[]).unwrap();
        assert_eq!((rest.removed.len(), rest.interface_removed), (2, true));
        container.run(|| assert!(link("ethwe").is_none()));
        assert_eq!(veths(), Vec::<String>::new());

        let nothing = detach(&namespace, BRIDGE_NAME, &[]).unwrap();
        assert_eq!((nothing.removed.len(), nothing.interface_removed), (0, false));
    });
}

#[test]
fn a_bridge_that_somebody_removed_is_made_again() {
    isolated(|| {
        let config = config(1376);
        let make = || {
            prepare_bridge(&config).unwrap();
            join(BRIDGE_NAME, TAP_NAME).unwrap();
        };
        let found = || condition(&config, TAP_NAME).unwrap();
        assert_eq!(found(), Condition::NoPort);
        ip(&["tuntap", "add", "dev", TAP_NAME, "mode", "tap"]);
        assert_eq!(found(), Condition::Damaged);
        make();
        let container = Container::new();
        attach(&container.namespace(), &attachment(&["10.32.0.1/24"])).unwrap();
        assert_eq!(found(), Condition::InOrder);

        for damage in [
            &["link", "del", BRIDGE_NAME][..],
            &["link", "set", BRIDGE_NAME, "down"],
            &["link", "set", BRIDGE_NAME, "address", "02:00:00:00:00:01"],
            &["link", "set", BRIDGE_NAME, "mtu", "1000"],
            &["link", "set", TAP_NAME, "nomaster"],
            &["link", "set", TAP_NAME, "mtu", "1000"],
            &["link", "set", TAP_NAME, "type", "bridge_slave", "flood", "off"],
            &["link", "set", TAP_NAME, "type", "bridge_slave", "bcast_flood", "off"],
            &["link", "set", TAP_NAME, "type", "bridge_slave", "learning", "off"],
            &["link", "set", TAP_NAME, "type", "bridge_slave", "isolated", "off"],
        ] {
            ip(damage);
            assert_eq!(found(), Condition::Damaged, "{damage:?}");
            make();
            assert_eq!(found(), Condition::InOrder, "{damage:?}");
            for port in veths() {
                assert_eq!(link(&port).unwrap()["master"], BRIDGE_NAME, "{damage:?}");
            }
        }
    });
}

#[test]
fn ports_of_containers_are_mended() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let [one, two] = [Container::new(), Container::new()];
        attach(&one.namespace(), &attachment(&["10.32.0.1/24"])).unwrap();
        let port = veths().pop().unwrap();
        attach(&two.namespace(), &attachment(&["10.32.0.2/24"])).unwrap();
        assert_eq!(mend_ports(BRIDGE_NAME).unwrap().mended, []);
        assert_eq!(mend_ports(BRIDGE_NAME).unwrap().there.len(), 2);
        let file = format!("/proc/{}/fd/{}", std::process::id(), one.0.as_raw_fd());
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(proc.path().join("17/ns")).unwrap();
        std::os::unix::fs::symlink(&file, proc.path().join("17/ns/net")).unwrap();
        let option = |option| ["link", "set", &port, "type", "bridge_slave", option, "off"];
        for (damage, fault) in [
            (&["link", "set", &port, "nomaster"][..], PortFault::OffBridge),
            (&["link", "set", &port, "down"], PortFault::Down),
            (&option("learning"), PortFault::Filtered),
            (&option("flood"), PortFault::Filtered),
            (&option("mcast_flood"), PortFault::Filtered),
        ] {
            for by_hand in [false, true] {
                ip(damage);
                let listed = endpoints(BRIDGE_NAME, proc.path()).unwrap();
                let faults: Vec<_> = listed.iter().flat_map(|found| &found.faults).collect();
                assert_eq!(faults, [&fault], "{damage:?}");
                if by_hand {
                    attach(&one.namespace(), &attachment(&["10.32.0.1/24"])).unwrap();
                } else {
                    let faults = vec![fault];
                    let expected = [MendedPort { name: port.clone(), faults }];
                    assert_eq!(mend_ports(BRIDGE_NAME).unwrap().mended, expected, "{damage:?}");
                }
                assert_eq!(mend_ports(BRIDGE_NAME).unwrap().mended, [], "{damage:?}");
                assert_eq!(link(&port).unwrap()["master"], BRIDGE_NAME);
            }
        }
        // What somebody uses elsewhere is theirs, and what is gone is no damage.
        ip(&["link", "add", "other", "type", "bridge"]);
        ip(&["link", "set", &port, "master", "other"]);
        assert_eq!(mend_ports(BRIDGE_NAME).unwrap().mended, []);
        assert_eq!(mend_ports("nowhere").unwrap(), Ports::default());
    });
}

#[test]
fn forwarding_is_switched_on_if_it_may_be() {
    isolated(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        assert_eq!(forwarding(false).unwrap(), Forwarding::Off);
        assert_eq!(forwarding(true).unwrap(), Forwarding::SwitchedOn);
        assert_eq!(forwarding(true).unwrap(), Forwarding::On);
        assert_eq!(forwarding(false).unwrap(), Forwarding::On);
    });
}

#[test]
fn a_foreign_interface_in_a_container_is_left_alone() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        prepare_bridge(&BridgeConfig { name: "other".to_owned(), ..config(1376) }).unwrap();
        let refused = |container: &Container, expected: &str| {
            let before = container.run(|| (link("ethwe"), addresses("ethwe")));
            let namespace = container.namespace();
            let errors = [
                attach(&namespace, &attachment(&["10.32.0.9/24"])).unwrap_err(),
                detach(&namespace, BRIDGE_NAME, &[]).unwrap_err(),
            ];
            for error in errors {
                let text = error.to_string();
                assert!(matches!(error, HostError::ForeignInterface { .. }), "{text}");
                assert!(text.contains(expected) && text.lines().count() == 1, "{text}");
            }
            assert_eq!(container.run(|| (link("ethwe"), addresses("ethwe"))), before);
        };

        let bridge = Container::new();
        bridge.run(|| ip(&["link", "add", "ethwe", "type", "bridge"]));
        refused(&bridge, "was not made by `weave attach`");

        let of_other = Container::new();
        let there = Attachment { bridge: "other".to_owned(), ..attachment(&["10.32.0.1/24"]) };
        attach(&of_other.namespace(), &there).unwrap();
        refused(&of_other, "is on bridge other, not on weave");
        let port = veths().pop().unwrap();
        ip(&["link", "del", "other"]);
        refused(&of_other, "on no bridge");
        prepare_bridge(&config(1376)).unwrap();
        assert!(link(&port).unwrap()["master"].is_null(), "it is not ours to connect");
        detach(&of_other.namespace(), "other", &[]).unwrap();

        // Two hosts made alike: the interfaces have the same indexes on both.
        let [ours, theirs] = [Container::new(), Container::new()];
        isolated(|| {
            prepare_bridge(&config(1376)).unwrap();
            prepare_bridge(&BridgeConfig { name: "other".to_owned(), ..config(1376) }).unwrap();
            attach(&theirs.namespace(), &attachment(&["10.32.0.1/24"])).unwrap();
            attach(&ours.namespace(), &attachment(&["10.32.0.2/24"])).unwrap();
            isolated(|| {
                prepare_bridge(&config(1376)).unwrap();
                refused(&theirs, "on another host");
            });
            detach(&theirs.namespace(), BRIDGE_NAME, &[]).unwrap();
        });

        let by_hand = Container::new();
        let path = format!("/proc/{}/fd/{}", std::process::id(), by_hand.0.as_raw_fd());
        ip(&["link", "add", "v", "type", "veth", "peer", "name", "ethwe", "netns", &path]);
        refused(&by_hand, "v on no bridge");
        ip(&["link", "set", "v", "master", BRIDGE_NAME]);
        // What the original, or somebody by hand, plugged in is as good as ours.
        attach(&by_hand.namespace(), &attachment(&["10.32.0.3/24"])).unwrap();
        detach(&by_hand.namespace(), BRIDGE_NAME, &[]).unwrap();
    });
}

#[test]
fn every_interface_of_a_container_is_found_and_known_to_be_there() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let container = Container::new();
        let file = format!("/proc/{}/fd/{}", std::process::id(), container.0.as_raw_fd());
        attach(&container.namespace(), &attachment(&["10.32.0.1/24"])).unwrap();
        // As a runtime has it, and as the original and somebody by hand made it.
        let eth0 = Attachment { interface: "eth0".to_owned(), ..attachment(&["10.32.0.2/24"]) };
        attach(&container.namespace(), &eth0).unwrap();
        for (name, host_end) in [("old", "vethwepl4711"), ("v1", "by-hand")] {
            ip(&["link", "add", host_end, "type", "veth", "peer", "name", name, "netns", &file]);
            ip(&["link", "set", host_end, "master", BRIDGE_NAME, "up"]);
        }
        container.run(|| ip(&["address", "add", "10.32.0.3/24", "dev", "old"]));
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(proc.path().join("17/ns")).unwrap();
        std::os::unix::fs::symlink(&file, proc.path().join("17/ns/net")).unwrap();
        let found = endpoints(BRIDGE_NAME, proc.path()).unwrap();
        let mut addresses: Vec<_> = found
            .iter()
            .flat_map(|found| found.addresses.iter().map(|cidr| cidr.address().to_string()))
            .collect();
        addresses.sort();
        assert_eq!(addresses, ["10.32.0.1", "10.32.0.2", "10.32.0.3"]);
        let ids: std::collections::BTreeSet<_> =
            found.iter().map(|found| found.id.clone()).collect();
        assert_eq!(ids, attached_ids().unwrap());
        assert!(found.iter().all(|found| found.namespace == container.namespace().id()));
        assert!(ids.contains(&container.namespace().id()) && ids.contains("4711"), "{ids:?}");
    });
}

#[test]
fn the_note_on_a_port_says_whose_interface_it_is() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let [a, b, old] = [Container::new(), Container::new(), Container::new()];
        let held = |holder: Option<&str>, address: &str| Attachment {
            interface: "eth0".to_owned(),
            holder: holder.map(str::to_owned),
            ..attachment(&[address])
        };
        let of_a = held(Some("a"), "10.32.0.1/24");
        attach(&a.namespace(), &of_a).unwrap();
        attach(&b.namespace(), &held(Some("b"), "10.32.0.2/24")).unwrap();
        attach(&old.namespace(), &held(None, "10.32.0.3/24")).unwrap();
        let there = attached_ids().unwrap();
        assert!(there.contains("a") && there.contains("b"), "{there:?}");
        // By a path that leads to another container by now.
        let error = attach(&b.namespace(), &of_a).unwrap_err().to_string();
        assert!(error.contains("was made for b, not for a"), "{error}");
        assert!(!attach(&a.namespace(), &of_a).unwrap().created);
        let addresses = ["10.32.0.1/24", "10.32.0.2/24"].map(|text| text.parse().unwrap());
        let unnoted = |container: &Container, addresses: &[Cidr]| {
            remove_unnoted_port(&container.namespace(), BRIDGE_NAME, "eth0", addresses).unwrap()
        };
        assert!(!unnoted(&b, &addresses) && !unnoted(&old, &addresses));
        assert!(remove_port_of("a").unwrap() && !remove_port_of("a").unwrap());
        assert_eq!((a.run(|| link("eth0")), b.run(|| link("eth0")).is_some()), (None, true));
        // Whoever is given the one of an earlier version notes himself on it.
        attach(&old.namespace(), &held(Some("old"), "10.32.0.3/24")).unwrap();
        assert!(!unnoted(&old, &["10.32.0.3/24".parse().unwrap()]));
        assert!(remove_port_of("old").unwrap());
        attach(&old.namespace(), &held(None, "10.32.0.3/24")).unwrap();
        assert!(unnoted(&old, &["10.32.0.3/24".parse().unwrap()]));
        assert!(!attached_ids().unwrap().contains("old") && remove_port_of("b").unwrap());
        assert_eq!(veths(), [] as [&str; 0]);
    });
}

#[test]
fn two_interfaces_of_a_container_answer_for_their_own_addresses() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let container = Container::new();
        container.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap());
        let settings = |interface: &str| {
            container.run(|| {
                ["arp_ignore", "arp_announce", "rp_filter"].map(|setting| {
                    let path = format!("/proc/sys/net/ipv4/conf/{interface}/{setting}");
                    std::fs::read_to_string(path).unwrap().trim().to_owned()
                })
            })
        };
        let wanted = |interface: &str, address: &str| Attachment {
            interface: interface.to_owned(),
            mac: Some(MacAddress([2, 0, 0, 0, 0, 9])),
            ..attachment(&[address])
        };
        let first = attach(&container.namespace(), &wanted("eth0", "10.32.0.1/24")).unwrap();
        assert_eq!(first.container_end.mac, MacAddress([2, 0, 0, 0, 0, 9]));
        // Alone, it answers for whatever the container has, as others do.
        assert_eq!(settings("eth0")[..2], ["0", "0"]);
        attach(&container.namespace(), &attachment(&["10.32.0.2/24"])).unwrap();
        for interface in ["eth0", "ethwe"] {
            assert_eq!(settings(interface), ["1", "2", "2"], "{interface}");
        }
    });
}

#[test]
fn an_interface_that_was_renamed_is_no_left_over() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let container = Container::new();
        let first = attach(&container.namespace(), &attachment(&["10.32.0.1/24"])).unwrap();
        container.run(|| {
            ip(&["link", "set", "ethwe", "down"]);
            ip(&["link", "set", "ethwe", "name", "mine"]);
        });
        let again = attach(&container.namespace(), &attachment(&["10.32.0.2/24"]));
        let error = again.unwrap_err().to_string();
        assert!(error.contains("has another name in the container by now"), "{error}");
        assert_eq!(veths(), std::slice::from_ref(&first.host_end.name));
        // What was interrupted before it had its name is made again.
        let guest = first.host_end.name.replace("vethwepl", "vethwepg");
        container.run(|| ip(&["link", "set", "mine", "name", &guest]));
        assert!(attach(&container.namespace(), &attachment(&["10.32.0.2/24"])).unwrap().created);
    });
}

#[test]
fn reset_leaves_another_bridge_alone() {
    isolated(|| {
        let [ours, theirs] = [Container::new(), Container::new()];
        for (bridge, container) in [(BRIDGE_NAME, &ours), ("other", &theirs)] {
            prepare_bridge(&BridgeConfig { name: bridge.to_owned(), ..config(1376) }).unwrap();
            assert_eq!(prepare_capture_pair(bridge).unwrap(), Origin::Created);
            let attachment =
                Attachment { bridge: bridge.to_owned(), ..attachment(&["10.32.0.1/24"]) };
            attach(&container.namespace(), &attachment).unwrap();
        }
        assert_eq!(reset("other").unwrap().len(), 4);
        assert!(theirs.run(|| link("ethwe")).is_none());
        assert!(ours.run(|| link("ethwe")).is_some());
        assert_eq!(veths().len(), 3);
        assert!(link(BRIDGE_NAME).is_some() && link("other").is_none());
    });
}

#[test]
fn a_failed_attach_leaves_nothing() {
    isolated(|| {
        let container = Container::new();
        let error = attach(&container.namespace(), &attachment(&["10.32.0.1/24"])).unwrap_err();
        assert!(error.to_string().contains("start the router first"), "{error}");
        assert_eq!(veths(), Vec::<String>::new());

        prepare_bridge(&config(1376)).unwrap();
        attach(&container.namespace(), &attachment(&[])).unwrap();
        let taken = veths().pop().unwrap().replace("vethwepl", "vethwepg");
        detach(&container.namespace(), BRIDGE_NAME, &[]).unwrap();
        container.run(|| ip(&["link", "add", "name", &taken, "type", "bridge"]));
        let failed = attach(&container.namespace(), &attachment(&["10.32.0.1/24"]));
        assert!(failed.is_err());
        assert_eq!(veths(), Vec::<String>::new());
    });
}

#[test]
fn what_an_interrupted_attach_left_does_not_stop_the_next() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let container = Container::new();
        attach(&container.namespace(), &attachment(&[])).unwrap();
        let host_end = veths().pop().unwrap();
        detach(&container.namespace(), BRIDGE_NAME, &[]).unwrap();

        let guest_end = host_end.replace("vethwepl", "vethwepg");
        let pair = ["link", "add", &host_end, "type", "veth", "peer", "name", &guest_end];
        let path = format!("/proc/{}/fd/{}", std::process::id(), container.0.as_raw_fd());
        for place in [&[][..], &["netns", &path]] {
            ip(&[&pair[..], place].concat());
            let attached = attach(&container.namespace(), &attachment(&["10.32.0.1/24"])).unwrap();
            assert!(attached.created);
            container.run(|| assert!(link(&guest_end).is_none() && link("ethwe").is_some()));
            detach(&container.namespace(), BRIDGE_NAME, &[]).unwrap();
        }
        attach(&container.namespace(), &attachment(&["10.32.0.1/24"])).unwrap();

        ip(&["link", "add", "vethweplstale", "type", "veth", "peer", "name", "vethwepgstale"]);
        prepare_bridge(&config(1376)).unwrap();
        assert_eq!(veths(), [host_end]);
    });
}

#[test]
fn reset_removes_everything_of_ours_and_nothing_else() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        prepare_capture_pair(BRIDGE_NAME).unwrap();
        let container = Container::new();
        attach(&container.namespace(), &attachment(&["10.32.0.1/24"])).unwrap();
        ip(&["link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]);
        ip(&["link", "add", "br0", "type", "bridge"]);

        let removed = reset(BRIDGE_NAME).unwrap();
        assert!(removed.contains(&BRIDGE_NAME.to_owned()), "{removed:?}");
        assert_eq!(detect_layout(BRIDGE_NAME).unwrap(), Layout::None);
        assert_eq!(veths(), ["veth0", "veth1"]);
        assert!(link("br0").is_some());
        container.run(|| assert!(link("ethwe").is_none()));
        assert_eq!(reset(BRIDGE_NAME).unwrap(), Vec::<String>::new());
    });
}

#[test]
fn the_automatic_mtu_looks_at_the_underlay() {
    isolated(|| {
        ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "wire"]);
        ip(&["link", "set", "eth0", "mtu", "9000", "up"]);
        ip(&["link", "set", "wire", "up"]);
        assert_eq!(automatic_mtu(BRIDGE_NAME).unwrap(), 1376);
        ip(&["address", "add", "192.0.2.1/24", "dev", "eth0"]);
        ip(&["route", "add", "default", "via", "192.0.2.2"]);
        assert_eq!(automatic_mtu(BRIDGE_NAME).unwrap(), 8876);
    });
}

#[test]
fn an_address_that_somebody_has_is_not_given_to_a_container() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let [first, second] = [Container::new(), Container::new()];
        let probing =
            |addresses: &[&str]| Attachment { probe: Some(PROBE_TIME), ..attachment(addresses) };
        let attached = attach(&first.namespace(), &probing(&["10.32.0.1/24"])).unwrap();
        assert_eq!(attached_ids().unwrap(), [first.namespace().id()].into());
        let both = probing(&["10.32.0.2/24", "10.32.0.1/24"]);
        let error = attach(&second.namespace(), &both).unwrap_err();
        assert!(matches!(error, HostError::AddressInUse { .. }), "{error}");
        let expected = format!(
            "10.32.0.1 is in use already, by the interface with the Ethernet address {}",
            attached.container_end.mac
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(veths(), [attached.host_end.name]);
        let holder = |text: &str| holder_of(BRIDGE_NAME, text.parse().unwrap()).unwrap();
        assert_eq!(holder("10.32.0.1"), Some(attached.container_end.mac));
        assert_eq!(holder("10.32.0.2"), None);
        // What it has itself is no conflict.
        let again = attach(&first.namespace(), &probing(&["10.32.0.1/24"])).unwrap();
        assert_eq!(again.added, []);
        detach(&first.namespace(), BRIDGE_NAME, &[]).unwrap();
        assert_eq!(attached_ids().unwrap(), [].into());
        attach(&second.namespace(), &both).unwrap();
    });
}

#[test]
fn routes_that_a_range_hides_are_found() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let overlapping = |range: &str| {
            let range = Cidr::network(range).unwrap();
            let found = overlapping_route(range, BRIDGE_NAME).unwrap();
            found.map(|route| format!("{} {}", route.destination, route.interface))
        };
        ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "wire"]);
        ip(&["link", "set", "eth0", "up"]);
        ip(&["link", "set", "wire", "up"]);
        ip(&["address", "add", "10.40.1.1/24", "dev", "eth0"]);
        ip(&["route", "add", "default", "via", "10.40.1.2"]);
        ip(&["address", "add", "10.32.0.1/12", "dev", BRIDGE_NAME]);
        for range in ["10.32.0.0/12", "10.40.1.0/24", "10.40.1.128/25"] {
            assert_eq!(overlapping(range), Some("10.40.1.0/24 eth0".to_owned()), "{range}");
        }
        assert_eq!(overlapping("10.48.0.0/12"), None);
        assert_eq!(overlapping("192.168.0.0/16"), None);
    });
}

fn attachment(addresses: &[&str]) -> Attachment {
    Attachment {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        multicast_route: true,
        ..Attachment::new(BRIDGE_NAME)
    }
}

/// A network namespace that lives as long as this.
struct Container(File);

impl Container {
    fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self(thread::spawn(make).join().unwrap())
    }

    fn namespace(&self) -> Namespace {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Namespace::find(&path, Path::new("/proc")).unwrap()
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// Runs `ip` in the namespace of this thread.
fn ip(arguments: &[&str]) -> Value {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ip {arguments:?}: {complaint}");
    if output.stdout.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn links() -> Vec<Value> {
    match ip(&["-j", "-d", "link", "show"]) {
        Value::Array(links) => links,
        other => panic!("not a list: {other}"),
    }
}

fn link(name: &str) -> Option<Value> {
    links().into_iter().find(|link| link["ifname"] == name)
}

fn has_flag(link: &Value, flag: &str) -> bool {
    link["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == flag))
}

/// The names of all veth interfaces.
fn veths() -> Vec<String> {
    let mut names: Vec<_> = links()
        .iter()
        .filter(|link| link["linkinfo"]["info_kind"] == "veth")
        .filter_map(|link| link["ifname"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// The addresses of an interface but the link-local ones, sorted.
fn addresses(name: &str) -> Vec<String> {
    let shown = ip(&["-j", "address", "show", "dev", name]);
    let mut addresses: Vec<_> = shown[0]["addr_info"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|address| address["scope"] == "global")
        .map(|address| {
            let ip: IpAddr = address["local"].as_str().unwrap().parse().unwrap();
            format!("{ip}/{}", address["prefixlen"])
        })
        .collect();
    addresses.sort();
    addresses
}
