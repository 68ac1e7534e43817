//! Sealing and opening native datagrams allocates nothing except the key of a new epoch.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

#[path = "common/counting.rs"]
mod counting;

use std::ops::Range;

use counting::own_allocations;
use weave_core::mesh::{PeerName, SessionKey};
use weave_core::time::Instant;
use weave_sleeve::cipher::native::{EPOCH_AGE, Opener, Sealer, Suite};

const LEN: usize = 1400;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = own_allocations();
    work();
    own_allocations() - before
}

#[test]
fn datagrams_are_sealed_and_opened_in_place() {
    let (own, key) = (PeerName::from_bytes([2; 6]), SessionKey([7; 32]));
    let mut arena = vec![0; 40 * LEN];
    let ranges: Vec<Range<usize>> = (0..40).map(|n| n * LEN..(n + 1) * LEN).collect();
    for suite in Suite::preferred() {
        let sealer = Sealer::new(&key, true, suite, Instant::ORIGIN);
        let mut opener = Opener::new(&key, false, suite);
        let mut batches = |count, now| {
            allocations(|| {
                for _ in 0..count {
                    sealer.seal_batch(now, own, &mut arena, &ranges);
                    for datagram in arena.chunks_mut(LEN) {
                        opener.open(datagram).unwrap();
                    }
                    sealer.seal(now, own, &mut arena[..LEN]);
                    opener.open(&mut arena[..LEN]).unwrap();
                }
            })
        };
        // Thread-local state is created at its first use.
        batches(1, Instant::ORIGIN);
        assert_eq!(batches(100, Instant::ORIGIN), 0, "{suite:?}");
        for epoch in 1..40 {
            let now = Instant::ORIGIN + EPOCH_AGE * epoch;
            assert!(batches(3, now) <= 1, "{suite:?}: the key of epoch {epoch}");
        }
    }
}
