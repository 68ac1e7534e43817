//! The interfaces of containers, in network namespaces that each test makes
//! for itself. Needs root; what the kernel shows is read with `ip`.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;
#[path = "common/host.rs"]
mod host;

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use weave_core::wire::MacAddress;
use weave_host::{
    Attachment, BRIDGE_NAME, BridgeConfig, Cidr, HostError, PROBE_TIME, addresses_behind_ports,
    attach, attached_ids, detach, endpoints, holder_of, prepare_bridge, remove_port_of,
    remove_unnoted_port,
};

use common::isolated;
use host::{Container, attachment, config, ip, link, veths};

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
        let holder = |text: &str| holder_of(BRIDGE_NAME, text.parse().unwrap(), |_| true).unwrap();
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

/// As the router of a pod sees pods: nothing in `/proc` or in `/run/netns` leads to them.
#[test]
fn what_a_container_has_is_found_by_its_port_alone() {
    isolated(|| {
        prepare_bridge(&config(1376)).unwrap();
        let [a, b] = [Container::new(), Container::new()];
        attach(&a.namespace(), &attachment(&["10.32.0.1/12", "10.40.0.7/12"])).unwrap();
        attach(&b.namespace(), &attachment(&["10.32.0.2/12", "fd00::2/64"])).unwrap();
        let empty = tempfile::tempdir().unwrap();
        let ids = [a.namespace().id(), b.namespace().id()];
        let seen = endpoints(BRIDGE_NAME, empty.path()).unwrap();
        assert!(!seen.iter().any(|seen| ids.contains(&seen.id)), "{seen:?}");

        let found = addresses_behind_ports(BRIDGE_NAME).unwrap();
        let of = |id: &String| {
            let found = found.iter().find(|found| found.id == *id).unwrap();
            found.addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(&ids[0]), ["10.32.0.1/12", "10.40.0.7/12"]);
        assert_eq!(of(&ids[1]), ["10.32.0.2/12"]);
        assert_eq!(found.len(), 2, "{found:?}");

        // Taken from the bridge, it is in use all the same.
        ip(&["link", "set", &found[0].port, "nomaster"]);
        assert_eq!(addresses_behind_ports(BRIDGE_NAME).unwrap().len(), 2);
        assert_eq!(addresses_behind_ports("other").unwrap(), []);
    });
}
