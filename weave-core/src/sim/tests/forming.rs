//! A mesh comes about.

use super::*;

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
