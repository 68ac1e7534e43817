use proptest::prelude::*;

use super::*;
use crate::offload::sample::{Recipe, Super, dissect, recipe};

fn write_all(segments: &Segments<'_>) -> Vec<Vec<u8>> {
    (0..segments.count())
        .map(|index| {
            let mut slot = vec![0xee; segments.frame_len(index)];
            segments.write(index, &mut slot);
            slot
        })
        .collect()
}

/// Checks the segments of a super-frame against what was put into it.
fn check(recipe: &Recipe, size: usize, frames: &[Vec<u8>]) {
    assert_eq!(frames.len(), recipe.payload.len().div_ceil(size).max(1));
    let mut whole = Vec::new();
    let first = dissect(&frames[0]);
    for (index, frame) in (0..).zip(frames) {
        let segment = dissect(frame);
        let last = usize::from(index) + 1 == frames.len();
        assert_eq!((&segment.link, &segment.rest), (&first.link, &first.rest));
        assert_eq!(segment.id, (!recipe.v6).then(|| recipe.id.wrapping_add(index)));
        if !recipe.udp {
            let passed = u32::try_from(whole.len()).unwrap();
            assert_eq!(segment.sequence, Some(recipe.sequence.wrapping_add(passed)));
            let mut flags = recipe.flags;
            flags &= if last { 0xff } else { !0x09 };
            flags &= if index == 0 { 0xff } else { !0x80 };
            assert_eq!(segment.flags, Some(flags));
        }
        assert!(last || segment.payload.len() == size);
        whole.extend(segment.payload);
    }
    assert_eq!(whole, recipe.payload);
}

proptest! {
    #[test]
    fn every_segment_is_a_valid_frame(mut recipe in recipe(), flags: u8) {
        recipe.flags = flags;
        let cooked = recipe.cook();
        let segments = Segments::new(cooked.frame()).unwrap();
        let frames = write_all(&segments);
        check(&recipe, recipe.size.into(), &frames);
        prop_assert_eq!(segments.longest(), frames.iter().map(Vec::len).max().unwrap());
    }

    #[test]
    fn tcp_is_cut_to_what_fits(mut recipe in recipe(), room in 64_usize..2000) {
        recipe.udp = false;
        let cooked = recipe.cook();
        let headers = cooked.bytes.len() - recipe.payload.len();
        let segments = Segments::new(cooked.frame()).unwrap().limited_to(headers + room);
        check(&recipe, room.min(recipe.size.into()), &write_all(&segments));
        prop_assert!(segments.longest() <= headers + room);
    }

    #[test]
    fn udp_is_not(mut recipe in recipe(), room in 0_usize..2000) {
        recipe.udp = true;
        let cooked = recipe.cook();
        let segments = Segments::new(cooked.frame()).unwrap();
        prop_assert_eq!(segments.limited_to(room).count(), segments.count());
    }

    #[test]
    fn unmarked_frames_are_copied(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let segments = Segments::new(Frame::plain(&bytes)).unwrap();
        prop_assert_eq!(write_all(&segments), [bytes]);
    }

    #[test]
    fn a_checksum_is_filled_in(mut recipe in recipe()) {
        recipe.flags |= 0x89;
        let Super { bytes, checksum, .. } = recipe.cook();
        let frame = Frame { bytes: &bytes, checksum: Some(checksum), segmentation: None };
        let frames = write_all(&Segments::new(frame).unwrap());
        check(&recipe, usize::MAX, &frames);
    }

    /// Whatever comes in the name of a super-frame: no panic, bounded output.
    #[test]
    fn damage_is_refused_or_cut(
        recipe in recipe(),
        changes in prop::collection::vec((0_usize..80, any::<u8>()), 1..4),
        cut in 0_usize..100,
        start: u16,
        offset in 0_u16..20,
        size: u16,
    ) {
        let mut cooked = recipe.cook();
        for (place, value) in changes {
            if let Some(byte) = cooked.bytes.get_mut(place) {
                *byte = value;
            }
        }
        cooked.bytes.truncate(cooked.bytes.len().saturating_sub(cut.saturating_sub(50)));
        let frame = cooked.frame();
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
fn a_mark_without_a_payload_makes_one_frame() {
    let recipe = Recipe {
        v6: false,
        udp: false,
        tags: 0,
        dont_fragment: true,
        id: 0,
        sequence: 0,
        flags: 0x10,
        options: 0,
        port: 80,
        payload: Vec::new(),
        size: 1640,
    };
    let cooked = recipe.cook();
    let limited = Segments::new(cooked.frame()).unwrap().limited_to(cooked.bytes.len() + 64);
    assert_eq!(limited.count(), 1);
    check(&recipe, 64, &write_all(&limited));
}

#[test]
fn marks_that_do_not_fit_are_refused() {
    let recipe = Recipe {
        v6: false,
        udp: false,
        tags: 0,
        dont_fragment: true,
        id: 0,
        sequence: 0,
        flags: 0x10,
        options: 3,
        port: 80,
        payload: vec![0; 3000],
        size: 1000,
    };
    let good = recipe.cook();
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
