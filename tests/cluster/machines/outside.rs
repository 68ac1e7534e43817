//! A host that is no part of the cluster, and does not know its addresses.

use std::io::Write as _;
use std::net::TcpListener;
use std::thread;

use anyhow::{Result, anyhow, ensure};

use crate::kubernetes::node_address;
use crate::network;
use crate::space::{Space, shell_pod};

/// The host outside, whose network this process is in.
const OUTSIDE: &str = "10.200.0.254";

#[test]
fn a_pod_is_seen_outside_as_its_node() -> Result<()> {
    let nodes = network::ready()?;
    super::cluster()?;
    let listener = TcpListener::bind((OUTSIDE, 0))?;
    let port = listener.local_addr()?.port();
    let server = thread::spawn(move || -> Result<String> {
        let (mut stream, peer) = listener.accept()?;
        stream.write_all(b"welcome\n")?;
        Ok(peer.ip().to_string())
    });
    let space = Space::new()?;
    space.start(&[shell_pod("client", &nodes[1], "sleep 3600")])?;
    let answer = space.shell("client", &format!("nc -w 5 {OUTSIDE} {port} < /dev/null"))?;
    ensure!(answer == "welcome\n", "{answer}");
    let seen = server.join().map_err(|_| anyhow!("the server panicked"))??;
    ensure!(seen == node_address(&nodes[1])?, "the pod is seen as {seen}");
    Ok(())
}
