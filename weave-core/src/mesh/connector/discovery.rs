//! Which addresses other peers have told of (spec mesh.md, section 16, check step 3).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::mesh::PeerName;
use crate::mesh::branches::{Branch, Shares};

/// Addresses kept for one peer. Hosts have a few; a hostile peer could list thousands.
const MAX_PER_PEER: usize = 8;
/// Addresses kept in all, for the same reason.
const MAX_CANDIDATES: usize = 2048;

/// Addresses at which peers that are not connected may be reached, by hearsay.
#[derive(Clone, Debug)]
pub(in crate::mesh) struct Candidates {
    by_address: BTreeMap<SocketAddr, Candidate>,
    per_peer: BTreeMap<PeerName, usize>,
    shares: Shares,
}

#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Who is said to be there.
    pub(super) peer: PeerName,
    /// The peer that told, and those it is behind.
    pub(super) branch: Branch,
}

impl Default for Candidates {
    fn default() -> Self {
        let shares = Shares::of(MAX_CANDIDATES);
        Self { by_address: BTreeMap::new(), per_peer: BTreeMap::new(), shares }
    }
}

impl Candidates {
    /// The peer at the end of `branch` has a connection to `peer`: if it dialled, at `address`;
    /// else from there, with a port of no use, so that the own port is assumed. Of several that
    /// tell the same the first one counts.
    pub(in crate::mesh) fn offer(
        &mut self,
        peer: PeerName,
        address: SocketAddr,
        outbound: bool,
        own_port: u16,
        branch: &Branch,
    ) {
        let port = if outbound { address.port() } else { own_port };
        let address = SocketAddr::new(address.ip(), port);
        if !can_be_dialled(address) || self.by_address.contains_key(&address) {
            return;
        }
        let count = self.per_peer.entry(peer).or_default();
        if *count < MAX_PER_PEER && self.shares.take(branch) {
            *count += 1;
            self.by_address.insert(address, Candidate { peer, branch: branch.clone() });
        }
    }

    pub(super) fn get(&self, address: &SocketAddr) -> Option<&Candidate> {
        self.by_address.get(address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketAddr, PeerName)> {
        self.by_address.iter().map(|(address, candidate)| (*address, candidate.peer))
    }
}

fn can_be_dialled(address: SocketAddr) -> bool {
    let ip = address.ip();
    address.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> PeerName {
        PeerName::from_u64(number).unwrap()
    }

    fn branch(teller: u64) -> Branch {
        [(name(teller), 1)].into()
    }

    fn listed(candidates: &Candidates) -> Vec<String> {
        candidates.iter().map(|(address, peer)| format!("{peer} {address}")).collect()
    }

    #[test]
    fn dialled_addresses_as_they_are_others_with_the_own_port() {
        let mut candidates = Candidates::default();
        candidates.offer(name(1), "10.0.0.1:7000".parse().unwrap(), true, 6783, &branch(9));
        candidates.offer(name(2), "10.0.0.2:34567".parse().unwrap(), false, 6783, &branch(9));
        candidates.offer(name(2), "10.0.0.2:45678".parse().unwrap(), false, 6783, &branch(9));
        assert_eq!(
            listed(&candidates),
            ["00:00:00:00:00:01 10.0.0.1:7000", "00:00:00:00:00:02 10.0.0.2:6783"]
        );
    }

    #[test]
    fn what_nobody_can_listen_on_is_left_out() {
        let mut candidates = Candidates::default();
        for address in ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1", "10.0.0.1:0"] {
            candidates.offer(name(1), address.parse().unwrap(), true, 6783, &branch(9));
        }
        assert!(listed(&candidates).is_empty());
    }

    #[test]
    fn a_lying_peer_fills_no_memory() {
        let mut candidates = Candidates::default();
        for peer in 0..1000 {
            for port in 1..100 {
                let address = SocketAddr::new([10, 0, 0, 1].into(), port * 100 + peer);
                candidates.offer(name(u64::from(peer)), address, true, 6783, &branch(9));
            }
        }
        assert_eq!(listed(&candidates).len(), MAX_CANDIDATES / 2, "the rest is for other branches");
        assert!(candidates.per_peer.values().all(|count| *count <= MAX_PER_PEER));
    }
}
