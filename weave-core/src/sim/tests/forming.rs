//! A mesh comes about.

use super::*;
use crate::mesh::Random;

#[test]
fn two_routers_meet() {
    let mut net = Net::new(1);
    let [a, b] = [net.add_host(), net.add_host()];
    net.connect(a, b);
    let time = mesh_fully(&mut net, 5 * SECOND);
    assert!(time < 3 * SECOND, "{time:?}");
    let report = net.router(b).unwrap().mesh().report();
    assert_eq!(report.connections.len(), 1);
    assert!(!report.connections[0].outbound && report.connections[0].established);
}

#[test]
fn a_line_becomes_a_full_mesh() {
    let mut net = Net::new(2);
    let hosts = net.add_hosts(8);
    for pair in hosts.windows(2) {
        net.connect(pair[0], pair[1]);
    }
    mesh_fully(&mut net, 20 * SECOND);
}

#[test]
fn twenty_routers_find_each_other_through_one() {
    let mut net = Net::new(3);
    let hosts = net.add_hosts(20);
    for host in &hosts[1..] {
        net.connect(*host, hosts[0]);
    }
    mesh_fully(&mut net, 10 * SECOND);
}

#[test]
fn a_hundred_routers_in_a_ring_know_each_other() {
    let mut net = Net::new(4);
    let hosts: Vec<_> =
        (0..100).map(|_| net.add_host_with(|config| config.discovery = false)).collect();
    for at in 0..100 {
        net.connect(hosts[at], hosts[(at + 1) % 100]);
    }
    // Fifty hops, each of which may wait a tenth of a second for its routes.
    converge(&mut net, 20 * SECOND);
    let routes = net.router(hosts[0]).unwrap().mesh().routes();
    assert_eq!(routes.unicast(net.name(hosts[30])), Some(net.name(hosts[1])));
    assert_eq!(routes.unicast(net.name(hosts[70])), Some(net.name(hosts[99])));
}

