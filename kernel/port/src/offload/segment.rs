//! Cuts a super-frame into frames, as a network card would (virtio 1.2, section 5.1.6.2).
//!
//! Each segment gets a copy of the headers and its part of the payload, with these differences:
//!
//! | field | in segment i of n |
//! |---|---|
//! | lengths | its own |
//! | IPv4 id | + i |
//! | TCP sequence number | + i * segment size |
//! | TCP FIN, PSH | only in the last |
//! | TCP CWR | only in the first |
//! | checksums | its own |
//!
//! Segments are written one by one to where the caller wants them, which is inside the datagram
//! that carries them. An ordinary frame is a single segment.

use weave_core::switch::{ChecksumRequest, Frame, Segmentation, SegmentationKind};
use weave_core::wire::complete_checksum;

use super::layout::{Layout, Transport, put_u16, u16_at};

/// More segments than the smallest sensible size makes of the largest packet. Frames come from
/// containers, which must not make the router write a hundred times what they wrote.
const MAX_SEGMENTS: usize = 2048;

/// A super-frame that no honest sender makes. It is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The checksum would lie outside the frame.
    #[error("checksum at {start}+{offset} in a frame of {length} bytes")]
    ChecksumOutside {
        /// First byte that is summed.
        start: u16,
        /// Offset of the checksum from there.
        offset: u16,
        /// Length of the frame.
        length: usize,
    },
    /// The frame is not what its header says: the protocol is another one, a length field disagrees
    /// with the length, or the checksum is not requested at its usual place.
    #[error("a frame of {length} bytes is not the {kind:?} super-frame it is said to be")]
    NotAsMarked {
        /// Announced kind.
        kind: SegmentationKind,
        /// Length of the frame.
        length: usize,
    },
    /// There would be too many segments of this size.
    #[error("a payload of {payload} bytes in segments of {size}")]
    TooMany {
        /// Length of the payload.
        payload: usize,
        /// Payload bytes per segment.
        size: u16,
    },
}

/// The ordinary frames that a captured frame stands for.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'f> {
    frame: &'f [u8],
    work: Work,
}

/// The headers and the payload of a super-frame.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'f> {
    /// The headers of the whole: its lengths, and an unfinished checksum.
    pub headers: &'f [u8],
    /// The payload of the whole.
    pub payload: &'f [u8],
    /// Payload bytes of each segment but the last.
    pub size: u16,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Copy,
    Complete(ChecksumRequest),
    Segment(Segmenter),
}

#[derive(Clone, Copy, Debug)]
struct Segmenter {
    layout: Layout,
    /// Payload bytes of all segments but the last.
    size: usize,
    count: usize,
    /// The unfinished checksum without the length of the transport packet.
    pseudo_header: u16,
}

impl<'f> Segments<'f> {
    /// Parses the headers. An ordinary frame with a complete checksum is not parsed.
    ///
    /// # Errors
    /// The frame is not what its header says, and none of its bytes can be relied on.
    pub fn new(frame: Frame<'f>) -> Result<Self, SegmentError> {
        let bytes = frame.bytes;
        let work = match (frame.segmentation, frame.checksum) {
            (Some(segmentation), request) => {
                Work::Segment(Segmenter::new(bytes, segmentation, request)?)
            }
            (None, None) => Work::Copy,
            (None, Some(request)) => {
                let ChecksumRequest { start, offset } = request;
                if usize::from(start) + usize::from(offset) + 2 > bytes.len() {
                    let length = bytes.len();
                    return Err(SegmentError::ChecksumOutside { start, offset, length });
                }
                Work::Complete(request)
            }
        };
        Ok(Self { frame: bytes, work })
    }

    /// Makes the segments of a TCP super-frame smaller if they would be longer frames than this:
    /// TCP may be segmented anywhere. All other frames stay as they are.
    #[must_use]
    pub fn limited_to(mut self, frame_len: usize) -> Self {
        if let Work::Segment(segmenter) = &mut self.work
            && segmenter.layout.transport_kind == Transport::Tcp
            && let Some(room @ 1..) = frame_len.checked_sub(segmenter.layout.payload)
            && room < segmenter.size
        {
            // A segment without a payload is a frame all the same.
            let count = segmenter.payload_len(self.frame).div_ceil(room).max(1);
            if count <= MAX_SEGMENTS {
                (segmenter.size, segmenter.count) = (room, count);
            }
        }
        self
    }

