//! Joins the pieces of a super-frame that another router of ours sent one by one.
//!
//! ```text
//!   pieces   | headers | segment 0 |   | headers | segment 1 |   lost   | headers | segment 3 |
//!   joined   | headers | segment 0 | segment 1 |                        | headers | segment 3 |
//! ```
//!
//! All pieces have the headers of the whole, so that one that follows another is known by a
//! comparison, and what is between two lost ones is a super-frame again after one correction of
//! the headers. Nothing waits for a piece that is not there, so that there is nothing to time out
//! and nothing to fill up: at most one super-frame is in the making.

use weave_core::switch::{ChecksumRequest, Frame, Segmentation};

use super::layout::{Layout, put_u16, u16_at};
use super::segment::add;

/// The longest IP packet behind the longest headers that a record can announce.
const CAPACITY: usize = u16::MAX as usize + u8::MAX as usize;

/// One segment of a super-frame, with the headers of the whole.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// As they were captured: lengths of the whole, unfinished checksum.
    pub headers: &'a [u8],
    /// Its part of the payload.
    pub segment: &'a [u8],
    /// Payload bytes of each segment but the last.
    pub size: u16,
    /// Where the segment starts in the payload of the whole.
    pub offset: u16,
}

/// The headers are those of no TCP or UDP packet, or the segment is none of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("headers and a segment that do not belong together")]
pub struct NotAPiece;

/// Joins pieces. `K` is what they must have in common besides their headers.
#[derive(Debug)]
pub struct Rejoiner<K> {
    buffer: Box<[u8]>,
    run: Option<Run<K>>,
}

impl<K: Copy + PartialEq> Default for Rejoiner<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// Pieces that are joined already: the headers at the start of the buffer, then the payload from
/// `start` to `end` of the whole.
#[derive(Clone, Copy, Debug)]
struct Run<K> {
    key: K,
    layout: Layout,
    size: usize,
    start: usize,
    end: usize,
    /// Payload of the whole.
    total: usize,
}

impl<K: Copy + PartialEq> Rejoiner<K> {
    /// A rejoiner that has nothing yet.
    pub fn new() -> Self {
        Self { buffer: vec![0; CAPACITY].into(), run: None }
    }

    /// Takes a piece, and hands over what it does not continue.
    ///
    /// # Errors
    /// When it is not a piece of anything.
    pub fn push(
        &mut self,
        key: K,
        piece: Piece<'_>,
        each: &mut impl FnMut(K, Frame<'_>),
    ) -> Result<(), NotAPiece> {
        let offset = usize::from(piece.offset);
        if let Some(run) = &mut self.run
            && run.key == key
            && run.end == offset
            && run.size == usize::from(piece.size)
            && run.takes(piece.segment.len())
            && self.buffer.get(..run.layout.payload) == Some(piece.headers)
        {
            run.end += piece.segment.len();
            let from = run.layout.payload + offset - run.start;
            self.buffer[from..from + piece.segment.len()].copy_from_slice(piece.segment);
            return Ok(());
        }
        self.flush(each);
        let (layout, length) = Layout::announced(piece.headers)
            .filter(|(layout, _)| layout.payload == piece.headers.len())
            .ok_or(NotAPiece)?;
        let total = length - layout.payload;
        let mut run =
            Run { key, layout, size: piece.size.into(), start: offset, end: offset, total };
        if layout.payload + total > CAPACITY || !run.takes(piece.segment.len()) {
            return Err(NotAPiece);
        }
        run.end += piece.segment.len();
        self.buffer[..layout.payload].copy_from_slice(piece.headers);
        self.buffer[layout.payload..][..piece.segment.len()].copy_from_slice(piece.segment);
        self.run = Some(run);
        Ok(())
    }

    /// Hands over what there is. To be called before a frame that must not be overtaken, and
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
            // What is summed is the pseudo-header, of which only the length changes.
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
    /// Whether the next segment can have this length.
    const fn takes(&self, length: usize) -> bool {
        let end = self.end + length;
        length > 0
            && (length == self.size && end <= self.total || length < self.size && end == self.total)
    }
}

/// Where the checksum of an unfinished frame is to be put, which is where the protocol has it.
/// None if the frame is not an unfragmented TCP or UDP packet.
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
    use crate::offload::sample::{recipe, super_frame};

    /// Every frame that comes out, as ordinary frames.
    fn frames(frame: Frame<'_>) -> Vec<Vec<u8>> {
        let segments = Segments::new(frame).unwrap();
        (0..segments.count())
            .map(|index| {
                let mut place = vec![0; segments.frame_len(index)];
                segments.write(index, &mut place);
                place
            })
            .collect()
    }

