//! Any frames, each after two bytes of length: coalesced and segmented they are still the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_fuzz::{coalesce, sorted_without_ids};

fuzz_target!(|input: &[u8]| {
    let mut frames = Vec::new();
    let mut rest = input;
    while let Some((length, after)) = rest.split_first_chunk() {
        let (frame, after) =
            after.split_at(usize::from(u16::from_be_bytes(*length)).min(after.len()));
        frames.push(frame.to_vec());
        rest = after;
    }
    assert_eq!(sorted_without_ids(&coalesce(&frames)), sorted_without_ids(&frames));
});