    /// Returns headers and payload of a super-frame, for callers that need no whole frames, and
    /// `None` for an ordinary frame.
    pub fn parts(&self) -> Option<Parts<'f>> {
        let Work::Segment(segmenter) = self.work else { return None };
        let (headers, payload) = self.frame.split_at(segmenter.layout.payload);
        Some(Parts { headers, payload, size: u16::try_from(segmenter.size).ok()? })
    }

    /// Returns whether only the checksum is missing, at its usual place, so that a receiver can
    /// tell where it goes.
    pub fn lacks_only_checksum(&self) -> bool {
        let Work::Complete(ChecksumRequest { start, offset }) = self.work else { return false };
        Layout::of(self.frame).is_some_and(|layout| {
            layout.transport == usize::from(start)
                && layout.checksum_offset() == usize::from(offset)
        })
    }

    /// Returns the number of frames.
    pub const fn count(&self) -> usize {
        match self.work {
            Work::Copy | Work::Complete(_) => 1,
            Work::Segment(segmenter) => segmenter.count,
        }
    }

    /// Returns the length of the longest frame, which is the first.
    pub fn longest(&self) -> usize {
        self.frame_len(0)
    }

    /// Returns the length of a frame.
    ///
    /// # Panics
    /// If there is no frame of this index.
    pub fn frame_len(&self, index: usize) -> usize {
        match self.work {
            Work::Copy | Work::Complete(_) => self.frame.len(),
            Work::Segment(segmenter) => {
                let (start, end) = segmenter.part(self.frame, index);
                segmenter.layout.payload + end - start
            }
        }
    }

    /// Writes a frame to `slot`.
    ///
    /// # Panics
    /// If there is no frame of this index or `slot` does not have the length of
    /// [`Self::frame_len`].
    pub fn write(&self, index: usize, slot: &mut [u8]) {
        match self.work {
            Work::Copy => slot.copy_from_slice(self.frame),
            Work::Complete(ChecksumRequest { start, offset }) => {
                slot.copy_from_slice(self.frame);
                complete_checksum(slot, start.into(), offset.into()).expect("checked in new");
            }
            Work::Segment(segmenter) => segmenter.write(self.frame, index, slot),
        }
    }
}

impl Segmenter {
    fn new(
        frame: &[u8],
        Segmentation { kind, size }: Segmentation,
        request: Option<ChecksumRequest>,
    ) -> Result<Self, SegmentError> {
        let error = SegmentError::NotAsMarked { kind, length: frame.len() };
        let layout = Layout::of(frame).ok_or(error)?;
        let asked = request.is_some_and(|request| {
            usize::from(request.start) == layout.transport
                && usize::from(request.offset) == layout.checksum_offset()
        });
        if kind != layout.segmentation_kind() || !asked {
            return Err(error);
        }
        let payload = frame.len() - layout.payload;
        let count = match usize::from(size) {
            0 => usize::MAX,
            // At least one: a segment may also be a pure acknowledgement.
            size => payload.div_ceil(size).max(1),
        };
        if count > MAX_SEGMENTS {
            return Err(SegmentError::TooMany { payload, size });
        }
        // The field holds the sum of the pseudo-header, of which only the length changes. The
        // kernel does the same. It preserves what only the sender knows, such as the final
        // destination of a routed packet.
        let unfinished = u16_at(frame, layout.transport + layout.checksum_offset()).ok_or(error)?;
        let length = u16::try_from(frame.len() - layout.transport).map_err(|_| error)?;
        let pseudo_header = add(unfinished, !length);
        Ok(Self { layout, size: size.into(), count, pseudo_header })
    }

    const fn payload_len(&self, frame: &[u8]) -> usize {
        frame.len() - self.layout.payload
    }

    /// Returns start and end of the payload of a segment.
    fn part(&self, frame: &[u8], index: usize) -> (usize, usize) {
        assert!(index < self.count, "segment {index} of {}", self.count);
        let start = index * self.size;
        (start, (start + self.size).min(self.payload_len(frame)))
    }

    fn write(&self, frame: &[u8], index: usize, slot: &mut [u8]) {
        let Layout { transport, payload, .. } = self.layout;
        let (start, end) = self.part(frame, index);
        let (headers, data) = slot.split_at_mut(payload);
        headers.copy_from_slice(&frame[..payload]);
        data.copy_from_slice(&frame[payload + start..payload + end]);

        self.layout.narrow(headers, index, start, index + 1 == self.count);
        self.layout.put_lengths(slot);
        let length = u16::try_from(slot.len() - transport).expect("no longer than it was");
        let unfinished = add(self.pseudo_header, length);
        put_u16(slot, transport + self.layout.checksum_offset(), unfinished);
        complete_checksum(slot, transport, self.layout.checksum_offset()).expect("found before");
    }
}

/// Returns the ones' complement sum.
pub(super) const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

#[cfg(test)]
mod tests;