    fn pieces<'f>(frame: Frame<'f>) -> Vec<Piece<'f>> {
        let parts = Segments::new(frame).unwrap().parts().unwrap();
        let offsets = (0..parts.payload.len()).step_by(parts.size.into());
        parts
            .payload
            .chunks(parts.size.into())
            .zip(offsets)
            .map(|(segment, offset)| Piece {
                headers: parts.headers,
                segment,
                size: parts.size,
                offset: u16::try_from(offset).unwrap(),
            })
            .collect()
    }

    fn rejoin<'a>(pieces: impl IntoIterator<Item = Piece<'a>>) -> (Vec<Vec<u8>>, usize) {
        let mut rejoiner = Rejoiner::new();
        let (mut all, mut count) = (Vec::new(), 0);
        let mut each = |(), frame: Frame<'_>| {
            all.extend(frames(frame));
            count += 1;
        };
        for piece in pieces {
            rejoiner.push((), piece, &mut each).unwrap();
        }
        rejoiner.flush(&mut each);
        (all, count)
    }

    #[test]
    fn what_does_not_end_with_the_whole_is_no_piece_of_it() {
        let whole = super_frame(3000, 1000);
        let all = pieces(whole.frame());
        let first = all[0];
        for (offset, length) in [(3000, 1000), (2500, 1000), (u16::MAX, 1), (0, 10), (2999, 2)] {
            let mut rejoiner = Rejoiner::new();
            for piece in &all {
                rejoiner.push((), *piece, &mut |(), _| ()).unwrap();
            }
            let segment = &first.segment[..length];
            let beyond = Piece { offset, segment, ..first };
            let refused = rejoiner.push((), beyond, &mut |(), _| ());
            assert_eq!(refused, Err(NotAPiece), "{length} from {offset}");
        }
    }

    proptest! {
        #[test]
        fn what_is_lost_is_all_that_is_missing(
            recipe in recipe(),
            lost in prop::collection::btree_set(0_usize..100, 0..6),
        ) {
            let whole = recipe.cook();
            prop_assume!(!recipe.payload.is_empty());
            let arrives = |index: &usize| !lost.contains(index);
            let expected: Vec<_> = frames(whole.frame())
                .into_iter()
                .enumerate()
                .filter_map(|(index, frame)| arrives(&index).then_some(frame))
                .collect();
            let left = pieces(whole.frame())
                .into_iter()
                .enumerate()
                .filter_map(|(index, piece)| arrives(&index).then_some(piece));
            let (joined, count) = rejoin(left);
            prop_assert!(joined == expected);
            prop_assert!(count <= lost.len() + 1);
        }

        #[test]
        fn any_order_loses_nothing(
            payload in 2000_usize..20_000,
            order in Just((0_usize..40).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let whole = super_frame(payload, 1000);
            let pieces = pieces(whole.frame());
            let order = order.into_iter().filter(|index| *index < pieces.len());
            let (mut joined, _) = rejoin(order.map(|index| pieces[index]));
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
            let mut honest_headers = pieces(whole.frame())[0].headers.to_vec();
            for (place, value) in damage {
                if let Some(byte) = honest_headers.get_mut(place) {
                    *byte = value;
                }
            }
            let segment = vec![7; length];
            let piece = Piece {
                headers: if honest { &honest_headers } else { &headers },
                segment: &segment,
                size,
                offset: size.saturating_mul(index) / size * size,
            };
            let mut rejoiner = Rejoiner::new();
            let mut each = |(), frame: Frame<'_>| {
                assert!(frame.bytes.len() <= CAPACITY);
            };
            for _ in 0..3 {
                let _ = rejoiner.push((), piece, &mut each);
            }
            rejoiner.flush(&mut each);
        }
    }

    #[test]
    fn a_whole_super_frame_comes_out_as_it_went_in() {
        let whole = super_frame(30_000, 1348);
        let mut rejoiner = Rejoiner::new();
        let mut none = |_, _: Frame<'_>| panic!("not before the end");
        for piece in pieces(whole.frame()) {
            rejoiner.push(1, piece, &mut none).unwrap();
        }
        let mut seen = 0;
        rejoiner.flush(&mut |key, frame| {
            assert_eq!(key, 1);
            assert_eq!(frame.bytes, whole.frame().bytes);
            assert_eq!(frame.checksum, whole.frame().checksum);
            assert_eq!(frame.segmentation, whole.frame().segmentation);
            seen += 1;
        });
        assert_eq!(seen, 1);
    }

    #[test]
    fn pieces_of_different_keys_are_kept_apart() {
        let whole = super_frame(3000, 1000);
        let mut rejoiner = Rejoiner::new();
        let mut seen = Vec::new();
        let mut each = |key, frame: Frame<'_>| seen.push((key, frames(frame).len()));
        for (key, piece) in [1, 1, 2].into_iter().zip(pieces(whole.frame())) {
            rejoiner.push(key, piece, &mut each).unwrap();
        }
        rejoiner.flush(&mut each);
        assert_eq!(seen, [(1, 2), (2, 1)]);
    }
}
