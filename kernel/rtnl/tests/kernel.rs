//! The client against the kernel, in network namespaces that each test makes for itself. Needs
//! root.
#![expect(clippy::unwrap_used, reason = "a request that fails fails its test")]

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use weave_rtnl::{
    Address, Client, Errno, Event, FdbEntry, FdbTarget, Group, Link, LinkChange, Monitor,
    PortSettings, Route, Table, VethEnd, Vxlan,
};

#[test]
fn a_bridge_and_its_port() {
    isolated(|client| {
        client.create_bridge("br0").unwrap();
        assert_eq!(client.create_bridge("br0").unwrap_err().errno(), Some(Errno::EEXIST));
        let mac = [2, 0, 0, 0, 0, 1];
        let bridge = link(client, "br0");
        for change in [LinkChange::Mac(mac), LinkChange::Mtu(1376), LinkChange::Up] {
            client.change(&bridge, change).unwrap();
        }
        client.create_veth(&VethEnd::named("port"), &VethEnd::named("end")).unwrap();
        let port = link(client, "port");
        client.change(&port, LinkChange::Controller(Some(bridge.index))).unwrap();
        client.change(&port, LinkChange::Alias("weave 3f2a")).unwrap();
        let settings =
            PortSettings { hairpin: Some(true), learning: Some(false), ..Default::default() };
        client.set_port(&port, &settings).unwrap();
        client.flush_port(&port).unwrap();
        client.set_multicast_snooping(bridge.index, false).unwrap();

        let bridge = client.link(bridge.index).unwrap().unwrap();
        assert_eq!((bridge.kind.as_str(), bridge.mac, bridge.mtu), ("bridge", Some(mac), 1376));
        assert!(bridge.up);
        let [port, end] = ["port", "end"].map(|name| link(client, name));
        assert_eq!(port.controller, Some(bridge.index));
        assert_eq!(port.alias.as_deref(), Some("weave 3f2a"));
        assert_eq!((port.peer, end.peer), (Some(end.index), Some(port.index)));
        assert!(port.port.agrees_with(&settings) && port.port.unicast_flood == Some(true));
        let ports = client.ports(bridge.index, "veth").unwrap();
        assert_eq!(ports.iter().map(|port| port.index).collect::<Vec<_>>(), [port.index]);
        assert_eq!(client.ports(bridge.index, "vxlan").unwrap(), []);

        assert!(client.delete(&end).unwrap());
        assert!(!client.delete(&port).unwrap(), "it went with the other end");
        assert_eq!(client.link_by_name("port").unwrap(), None);
    });
}

#[test]
fn an_end_is_created_in_another_namespace_or_moved_there() {
    isolated(|host| {
        let (namespace, mut container) = namespace();
        let here = VethEnd { mtu: Some(1376), ..VethEnd::named("host1") };
        let there = VethEnd { namespace: Some(&namespace), ..VethEnd::named("eth1") };
        host.create_veth(&here, &there).unwrap();
        host.create_veth(&VethEnd::named("host2"), &VethEnd::named("guest2")).unwrap();
        let guest = link(host, "guest2");
        host.change(&guest, LinkChange::Namespace(&namespace)).unwrap();
        let moved = link(&mut container, "guest2");
        container.change(&moved, LinkChange::Name("eth2")).unwrap();
        for (outer, inner) in [("host1", "eth1"), ("host2", "eth2")] {
            let (outer, inner) = (link(host, outer), link(&mut container, inner));
            assert_eq!((outer.peer, inner.peer), (Some(inner.index), Some(outer.index)));
            assert_eq!(outer.peer_namespace, host.namespace_id(&namespace).unwrap());
        }
        assert_eq!(link(host, "host1").mtu, 1376);
        let own = File::open("/proc/thread-self/ns/net").unwrap();
        let missing = VethEnd { namespace: Some(&File::open("/dev/null").unwrap()), ..there };
        let error = host.create_veth(&here, &missing).unwrap_err().to_string();
        assert!(error.starts_with("cannot create veth pair host1, eth1: "), "{error}");
        assert_eq!(host.namespace_id(&own).unwrap(), None, "nothing leads back into it");
    });
}

