//! The state that address allocators tell each other: the ring, the claims of the vote. What is
//! taken from it makes sense, and nothing of it costs more than it should.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::{PeerName, Uid};
use weave_ipam::consensus::Consensus;
use weave_ipam::message::State;
use weave_ipam::ring::RawRing;
use weave_ipam::{AddressSet, Ring, Space};

fuzz_target!(|payload: &[u8]| {
    let Ok(state) = State::decode(payload) else { return };
    assert_eq!(State::decode(&state.encode()), Ok(state.clone()));

    if let Some(ring) = state.ring.and_then(|ring| Ring::try_from(ring).ok()) {
        assert_eq!(Ring::try_from(RawRing::from(&ring)), Ok(ring.clone()));
        let peers: Vec<PeerName> = ring.entries().iter().map(|entry| entry.peer).collect();
        // As one of its owners sees it, who has it already or comes anew.
        for own in peers.into_iter().take(4).chain([PeerName::UNKNOWN]) {
            let mut ours = Ring::new(ring.range(), own);
            ours = ours.merge(&ring, |_| false).unwrap().ring;
            assert_eq!(ours.entries(), ring.entries());
            let mut space = Space::default();
            space.set_ranges(&ours.owned_by(own));
            let again = ours.merge(&ring, |range| space.is_free(range)).unwrap();
            assert!(!again.news, "what is known is no news");
            ours.report_free(|range| space.free_within(range));
            if let Some(block) = space.donate(ring.range(), &AddressSet::default()) {
                ours.grant(block, PeerName::from_u64(7).unwrap());
                assert!(Ring::try_from(RawRing::from(&ours)).is_ok());
            }
        }
    }
    if let Some(claims) = state.claims {
        let mut node = Consensus::new(PeerName::from_u64(7).unwrap(), Uid(7));
        node.set_quorum(2);
        if node.update(&claims.0).is_ok() {
            assert_eq!(node.update(&claims.0), Ok(false));
            node.think();
            node.propose();
            node.think();
            let _peers = node.decided();
        }
    }
});
