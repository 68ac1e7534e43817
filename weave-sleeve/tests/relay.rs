//! Super-frames that cross a router on their way.
//!
//! ```text
//!   a1 ===== a2 ===== a3
//! ```
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod common;

use common::{Line, PATIENCE, frame, key, super_frame};
use weave_core::mesh::SessionKey;
use weave_sleeve::native::Capabilities;
use weave_sleeve::port::virtio;

/// Builds a line whose ends know each other's stations 1 and 3.
fn line(capabilities: [Capabilities; 3], key: Option<&SessionKey>) -> Line {
    let line = Line::established(capabilities, key);
    let [a, b, c] = &line.routers;
    a.host.send(&frame(1, 3, b"who"));
    assert_eq!(b.receive().unwrap(), frame(1, 3, b"who"), "flooded to all");
    assert_eq!(c.receive().unwrap(), frame(1, 3, b"who"));
    c.host.send(&frame(3, 1, b"me"));
    assert_eq!(a.receive().unwrap(), frame(3, 1, b"me"));
    line
}

/// Returns a payload without a period.
fn payload(number: u32) -> Vec<u8> {
    (0..7500_u32).flat_map(|word| (word * 7919 + number).to_be_bytes()).collect()
}

#[test]
fn a_relay_decides_once_for_each_super_frame() {
    const COUNT: u32 = 20;
    for key in [None, Some(key())] {
        let line = line([(); 3].map(|()| Capabilities::default()), key.as_ref());
        let [a, b, c] = &line.routers;
        let before = b.switch.report();
        let mut received = Vec::new();
        for number in 0..COUNT {
            let whole = super_frame(1, 3, &payload(number));
            assert!(a.host.send_frame(whole.frame()));
            assert!(c.host.receive_with_header(PATIENCE, &mut received));
            let frame = virtio::frame(&received).unwrap();
            assert!(frame.bytes == whole.bytes);
            assert_eq!(frame.checksum, Some(whole.checksum));
            assert_eq!(frame.segmentation, Some(whole.segmentation));
        }
        let after = b.switch.report();
        assert_eq!(after.received - before.received, COUNT.into());
        assert_eq!(after.forwarded - before.forwarded, COUNT.into());
        assert_eq!(after.injected, before.injected);
        assert_eq!(b.counter(&*line.wires[1].links[0], "tx_super_frames"), COUNT.into());
        assert!(b.is_quiet());
    }
}

/// Returns the bytes of a TCP payload in the order of their sequence numbers, from frames of any
/// length.
fn reassembled(frames: &[Vec<u8>]) -> Vec<u8> {
    let sequence = |frame: &[u8]| u32::from_be_bytes(*frame[38..].first_chunk().unwrap());
    let mut parts: Vec<_> = frames.iter().map(|frame| (sequence(frame), &frame[54..])).collect();
    parts.sort_unstable_by_key(|(sequence, _)| *sequence);
    let ends = parts.iter().map(|(at, part)| at + u32::try_from(part.len()).unwrap());
    assert!(ends.zip(&parts[1..]).all(|(end, (next, _))| end == *next), "a gap or an overlap");
    parts.iter().flat_map(|(_, part)| *part).copied().collect()
}

#[test]
fn a_relay_translates_between_the_formats() {
    let (native, legacy) = (Capabilities::default(), Capabilities::Legacy);
    for key in [None, Some(key())] {
        for capabilities in [
            [native.clone(), native.clone(), legacy.clone()],
            [legacy.clone(), native.clone(), native.clone()],
            [native.clone(), legacy.clone(), native.clone()],
        ] {
            let line = line(capabilities, key.as_ref());
            let [a, _, c] = &line.routers;
            for (from, to, stations) in [(a, c, (1, 3)), (c, a, (3, 1))] {
                let payload = payload(stations.0.into());
                let whole = super_frame(stations.0, stations.1, &payload);
                assert!(from.host.send_frame(whole.frame()));
                let mut frames = Vec::<Vec<u8>>::new();
                while frames.iter().map(|frame| frame.len() - 54).sum::<usize>() < payload.len() {
                    frames.push(to.receive().unwrap());
                }
                assert!(reassembled(&frames) == payload);
            }
            assert!(a.is_quiet() && c.is_quiet());
        }
    }
}