#[test]
fn addresses_in_a_namespace_that_has_no_name_are_listed() {
    isolated(|host| {
        let (namespace, mut container) = namespace();
        let there = VethEnd { namespace: Some(&namespace), ..VethEnd::named("eth1") };
        host.create_veth(&VethEnd::named("host1"), &there).unwrap();
        let inside = link(&mut container, "eth1");
        let address =
            |host: u8| Address { link: inside.index, ip: [10, 32, 0, host].into(), prefix: 12 };
        for host in [1, 2] {
            container.add_address(&address(host)).unwrap();
        }
        let port = link(host, "host1");
        // An interface of the same index here, with an address of its own.
        host.add_address(&Address { link: port.index, ..address(9) }).unwrap();

        let mut strict = Client::open_strict().unwrap().unwrap();
        let number = port.peer_namespace.unwrap();
        assert_eq!(
            strict.addresses_in(number, port.peer.unwrap()).unwrap(),
            [address(1), address(2)]
        );
        assert_eq!(strict.addresses_in(number, 999).unwrap(), [], "no such interface");
        assert!(strict.addresses_in(number + 1, port.peer.unwrap()).is_err(), "no such namespace");
        assert_eq!(host.addresses_in(number, inside.index).unwrap().len(), 0, "it was not read");
    });
}

#[test]
fn addresses_and_routes_are_added_once() {
    isolated(|client| {
        client.create_bridge("eth0").unwrap();
        let eth0 = link(client, "eth0");
        client.change(&eth0, LinkChange::Up).unwrap();
        let address =
            |text: &str, prefix| Address { link: eth0.index, ip: text.parse().unwrap(), prefix };
        let some = [address("10.32.0.1", 12), address("10.40.0.1", 31), address("fd00::1", 64)];
        for one in &some {
            assert!(client.add_address(one).unwrap());
            assert!(!client.add_address(one).unwrap());
        }
        let found = client.addresses(eth0.index).unwrap();
        assert!(some.iter().all(|one| found.contains(one)), "{found:?}");
        assert!(client.remove_address(&some[1]).unwrap());
        assert!(!client.remove_address(&some[1]).unwrap());
        assert!(!client.addresses(eth0.index).unwrap().contains(&some[1]));

        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let gateway = Some("10.32.0.2".parse().unwrap());
        let default = Route { link: eth0.index, destination: unspecified, prefix: 0, gateway };
        let group = "224.0.0.0".parse().unwrap();
        let multicast = Route { destination: group, prefix: 4, gateway: None, ..default };
        for route in [default, multicast] {
            assert!(client.add_route(&route).unwrap());
            assert!(!client.add_route(&route).unwrap());
            assert!(client.routes().unwrap().contains(&route));
        }
        let mixed = Route { gateway: Some("fd00::2".parse().unwrap()), ..default };
        let error = client.add_route(&mixed).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot add the route to 0.0.0.0/0 by fd00::2: the gateway is not of the same family"
        );
    });
}

