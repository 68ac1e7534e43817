use proptest::prelude::*;

use super::*;
use crate::offload::sample::{SuperFrame, SuperFrameSpec, dissect, spec, write_all};

/// Checks the segments of a super-frame against its specification.
fn check(spec: &SuperFrameSpec, size: usize, frames: &[Vec<u8>]) {
    assert_eq!(frames.len(), spec.payload.len().div_ceil(size).max(1));
    let mut whole = Vec::new();
    let first = dissect(&frames[0]);
    for (index, frame) in (0..).zip(frames) {
        let segment = dissect(frame);
        let last = usize::from(index) + 1 == frames.len();
        assert_eq!((&segment.link, &segment.rest), (&first.link, &first.rest));
        assert_eq!(segment.id, (!spec.v6).then(|| spec.id.wrapping_add(index)));
        if !spec.udp {
            let passed = u32::try_from(whole.len()).unwrap();
            assert_eq!(segment.sequence, Some(spec.sequence.wrapping_add(passed)));
            let mut flags = spec.flags;
            flags &= if last { 0xff } else { !0x09 };
            flags &= if index == 0 { 0xff } else { !0x80 };
            assert_eq!(segment.flags, Some(flags));
        }
        assert!(last || segment.payload.len() == size);
        whole.extend(segment.payload);
    }
    assert_eq!(whole, spec.payload);
}

proptest! {
    #[test]
    fn every_segment_is_a_valid_frame(mut spec in spec(), flags: u8) {
        spec.flags = flags;
        let built = spec.build();
        let segments = Segments::new(built.frame()).unwrap();
        let frames = write_all(&segments);
        check(&spec, spec.size.into(), &frames);
        prop_assert_eq!(segments.longest(), frames.iter().map(Vec::len).max().unwrap());
    }

    #[test]
    fn tcp_is_segmented_to_what_fits(mut spec in spec(), room in 64_usize..2000) {
        spec.udp = false;
        let built = spec.build();
        let headers = built.bytes.len() - spec.payload.len();
        let segments = Segments::new(built.frame()).unwrap().limited_to(headers + room);
        check(&spec, room.min(spec.size.into()), &write_all(&segments));
        prop_assert!(segments.longest() <= headers + room);
    }

    #[test]
    fn udp_is_not_segmented_to_what_fits(mut spec in spec(), room in 0_usize..2000) {
        spec.udp = true;
        let built = spec.build();
        let segments = Segments::new(built.frame()).unwrap();
        prop_assert_eq!(segments.limited_to(room).count(), segments.count());
    }

    #[test]
    fn complete_frames_are_copied(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let segments = Segments::new(Frame::plain(&bytes)).unwrap();
        prop_assert_eq!(write_all(&segments), [bytes]);
    }

    #[test]
    fn a_checksum_is_completed(mut spec in spec()) {
        spec.flags |= 0x89;
        let SuperFrame { bytes, checksum, .. } = spec.build();
        let frame = Frame { bytes: &bytes, checksum: Some(checksum), segmentation: None };
        let frames = write_all(&Segments::new(frame).unwrap());
        check(&spec, usize::MAX, &frames);
    }

    /// A malformed super-frame never causes a panic, and its output is bounded.
    #[test]
    fn damaged_frames_are_refused_or_segmented(
        spec in spec(),
        changes in prop::collection::vec((0_usize..80, any::<u8>()), 1..4),
        cut in 0_usize..100,
        start: u16,
        offset in 0_u16..20,
        size: u16,
    ) {
        let mut built = spec.build();
        for (place, value) in changes {
            if let Some(byte) = built.bytes.get_mut(place) {
                *byte = value;
            }
        }
        built.bytes.truncate(built.bytes.len().saturating_sub(cut.saturating_sub(50)));
        let frame = built.frame();
        let request = ChecksumRequest { start, offset };
        let resized = frame.segmentation.map(|marks| Segmentation { size, ..marks });
        for frame in [
            frame,
            Frame { checksum: Some(request), ..frame },
            Frame { checksum: Some(request), segmentation: None, ..frame },
            Frame { segmentation: resized, ..frame },
            Frame { checksum: None, ..frame },
        ] {
            if let Ok(segments) = Segments::new(frame) {
                let frames = write_all(&segments);
                prop_assert!(frames.len() <= MAX_SEGMENTS);
                prop_assert!(frames.iter().all(|frame| frame.len() <= segments.longest()));
            }
        }
    }
}

#[test]
fn a_super_frame_without_a_payload_makes_one_frame() {
    let spec = SuperFrameSpec { options: 0, ..SuperFrameSpec::tcp(Vec::new(), 1640) };
    let built = spec.build();
    let limited = Segments::new(built.frame()).unwrap().limited_to(built.bytes.len() + 64);
    assert_eq!(limited.count(), 1);
    check(&spec, 64, &write_all(&limited));
}

#[test]
fn inconsistent_super_frames_are_refused() {
    let spec = SuperFrameSpec::tcp(vec![0; 3000], 1000);
    let good = spec.build();
    assert_eq!(Segments::new(good.frame()).unwrap().count(), 3);
    let frame = good.frame();
    let tcp6 = Segmentation { kind: SegmentationKind::Tcp6, size: 1000 };
    let tiny = Segmentation { size: 1, ..good.segmentation };
    let empty = Segmentation { size: 0, ..good.segmentation };
    let elsewhere = ChecksumRequest { offset: 18, ..good.checksum };
    let mut padded = good.bytes.clone();
    padded.push(0);
    let mut fragment = good.clone();
    fragment.bytes[20] |= 0x20;
    for bad in [
        Frame { segmentation: Some(tcp6), ..frame },
        Frame { segmentation: Some(tiny), ..frame },
        Frame { segmentation: Some(empty), ..frame },
        Frame { checksum: Some(elsewhere), ..frame },
        Frame { checksum: None, ..frame },
        Frame { bytes: &padded, ..frame },
        Frame { bytes: &good.bytes[..good.bytes.len() - 1], ..frame },
        Frame { bytes: &fragment.bytes, ..frame },
    ] {
        assert!(Segments::new(bad).is_err(), "{:?} {:?}", bad.checksum, bad.segmentation);
    }
}
