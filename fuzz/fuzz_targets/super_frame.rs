//! A super-frame as a device hands it over, preceded by the faults that its segments meet on the
//! path: their number, then two bytes each. However the segments are coalesced, segmentation gives
//! back what arrived.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_fuzz::{coalesce, segment, sorted_without_ids};
use weave_port::offload::Segments;
use weave_port::virtio;

fuzz_target!(|input: &[u8]| {
    let Some((count, input)) = input.split_first() else { return };
    let Some((steps, read)) = input.split_at_checked(usize::from(*count) % 16 * 2) else { return };
    let Ok(frame) = virtio::frame(read) else { return };
    let Ok(segments) = Segments::new(frame) else { return };
    assert!(segments.limited_to(600).longest() <= segments.longest());
    let mut frames = segment(frame);
    assert!(frames.iter().all(|frame| frame.len() <= segments.longest()));
    let coalesced = coalesce(&frames);
    assert_eq!(coalesced, frames, "nothing happened on the way");

    for step in steps.chunks_exact(2) {
        let at = usize::from(step[1]) % frames.len().max(1);
        match step[0] % 4 {
            _ if frames.is_empty() => {}
            0 => drop(frames.remove(at)),
            1 => frames.insert(at, frames[at].clone()),
            2 => frames.swap(0, at),
            _ => {
                let place = usize::from(step[0] >> 2);
                if let Some(byte) = frames[at].get_mut(place) {
                    *byte ^= 0x10;
                }
            }
        }
    }
    assert_eq!(sorted_without_ids(&coalesce(&frames)), sorted_without_ids(&frames));
});
