//! Reassembles a super-frame from segments that another router of this kind sent one by one.
//!
//! ```text
//!   segments     | headers | segment 0 |   | headers | segment 1 |   lost   | headers | segment 3 |
//!   reassembled  | headers | segment 0 | segment 1 |                        | headers | segment 3 |
//! ```
//!
//! All segments carry the headers of the whole. A comparison tells whether one follows another, and
//! a run between two lost ones becomes a super-frame after one correction of the headers. Nothing
//! waits for a missing segment, so that there is nothing to time out and no memory to exhaust: at
//! most one super-frame is under construction.

use weave_core::switch::{ChecksumRequest, Frame, Segmentation};

use super::layout::{Layout, put_u16, u16_at};
use super::segment::add;

/// Length of the longest IP packet behind the longest headers that a record can announce.
const CAPACITY: usize = u16::MAX as usize + u8::MAX as usize;

/// One segment of a super-frame, with the headers of the whole.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The headers as captured: lengths of the whole, unfinished checksum.
    pub headers: &'a [u8],
    /// Its part of the payload.
    pub payload: &'a [u8],
    /// Payload bytes of each segment but the last.
    pub size: u16,
    /// Offset of its payload in that of the whole.
    pub offset: u16,
}

/// The headers are not those of a TCP or UDP packet, or the payload is no segment of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("headers and a segment that do not belong together")]
pub struct NotASegment;

/// Reassembles segments. `K` is what they must have in common besides their headers.
#[derive(Debug)]
pub struct Reassembler<K> {
    buffer: Box<[u8]>,
    run: Option<Run<K>>,
}

impl<K: Copy + PartialEq> Default for Reassembler<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// Segments that are joined already: the headers at the start of the buffer, then the payload of
/// the whole from `start` to `end`.
#[derive(Clone, Copy, Debug)]
struct Run<K> {
    key: K,
    layout: Layout,
    size: usize,
    start: usize,
    end: usize,
    /// Length of the payload of the whole.
    total: usize,
}

impl<K: Copy + PartialEq> Reassembler<K> {
    /// Creates an empty reassembler.
    pub fn new() -> Self {
        Self { buffer: vec![0; CAPACITY].into(), run: None }
    }

    /// Accepts a segment, and hands over the run that it does not continue.
    ///
    /// # Errors
    /// It is not a segment of any super-frame.
    pub fn push(
        &mut self,
        key: K,
        segment: Segment<'_>,
        each: &mut impl FnMut(K, Frame<'_>),
    ) -> Result<(), NotASegment> {
        let offset = usize::from(segment.offset);
        if let Some(run) = &mut self.run
            && run.key == key
            && run.end == offset
            && run.size == usize::from(segment.size)
            && run.takes(segment.payload.len())
            && self.buffer.get(..run.layout.payload) == Some(segment.headers)
        {
            run.end += segment.payload.len();
            let from = run.layout.payload + offset - run.start;
            self.buffer[from..from + segment.payload.len()].copy_from_slice(segment.payload);
            return Ok(());
        }
        self.flush(each);
        let (layout, length) = Layout::announced(segment.headers)
            .filter(|(layout, _)| layout.payload == segment.headers.len())
            .ok_or(NotASegment)?;
        let total = length - layout.payload;
        let mut run =
            Run { key, layout, size: segment.size.into(), start: offset, end: offset, total };
        if layout.payload + total > CAPACITY || !run.takes(segment.payload.len()) {
            return Err(NotASegment);
        }
        run.end += segment.payload.len();
        self.buffer[..layout.payload].copy_from_slice(segment.headers);
        self.buffer[layout.payload..][..segment.payload.len()].copy_from_slice(segment.payload);
        self.run = Some(run);
        Ok(())
    }

    /// Hands over the current run. It is called before a frame that must not be overtaken, and
    /// before waiting.
    pub fn flush(&mut self, each: &mut impl FnMut(K, Frame<'_>)) {
        let Some(run) = self.run.take() else { return };
        let Run { key, layout, size, start, end, total } = run;
        let frame = &mut self.buffer[..layout.payload + end - start];
        if end - start < total {
            let field = layout.transport + layout.checksum_offset();
            let unfinished = u16_at(frame, field).expect("found before");
            let length = |payload| {
                u16::try_from(layout.payload - layout.transport + payload).expect("a packet's")
            };
            // The field holds the sum of the pseudo-header, of which only the length changes.
            let others = add(unfinished, !length(total));
            put_u16(frame, field, add(others, length(end - start)));
            layout.narrow(frame, start / size, start, end == total);
            layout.put_lengths(frame);
        }
        let small = |number: usize| u16::try_from(number).expect("within a packet");
        let checksum = Some(ChecksumRequest {
            start: small(layout.transport),
            offset: small(layout.checksum_offset()),
        });
        let segmentation = (end - start > size)
            .then(|| Segmentation { kind: layout.segmentation_kind(), size: small(size) });
        each(key, Frame { bytes: frame, checksum, segmentation });
    }
}

impl<K> Run<K> {
    /// Returns whether the next segment can have this length.
    const fn takes(&self, length: usize) -> bool {
        let end = self.end + length;
        length > 0
            && (length == self.size && end <= self.total || length < self.size && end == self.total)
    }
}

/// Returns the usual request for the checksum of an unfinished frame, or `None` if the frame is not
/// an unfragmented TCP or UDP packet.
pub fn checksum_request(frame: &[u8]) -> Option<ChecksumRequest> {
    let layout = Layout::of(frame)?;
    Some(ChecksumRequest {
        start: u16::try_from(layout.transport).ok()?,
        offset: u16::try_from(layout.checksum_offset()).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::offload::Segments;
    use crate::offload::sample::{spec, super_frame, write_all};

    /// Returns the ordinary frames that a frame stands for.
    fn frames(frame: Frame<'_>) -> Vec<Vec<u8>> {
        write_all(&Segments::new(frame).unwrap())
    }

    fn segments<'f>(frame: Frame<'f>) -> Vec<Segment<'f>> {
        let parts = Segments::new(frame).unwrap().parts().unwrap();
        let offsets = (0..parts.payload.len()).step_by(parts.size.into());
        parts
            .payload
            .chunks(parts.size.into())
            .zip(offsets)
            .map(|(payload, offset)| Segment {
                headers: parts.headers,
                payload,
                size: parts.size,
                offset: u16::try_from(offset).unwrap(),
            })
            .collect()
    }

    fn reassemble<'a>(segments: impl IntoIterator<Item = Segment<'a>>) -> (Vec<Vec<u8>>, usize) {
        let mut reassembler = Reassembler::new();
        let (mut all, mut count) = (Vec::new(), 0);
        let mut each = |(), frame: Frame<'_>| {
            all.extend(frames(frame));
            count += 1;
        };
        for segment in segments {
            reassembler.push((), segment, &mut each).unwrap();
        }
        reassembler.flush(&mut each);
        (all, count)
    }

