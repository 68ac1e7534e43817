//! Frames find their way.

use super::*;

const BROADCAST: [u8; 6] = [0xff; 6];

/// The address of a container on a host.
fn station(host: HostId) -> [u8; 6] {
    let [.., high, low] = (host.0 as u64).to_be_bytes();
    [0x02, 0, 0, 0, high, low]
}

fn frame(from: HostId, to: [u8; 6], payload: &[u8]) -> Vec<u8> {
    [&to[..], &station(from), &[0x08, 0x00], payload].concat()
}

/// Which hosts got how many copies.
fn copies(net: &mut Net) -> Vec<usize> {
    let mut copies = vec![0; net.host_ids().count()];
    for delivery in net.take_deliveries() {
        copies[delivery.host.0] += 1;
    }
    copies
}

fn every_broadcast_reaches_all_others_once(mut net: Net, hosts: &[HostId]) {
    for host in hosts {
        net.capture(*host, &frame(*host, BROADCAST, b"who is there"));
        net.run_for(SECOND);
        let expected: Vec<usize> = hosts.iter().map(|other| usize::from(other != host)).collect();
        assert_eq!(copies(&mut net), expected, "from {host:?}");
    }
}

#[test]
fn broadcasts_reach_everyone_once_in_a_full_mesh() {
    let (net, hosts) = full_mesh(40, 7);
    every_broadcast_reaches_all_others_once(net, &hosts);
}

#[test]
fn broadcasts_reach_everyone_once_in_a_line() {
    let (net, hosts) = line(41, 6);
    every_broadcast_reaches_all_others_once(net, &hosts);
}

#[test]
fn frames_travel_the_longest_line_and_no_farther() {
    let routers = 2 + usize::from(crate::switch::MAX_RELAYS);
    let (mut net, hosts) = line(49, routers + 1);
    let (first, last) = (hosts[0], hosts[routers - 1]);
    net.capture(first, &frame(first, BROADCAST, b"who is there"));
    net.run_for(SECOND);
    let reached: Vec<usize> = (0..=routers).map(|at| (1..routers).contains(&at).into()).collect();
    assert_eq!(copies(&mut net), reached);
    net.capture(last, &frame(last, station(first), b"me"));
    net.run_for(SECOND);
    let reached: Vec<usize> = (0..=routers).map(|at| usize::from(at == 0)).collect();
    assert_eq!(copies(&mut net), reached);
}

#[test]
fn broadcasts_reach_everyone_once_around_a_ring_with_chords() {
    let (mut net, hosts) = line(42, 9);
    net.connect(hosts[0], hosts[8]);
    net.connect(hosts[1], hosts[5]);
    net.connect(hosts[2], hosts[7]);
    net.run_for(5 * SECOND);
    converge(&mut net, 20 * SECOND);
    every_broadcast_reaches_all_others_once(net, &hosts);
}

#[test]
fn an_answer_takes_the_shortest_way_to_the_one_who_asked() {
    let (mut net, hosts) = line(43, 6);
    net.capture(hosts[0], &frame(hosts[0], BROADCAST, b"who is there"));
    net.run_for(SECOND);
    net.take_deliveries();
    net.capture(hosts[5], &frame(hosts[5], station(hosts[0]), b"me"));
    net.run_for(SECOND);
    assert_eq!(copies(&mut net), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn frames_go_round_a_broken_connection() {
    let (mut net, hosts) = line(44, 4);
    net.connect(hosts[0], hosts[3]);
    net.run_for(5 * SECOND);
    converge(&mut net, 20 * SECOND);
    net.capture(hosts[0], &frame(hosts[0], BROADCAST, b"who is there"));
    net.capture(hosts[3], &frame(hosts[3], BROADCAST, b"me too"));
    net.run_for(SECOND);
    net.take_deliveries();
    net.kill(hosts[1]);
    converge(&mut net, 20 * SECOND);
    net.capture(hosts[0], &frame(hosts[0], station(hosts[3]), b"still there?"));
    net.run_for(SECOND);
    assert_eq!(copies(&mut net), [0, 0, 0, 1]);
}
