//! The golden vectors, and many allocators together.

mod conflicts;
mod ring;
mod scenarios;
mod sim;
mod space;
mod tenants;
mod vectors;
mod vote;

/// A claim that was answered before there was a ring is not settled for somebody who is gone.
#[test]
fn a_claim_that_waits_is_given_back() {
    use weave_core::mesh::{PeerName, Uid};
    use weave_core::time::Instant;

    use crate::allocator::{Answer, Origin, Output, RequestError, RequestId, Stored};

    let config = crate::Config {
        name: PeerName::from_u64(1).unwrap(),
        uid: Uid(1),
        nickname: "host".to_owned(),
        universe: "10.32.0.0/24".parse().unwrap(),
        origin: Origin::Consensus { peers: Some(3) },
    };
    let now = Instant::ORIGIN;
    let mut allocator = crate::Allocator::new(config, Stored::default(), vec![], [1; 32], now);
    let cidr: crate::Cidr = "10.32.0.7/24".parse().unwrap();
    allocator.claim(now, RequestId(1), "c1", cidr, false, true);
    let mut outputs = std::iter::from_fn(|| allocator.poll_output());
    let answered = Output::Answer { request: RequestId(1), answer: Ok(Answer::Claimed) };
    assert!(outputs.any(|output| output == answered));
    assert_eq!(allocator.release(now, "c1", cidr.address()), Ok(()));
    assert_eq!(allocator.report().pending_claims, []);
    let again = allocator.release(now, "c1", cidr.address());
    assert!(matches!(again, Err(RequestError::NotHeld { .. })));
}