    #[test]
    fn segments_beyond_the_whole_are_refused() {
        let whole = super_frame(3000, 1000);
        let all = segments(whole.frame());
        let first = all[0];
        for (offset, length) in [(3000, 1000), (2500, 1000), (u16::MAX, 1), (0, 10), (2999, 2)] {
            let mut reassembler = Reassembler::new();
            for segment in &all {
                reassembler.push((), *segment, &mut |(), _| ()).unwrap();
            }
            let payload = &first.payload[..length];
            let beyond = Segment { offset, payload, ..first };
            let refused = reassembler.push((), beyond, &mut |(), _| ());
            assert_eq!(refused, Err(NotASegment), "{length} from {offset}");
        }
    }

    proptest! {
        #[test]
        fn only_lost_segments_are_missing(
            spec in spec(),
            lost in prop::collection::btree_set(0_usize..100, 0..6),
        ) {
            let whole = spec.build();
            prop_assume!(!spec.payload.is_empty());
            let arrives = |index: &usize| !lost.contains(index);
            let expected: Vec<_> = frames(whole.frame())
                .into_iter()
                .enumerate()
                .filter_map(|(index, frame)| arrives(&index).then_some(frame))
                .collect();
            let left = segments(whole.frame())
                .into_iter()
                .enumerate()
                .filter_map(|(index, segment)| arrives(&index).then_some(segment));
            let (joined, count) = reassemble(left);
            prop_assert!(joined == expected);
            prop_assert!(count <= lost.len() + 1);
        }

        #[test]
        fn any_order_loses_nothing(
            payload in 2000_usize..20_000,
            order in Just((0_usize..40).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let whole = super_frame(payload, 1000);
            let segments = segments(whole.frame());
            let order = order.into_iter().filter(|index| *index < segments.len());
            let (mut joined, _) = reassemble(order.map(|index| segments[index]));
            let mut expected = frames(whole.frame());
            joined.sort();
            expected.sort();
            prop_assert!(joined == expected);
        }

        #[test]
        fn nonsense_is_refused_or_harmless(
            headers in prop::collection::vec(any::<u8>(), 0..255),
            damage in prop::collection::vec((0_usize..66, any::<u8>()), 0..4),
            honest: bool,
            length in 0_usize..1500,
            size in 1_u16..,
            index in 0_u16..100,
        ) {
            let whole = super_frame(10_000, 1000);
            let mut honest_headers = segments(whole.frame())[0].headers.to_vec();
            for (place, value) in damage {
                if let Some(byte) = honest_headers.get_mut(place) {
                    *byte = value;
                }
            }
            let payload = vec![7; length];
            let segment = Segment {
                headers: if honest { &honest_headers } else { &headers },
                payload: &payload,
                size,
                offset: size.saturating_mul(index) / size * size,
            };
            let mut reassembler = Reassembler::new();
            let mut each = |(), frame: Frame<'_>| {
                assert!(frame.bytes.len() <= CAPACITY);
            };
            for _ in 0..3 {
                let _ = reassembler.push((), segment, &mut each);
            }
            reassembler.flush(&mut each);
        }
    }

    #[test]
    fn a_whole_super_frame_comes_out_as_it_went_in() {
        let whole = super_frame(30_000, 1348);
        let mut reassembler = Reassembler::new();
        let mut none = |_, _: Frame<'_>| panic!("not before the end");
        for segment in segments(whole.frame()) {
            reassembler.push(1, segment, &mut none).unwrap();
        }
        let mut seen = 0;
        reassembler.flush(&mut |key, frame| {
            assert_eq!(key, 1);
            assert_eq!(frame.bytes, whole.frame().bytes);
            assert_eq!(frame.checksum, whole.frame().checksum);
            assert_eq!(frame.segmentation, whole.frame().segmentation);
            seen += 1;
        });
        assert_eq!(seen, 1);
    }

    #[test]
    fn segments_with_different_keys_are_kept_apart() {
        let whole = super_frame(3000, 1000);
        let mut reassembler = Reassembler::new();
        let mut seen = Vec::new();
        let mut each = |key, frame: Frame<'_>| seen.push((key, frames(frame).len()));
        for (key, segment) in [1, 1, 2].into_iter().zip(segments(whole.frame())) {
            reassembler.push(key, segment, &mut each).unwrap();
        }
        reassembler.flush(&mut each);
        assert_eq!(seen, [(1, 2), (2, 1)]);
    }
}
