//! An API server that is away: what was up goes on.

use anyhow::{Result, ensure};
use weave_testbed::cluster::Daemon;
use weave_testbed::try_until;

use crate::SOON;
use crate::kubernetes::kubectl;
use crate::network;
use crate::space::{Space, web_pod};
use crate::stream::Stream;

#[test]
fn pods_go_on_without_the_api_server() -> Result<()> {
    let nodes = network::ready()?;
    let cluster = super::cluster()?;
    let space = Space::new()?;
    let stream = Stream::start(&space, &nodes[0], &nodes[1])?;
    let first = cluster.node("n1")?;
    first.kill_daemon(Daemon::ApiServer)?;
    // A router that starts meanwhile finds no API server at all.
    let second = cluster.node(&nodes[1])?;
    let restarted = second.shell("kill -9 $(pidof weave) 2> /dev/null; ip -o link show weave");
    first.start(Daemon::ApiServer)?;
    ensure!(restarted.is_ok(), "the bridge of a router that was killed: {restarted:?}");
    try_until("the API server", SOON, || kubectl("get --raw=/readyz"))?;
    network::all_ready()?;
    stream.wait_for_more(100)?;
    stream.longest_gap()?;
    space.start(&[web_pod("late", &nodes[1])])
}
