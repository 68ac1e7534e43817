//! Things go wrong, and right again.

use super::*;

#[test]
fn the_others_forget_a_router_that_ended() {
    let (mut net, hosts) = full_mesh(20, 6);
    let gone = net.name(hosts[3]);
    net.kill(hosts[3]);
    mesh_fully(&mut net, 5 * SECOND);
    for host in net.host_ids().filter(|host| *host != hosts[3]) {
        let removed = net.events(host).iter().any(|event| {
            matches!(event, Event::Mesh(mesh::Event::PeerRemoved { peer, .. }) if *peer == gone)
        });
        assert!(removed, "{host:?}");
    }
}

#[test]
fn a_restarted_router_comes_back_with_a_higher_version() {
    let (mut net, hosts) = full_mesh(21, 6);
    let version = |net: &Net| {
        let mesh = net.router(hosts[0]).unwrap().mesh();
        mesh.peers().get(net.name(hosts[3])).unwrap().version
    };
    let before = version(&net);
    net.kill(hosts[3]);
    net.start(hosts[3]);
    net.connect(hosts[3], hosts[0]);
    mesh_fully(&mut net, 20 * SECOND);
    assert!(version(&net) > before);
}

#[test]
fn a_router_that_restarts_at_once_replaces_its_dead_connections() {
    let (mut net, hosts) = full_mesh(22, 5);
    // Nobody is told that the machine lost its power, and it is back before anybody notices.
    net.power_off(hosts[2]);
    net.run_for(2 * SECOND);
    net.start(hosts[2]);
    net.connect(hosts[2], hosts[0]);
    let time = mesh_fully(&mut net, 20 * SECOND);
    assert!(time < 5 * SECOND, "{time:?}: before any connection timed out");
}

#[test]
fn a_router_that_comes_back_on_another_machine_replaces_its_dead_connections() {
    let (mut net, hosts) = full_mesh(31, 5);
    let name = net.name(hosts[2]);
    // Nothing answers at the old address, not even with a reset.
    net.power_off(hosts[2]);
    net.run_for(2 * SECOND);
    let moved = net.add_host_with(move |config| config.name = name);
    net.connect(moved, hosts[0]);
    let time = mesh_fully(&mut net, 20 * SECOND);
    assert!(time < 10 * SECOND, "{time:?}");
    assert!(net.reports().values().all(|report| report.name_conflicts.is_empty()));
}

#[test]
fn a_silent_death_is_noticed_within_a_minute_and_a_half() {
    let (mut net, hosts) = full_mesh(23, 4);
    net.power_off(hosts[1]);
    let time = mesh_fully(&mut net, 2 * MINUTE);
    assert!(time <= 90 * SECOND, "{time:?}");
}

#[test]
fn two_islands_become_one_mesh_again() {
    let (mut net, hosts) = full_mesh(24, 10);
    let island = &hosts[..4];
    net.partition(island);
    // Each side finds out that the other is gone, and forgets it.
    mesh_fully(&mut net, 3 * MINUTE);
    net.heal(island);
    // Those who were told to connect try again within their back-off.
    mesh_fully(&mut net, 3 * MINUTE);
}

#[test]
fn a_short_cut_is_survived_without_anybody_noticing() {
    let (mut net, hosts) = full_mesh(25, 5);
    let ended = |net: &Net| -> u64 {
        net.reports().values().map(|report| report.counters.connections_ended).sum()
    };
    let before = ended(&net);
    net.partition(&hosts[..2]);
    net.run_for(20 * SECOND);
    net.heal(&hosts[..2]);
    net.run_for(5 * MINUTE);
    assert_eq!(ended(&net), before);
    net.fully_meshed().unwrap();
}

#[test]
fn a_reset_connection_is_made_again() {
    let (mut net, hosts) = full_mesh(26, 4);
    net.run_for(2 * MINUTE);
    net.reset_connections(hosts[0], hosts[1]);
    net.reset_connections(hosts[2], hosts[3]);
    net.run_for(SECOND / 10);
    assert!(net.fully_meshed().is_err());
    mesh_fully(&mut net, 20 * SECOND);
}

#[test]
fn a_clock_that_leaps_ahead_costs_connections_but_not_the_mesh() {
    let (mut net, hosts) = full_mesh(27, 5);
    net.jump_clock(hosts[2], Duration::from_secs(86_400));
    net.run_for(SECOND);
    mesh_fully(&mut net, MINUTE);
}

#[test]
fn a_slow_path_slows_only_those_who_use_it() {
    let mut net = Net::new(28);
    let hosts = net.add_hosts(8);
    let slow = Quality { rate: 2_000, latency: SECOND / 2, ..Quality::default() };
    for host in &hosts[..7] {
        net.set_path(*host, hosts[7], slow);
    }
    for host in &hosts[1..] {
        net.connect(*host, hosts[0]);
    }
    mesh_fully(&mut net, 2 * MINUTE);
}

#[test]
fn a_router_that_stops_reading_is_dropped_by_all_and_holds_no_memory() {
    let (mut net, hosts) = full_mesh(29, 4);
    net.set_reading(hosts[3], false);
    // The hung router itself hears nothing any more, so both ends give up.
    net.run_for(3 * MINUTE);
    for report in net.reports().values() {
        assert!(report.connections.iter().all(|connection| connection.unsent < 1 << 20));
    }
    net.set_reading(hosts[3], true);
    mesh_fully(&mut net, 3 * MINUTE);
}

#[test]
fn routers_that_come_and_go_all_the_time_leave_a_whole_mesh() {
    let (mut net, hosts) = full_mesh(30, 8);
    for round in 0..12 {
        let host = hosts[1 + (round * 5) % 7];
        net.kill(host);
        net.run_for(Duration::from_millis(700));
        net.start(host);
        net.connect(host, hosts[0]);
        net.run_for(Duration::from_millis(300));
    }
    mesh_fully(&mut net, MINUTE);
}