#[test]
fn one_seed_gives_one_history() {
    let run = |seed| {
        let mut net = Net::new(seed);
        let hosts = net.add_hosts(8);
        net.set_quality(Quality { loss: 100, jitter: SECOND / 100, ..Quality::default() });
        for host in &hosts[1..] {
            net.connect(*host, hosts[0]);
        }
        net.run_for(10 * SECOND);
        (net.traffic(), net.reports())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}

#[test]
fn a_lossy_network_delays_but_does_not_prevent() {
    let mut net = Net::new(6);
    let bad = Quality {
        latency: SECOND / 20,
        jitter: SECOND / 10,
        loss: 300,
        duplication: 100,
        ..Quality::default()
    };
    net.set_quality(bad);
    let hosts = net.add_hosts(10);
    for host in &hosts[1..] {
        net.connect(*host, hosts[0]);
    }
    mesh_fully(&mut net, 30 * SECOND);
}

#[test]
fn a_name_is_looked_up_and_its_addresses_tried_until_one_answers() {
    let mut net = Net::new(7);
    let [a, dead, b] = [net.add_host(), net.add_host(), net.add_host()];
    net.kill(dead);
    net.set_name("seed", &[dead, b]);
    net.connect_to(a, "seed");
    converge(&mut net, 5 * SECOND);
}

#[test]
fn a_name_is_looked_up_again_when_the_peer_has_moved() {
    let mut net = Net::new(8);
    let [a, before, after] = [net.add_host(), net.add_host(), net.add_host()];
    net.set_name("seed", &[before]);
    net.connect_to(a, "seed");
    net.run_for(5 * SECOND);
    net.kill(before);
    net.set_name("seed", &[after]);
    converge(&mut net, 30 * SECOND);
    assert!(net.router(a).unwrap().mesh().peers().get(net.name(after)).is_some());
}

#[test]
fn a_router_told_to_connect_to_itself_notices_once_and_for_all() {
    let mut net = Net::new(9);
    let a = net.add_host();
    net.connect(a, a);
    net.run_for(600 * SECOND);
    let ended = net.events(a).iter().filter(|event| format!("{event:?}").contains("ToSelf"));
    assert_eq!(ended.count(), 2, "one connection, seen from both ends");
}

#[test]
fn a_machine_with_the_name_of_another_is_told_of() {
    let mut net = Net::new(10);
    let a = net.add_host();
    let name = net.name(a);
    let clone = net.add_host_with(move |config| config.name = name);
    net.connect(a, clone);
    net.run_for(600 * SECOND);
    for host in [a, clone] {
        let told = net.events(host).iter().filter(|event| {
            matches!(event, Event::Mesh(mesh::Event::NameCollision(clash)) if clash.name == name)
        });
        assert_eq!(told.count(), 1);
        assert_eq!(net.router(host).unwrap().mesh().peers().count(), 1);
    }
}

#[test]
fn a_clone_does_not_push_out_the_router_whose_name_it_has() {
    let (mut net, hosts) = full_mesh(12, 4);
    net.run_for(30 * SECOND);
    let name = net.name(hosts[1]);
    let before = net.reports();
    let clone = net.add_host_with(move |config| config.name = name);
    net.connect(clone, hosts[0]);
    net.connect(hosts[2], clone);
    net.run_for(300 * SECOND);
    let after = net.reports();
    for host in &hosts {
        let connections = |reports: &std::collections::BTreeMap<HostId, mesh::Report>| {
            reports[host].connections.iter().map(|c| (c.peer, c.since)).collect::<Vec<_>>()
        };
        assert_eq!(connections(&before), connections(&after), "{host:?} kept what it had");
    }
    let told = |host: &HostId| {
        net.events(*host).iter().any(|event| {
            matches!(event, Event::Mesh(mesh::Event::NameCollision(clash)) if clash.name == name)
        })
    };
    assert!(told(&hosts[0]) && told(&hosts[2]));
    let clash = &after[&hosts[0]].name_conflicts[0];
    assert_eq!((&*clash.kept.nickname, &*clash.refused.nickname), ("host1", "host4"));
    let target = after[&clone].targets.iter().find(|target| target.direct);
    let error = target.and_then(|target| target.last_error.clone()).unwrap_or_default();
    assert!(error.contains("name collision: two routers say they are"), "{error:?}");
}

#[test]
fn beyond_the_connection_limit_a_mesh_is_not_full_but_whole() {
    let mut net = Net::new(11);
    let hosts: Vec<_> =
        (0..10).map(|_| net.add_host_with(|config| config.connection_limit = Some(4))).collect();
    for pair in hosts.windows(2) {
        net.connect(pair[1], pair[0]);
    }
    converge(&mut net, 60 * SECOND);
    let reports = net.reports();
    assert!(reports.values().all(|report| report.connections.len() <= 4));
}

#[test]
fn a_line_that_starts_at_once_knows_itself_within_seconds() {
    // Records overtake those of the peers that lead to them, each time in another order.
    for seed in 40..110_u8 {
        let mut random = Random::new([seed; 32]);
        let mut net = Net::new(u64::from(seed));
        let discovery = seed % 4 == 0;
        let hosts: Vec<_> =
            (0..5).map(|_| net.add_host_with(move |config| config.discovery = discovery)).collect();
        for (at, a) in hosts.iter().enumerate() {
            for b in &hosts[at + 1..] {
                let latency = Duration::from_millis(random.below(400));
                net.set_path(*a, *b, Quality { latency, ..Quality::default() });
            }
        }
        for pair in hosts.windows(2) {
            net.run_for(Duration::from_millis(random.below(1500)));
            let turn = usize::from(random.below(2) == 0);
            net.connect(pair[turn], pair[1 - turn]);
        }
        let time = converge(&mut net, 60 * SECOND);
        assert!(time < 12 * SECOND, "seed {seed}: {time:?}");
    }
}
