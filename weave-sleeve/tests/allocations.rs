//! After warm-up a frame costs no allocation, neither on the capturing nor on the receiving thread.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::sync::atomic::Ordering;

use common::{PATIENCE, Pair, frame, ipv4, key, super_frame};
use counting::ALLOCATIONS;

/// Sends bursts in both directions and returns the number of allocations of all threads.
fn allocations_of(rounds: u32, pair: &Pair) -> u64 {
    let [a, b] = &pair.routers;
    let frames = [
        ipv4(1, 2, true, &[1; 40]),
        ipv4(1, 2, true, &[2; 1300]),
        ipv4(1, 2, false, &[3; 700]),
        frame(1, 2, &[4; 46]),
    ];
    let whole = super_frame(1, 2, &[6; 40_000]);
    let answer = ipv4(2, 1, true, &[5; 40]);
    let mut buffer = Vec::with_capacity(1 << 17);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..rounds {
        for frame in &frames {
            assert!(a.host.send(frame));
        }
        for _ in &frames {
            assert!(b.host.receive(PATIENCE, &mut buffer));
        }
        assert!(a.host.send_frame(whole.frame()));
        let mut payload = 0;
        while payload < 40_000 {
            assert!(b.host.receive(PATIENCE, &mut buffer));
            payload += buffer.len() - 54;
        }
        assert!(b.host.send(&answer));
        assert!(a.host.receive(PATIENCE, &mut buffer));
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn steady_traffic_allocates_nothing() {
    for key in [None, Some(key())] {
        for (format, pair) in
            [("legacy", Pair::established(key.as_ref())), ("native", Pair::native(key.as_ref()))]
        {
            allocations_of(100, &pair);
            // The clock of the control plane stands still meanwhile: no heartbeats are sent.
            assert_eq!(allocations_of(200, &pair), 0, "{format}, sealed: {}", key.is_some());
        }
    }
}
