//! The bridge, its ports and settings of the host, in network namespaces that each test makes
//! for itself. Needs root; what the kernel shows is read with `ip`.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;
#[path = "common/host.rs"]
mod host;

use std::os::fd::AsRawFd;

use serde_json::Value;
use weave_host::{
    Attachment, BRIDGE_NAME, BridgeClaim, BridgeConfig, Cidr, Condition, Forwarding, HostError,
    Layout, MendedPort, Origin, PortFault, Ports, attach, automatic_mtu, condition, detect_layout,
    endpoints, forwarding, interface_peer_name, join, mend_ports, overlapping_route,
    prepare_bridge, prepare_capture_pair, remove_capture_pair, reset,
};

use common::isolated;
use host::{Container, MAC, attachment, config, ip, link, veths};

const TAP_NAME: &str = "vethwe-tap";
const CAPTURE_BRIDGE_END: &str = "vethwe-bridge";
const CAPTURE_ROUTER_END: &str = "vethwe-pcap";

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

fn has_flag(link: &Value, flag: &str) -> bool {
    link["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == flag))
}