#[test]
fn stations_have_hosts_and_ports() {
    isolated(|client| {
        client.create_bridge("br0").unwrap();
        let bridge = link(client, "br0");
        client.change(&bridge, LinkChange::Up).unwrap();
        let bridge = bridge.index;
        let local = Ipv4Addr::new(192, 0, 2, 1);
        let vxlan = Vxlan { name: "vx0", vni: 7, local, port: 6784, ttl: 64, mtu: 1376 };
        client.create_vxlan(&vxlan).unwrap();
        let device = link(client, "vx0");
        assert_eq!((device.kind.as_str(), device.mtu), ("vxlan", 1376));
        let settings = (device.vxlan.vni, device.vxlan.local, device.vxlan.port);
        assert_eq!(settings, (Some(7), Some(local), Some(6784)));
        assert_eq!(client.fdb_entry(device.index, [0; 6]).unwrap(), None);
        let remote = Ipv4Addr::new(192, 0, 2, 2);
        let target = FdbTarget::Host { address: remote, vni: 9 };
        let entry = FdbEntry { link: device.index, mac: [0; 6], target };
        client.add_fdb_entry(&entry).unwrap();
        let found = client.fdb_entry(device.index, [0; 6]).unwrap().unwrap();
        assert_eq!((found.destination, found.vni), (Some(remote.into()), Some(9)));
        assert!(found.permanent);

        client.change(&device, LinkChange::Controller(Some(bridge))).unwrap();
        // A port that is down takes no entries.
        client.change(&device, LinkChange::Up).unwrap();
        let mac = [2, 0, 0, 0, 0, 9];
        client.add_fdb_entry(&FdbEntry { mac, target: FdbTarget::Port, ..entry }).unwrap();
        let stations = client.neighbours(Table::Forwarding).unwrap();
        let station = stations.iter().find(|station| station.mac == Some(mac)).unwrap();
        assert_eq!((station.link, station.controller), (device.index, Some(bridge)));
        assert!(!station.permanent);
        assert!(client.remove_fdb_entry(device.index, mac).unwrap());
        assert!(!client.remove_fdb_entry(device.index, mac).unwrap());
        let stations = client.neighbours(Table::Forwarding).unwrap();
        assert!(stations.iter().all(|station| station.mac != Some(mac)));
        assert_eq!(client.neighbours(Table::Ipv4).unwrap(), []);
    });
}

#[test]
fn changes_are_seen_in_their_order() {
    isolated(|client| {
        let groups = [Group::Links, Group::Addresses, Group::Routes, Group::Neighbours];
        let mut monitor = Monitor::open(&groups).unwrap();
        assert_eq!(monitor.poll_event().unwrap(), None);
        client.create_bridge("eth0").unwrap();
        let eth0 = link(client, "eth0");
        client.change(&eth0, LinkChange::Up).unwrap();
        let ip = "10.32.0.1".parse().unwrap();
        let address = Address { link: eth0.index, ip, prefix: 12 };
        client.add_address(&address).unwrap();
        client.delete(&eth0).unwrap();
        let (mut seen, mut last) = (Vec::new(), false);
        while !last {
            let event = monitor.next_event(Duration::from_secs(10)).unwrap().unwrap();
            last = matches!(&event, Event::LinkGone(link) if link.index == eth0.index);
            seen.push(event);
        }
        let place = |wanted: &dyn Fn(&Event) -> bool| seen.iter().position(wanted);
        let is_up = |event: &Event| matches!(event, Event::Link(link) if link.up);
        let is_new = |event: &Event| matches!(event, Event::Link(link) if !link.up);
        let added = |event: &Event| *event == Event::Address(address);
        let removed = |event: &Event| *event == Event::AddressGone(address);
        let routed = |event: &Event| matches!(event, Event::Route(route) if route.prefix == 12);
        let order: Vec<_> = [place(&is_new), place(&is_up), place(&added), place(&removed)]
            .into_iter()
            .collect::<Option<_>>()
            .unwrap();
        assert!(order.is_sorted(), "{seen:?}");
        assert!(place(&routed).is_some(), "{seen:?}");
        assert_eq!(monitor.next_event(Duration::ZERO).unwrap(), None);
    });
}

fn link(client: &mut Client, name: &str) -> Link {
    client.link_by_name(name).unwrap().unwrap()
}

/// Runs a test in a network namespace of its own.
fn isolated(test: impl FnOnce(&mut Client) + Send) {
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            test(&mut Client::open().unwrap());
        });
        if let Err(panic) = host.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Makes another network namespace, and a client that stays in it.
fn namespace() -> (File, Client) {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        (File::open("/proc/thread-self/ns/net").unwrap(), Client::open().unwrap())
    })
    .join()
    .unwrap()
}
