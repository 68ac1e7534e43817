//! Stories.

mod circles;
mod crowds;
mod failing;
mod forming;
mod frames;
mod gossip;

use std::time::Duration;

use super::{HostId, Net, Quality};
use crate::mesh;
use crate::router::Event;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Lets time pass until the mesh has converged.
#[track_caller]
fn converge(net: &mut Net, limit: Duration) -> Duration {
    net.run_until(limit, Net::converged).unwrap_or_else(|error| panic!("{error}"))
}

/// Lets time pass until every router is connected to every other.
#[track_caller]
fn mesh_fully(net: &mut Net, limit: Duration) -> Duration {
    net.run_until(limit, Net::fully_meshed).unwrap_or_else(|error| panic!("{error}"))
}

/// So many routers, each connected to every other.
#[track_caller]
fn full_mesh(seed: u64, count: usize) -> (Net, Vec<HostId>) {
    let mut net = Net::new(seed);
    let hosts = net.add_hosts(count);
    for host in &hosts[1..] {
        net.connect(*host, hosts[0]);
    }
    mesh_fully(&mut net, 20 * SECOND);
    (net, hosts)
}

/// So many routers in a line, each connected to its neighbours only.
#[track_caller]
fn line(seed: u64, count: usize) -> (Net, Vec<HostId>) {
    let mut net = Net::new(seed);
    let hosts: Vec<_> =
        (0..count).map(|_| net.add_host_with(|config| config.discovery = false)).collect();
    for pair in hosts.windows(2) {
        net.connect(pair[0], pair[1]);
    }
    converge(&mut net, 20 * SECOND);
    (net, hosts)
}
