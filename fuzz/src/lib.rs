//! Segmentation and coalescing for the targets of super-frames.

use weave_core::switch::Frame;
use weave_port::offload::{Coalescer, Segments, SuperFrameKinds};

/// Returns the frames that a frame stands for, and none if it is inconsistent.
pub fn segment(frame: Frame<'_>) -> Vec<Vec<u8>> {
    let Ok(segments) = Segments::new(frame) else { return Vec::new() };
    let write = |index| {
        let mut place = vec![0xee; segments.frame_len(index)];
        segments.write(index, &mut place);
        place
    };
    (0..segments.count()).map(write).collect()
}

/// Coalesces frames and segments the result.
pub fn coalesce(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut coalescer = Coalescer::new(SuperFrameKinds { tcp: true, udp: true });
    let mut each = |(), frame: Frame<'_>| all.extend(segment(frame));
    for frame in frames {
        coalescer.push((), Frame::plain(frame), &mut each);
    }
    coalescer.flush(&mut each);
    all
}

/// Returns frames in a canonical form: flows may overtake each other, and the id of an IPv4 packet
/// that must not be fragmented has no meaning (RFC 6864).
pub fn sorted_without_ids(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = frames.iter().map(|frame| without_id(frame.clone())).collect();
    frames.sort();
    frames
}

fn without_id(mut frame: Vec<u8>) -> Vec<u8> {
    let mut network = 14;
    while let Some([0x81, 0x00] | [0x88, 0xa8]) = frame.get(network - 2..network) {
        network += 4;
    }
    if frame.get(network - 2..network) == Some(&[8, 0])
        && let Some(header) = frame.get_mut(network..network + 20)
        && header[6] & 0x40 != 0
    {
        header[4..6].fill(0);
        header[10..12].fill(0);
    }
    frame
}
