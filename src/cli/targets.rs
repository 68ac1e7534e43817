//! Peers as users write them, looked at before anybody is asked.

use weave_core::mesh::{Config, Mesh, PeerName, Uid};
use weave_core::time::Instant;

use super::failure::Failure;
use weave_node::{is_ipv6, unreachable};

/// Refuses what is no address of a peer, by asking a mesh that never runs, and what none of the
/// transports reaches.
pub(super) fn check(peers: &[String]) -> Result<(), Failure> {
    if let Some(peer) = peers.iter().find(|peer| is_ipv6(peer)) {
        return Err(Failure::usage(unreachable(peer)));
    }
    let config = Config::new(PeerName::UNKNOWN, Uid(1));
    let mut mesh = Mesh::new(config, [0; 32], Instant::ORIGIN);
    mesh.connect(Instant::ORIGIN, peers, false).map_err(|errors| {
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::usage(texts.join("; "))
    })
}
