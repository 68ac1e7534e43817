//! Cuts a super-frame into frames, as a network card would (virtio 1.2, section 5.1.6.2).
//!
//! Each segment gets a copy of the headers and its part of the payload. What differs:
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
//! Segments are written one by one to where the caller wants them, which is in the datagram they
//! are sent in. Ordinary frames are a train of one.

use weave_core::switch::{ChecksumRequest, Frame, Segmentation, SegmentationKind};
use weave_core::wire::complete_checksum;

use super::layout::{Layout, Transport, put_u16, u16_at};

/// More segments than the smallest sensible ones make of the largest packet. A frame comes from
/// a container, which must not make us write a hundred times what it wrote.
const MAX_SEGMENTS: usize = 2048;

/// A super-frame that no honest sender makes. It is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The checksum would lie outside of the frame.
    #[error("checksum at {start}+{offset} in a frame of {length} bytes")]
    ChecksumOutside {
        /// First byte that is summed.
        start: u16,
        /// Place of the checksum behind it.
        offset: u16,
        /// Length of the frame.
        length: usize,
    },
    /// The frame is not what its mark says: the protocol is another one, a length field does not
    /// agree with the length, or the checksum is not asked for where the protocol has it.
    #[error("a frame of {length} bytes is not the {kind:?} super-frame it is said to be")]
    NotAsMarked {
        /// What the mark says.
        kind: SegmentationKind,
        /// Length of the frame.
        length: usize,
    },
    /// Segments of this size would be too many.
    #[error("a payload of {payload} bytes in segments of {size}")]
    TooMany {
        /// Length of the payload.
        payload: usize,
        /// Bytes a segment.
        size: u16,
    },
}

/// The frames that a captured frame stands for.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'f> {
    frame: &'f [u8],
    work: Work,
}

/// A super-frame, headers and payload apart.
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
    Cut(Cut),
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    layout: Layout,
    /// Payload bytes of all but the last.
    size: usize,
    count: usize,
    /// The unfinished checksum without the length of the transport packet in it.
    pseudo_header: u16,
}

impl<'f> Segments<'f> {
    /// Looks at the headers. Of a frame without marks nothing is looked at.
    ///
    /// # Errors
    /// When the frame is not what its marks say. No bytes of it can be relied on then.
    pub fn new(frame: Frame<'f>) -> Result<Self, SegmentError> {
        let bytes = frame.bytes;
        let work = match (frame.segmentation, frame.checksum) {
            (Some(segmentation), request) => Work::Cut(Cut::new(bytes, segmentation, request)?),
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
    /// where TCP is cut does not matter to anybody. All others stay as they are.
    #[must_use]
    pub fn limited_to(mut self, frame_len: usize) -> Self {
        if let Work::Cut(cut) = &mut self.work
            && cut.layout.transport_kind == Transport::Tcp
            && let Some(room @ 1..) = frame_len.checked_sub(cut.layout.payload)
            && room < cut.size
        {
            // One without a payload is a frame all the same.
            let count = cut.payload_len(self.frame).div_ceil(room).max(1);
            if count <= MAX_SEGMENTS {
                (cut.size, cut.count) = (room, count);
            }
        }
        self
    }

    /// The parts of a super-frame, for who need not write whole frames. None of an ordinary one.
    pub fn parts(&self) -> Option<Parts<'f>> {
        let Work::Cut(cut) = self.work else { return None };
        let (headers, payload) = self.frame.split_at(cut.layout.payload);
        Some(Parts { headers, payload, size: u16::try_from(cut.size).ok()? })
    }

    /// Whether the only thing left to do is a checksum in the place where the protocol has it,
    /// so that who gets the frame can tell where it is.
    pub fn only_lacks_its_checksum(&self) -> bool {
        let Work::Complete(ChecksumRequest { start, offset }) = self.work else { return false };
        Layout::of(self.frame).is_some_and(|layout| {
            layout.transport == usize::from(start)
                && layout.checksum_offset() == usize::from(offset)
        })
    }

    /// How many frames there are.
    pub const fn count(&self) -> usize {
        match self.work {
            Work::Copy | Work::Complete(_) => 1,
            Work::Cut(cut) => cut.count,
        }
    }

    /// Length of the longest frame, which is the first.
    pub fn longest(&self) -> usize {
        self.frame_len(0)
    }

    /// Length of a frame.
    ///
    /// # Panics
    /// If there is no frame of this index.
    pub fn frame_len(&self, index: usize) -> usize {
        match self.work {
            Work::Copy | Work::Complete(_) => self.frame.len(),
            Work::Cut(cut) => {
                let (start, end) = cut.part(self.frame, index);
                cut.layout.payload + end - start
            }
        }
    }

    /// Writes a frame.
    ///
    /// # Panics
    /// If there is no frame of this index or `slot` is not as long as [`Self::frame_len`] says.
    pub fn write(&self, index: usize, slot: &mut [u8]) {
        match self.work {
            Work::Copy => slot.copy_from_slice(self.frame),
            Work::Complete(ChecksumRequest { start, offset }) => {
                slot.copy_from_slice(self.frame);
                complete_checksum(slot, start.into(), offset.into()).expect("checked in new");
            }
            Work::Cut(cut) => cut.write(self.frame, index, slot),
        }
    }
}

impl Cut {
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
            // At least one: a segment may also be nothing but an acknowledgement.
            size => payload.div_ceil(size).max(1),
        };
        if count > MAX_SEGMENTS {
            return Err(SegmentError::TooMany { payload, size });
        }
        // The field holds the sum of the pseudo-header, of which only the length changes. This
        // is what the kernel does, and it keeps what the sender knows and we do not, such as
        // the final destination of a routed packet.
        let unfinished = u16_at(frame, layout.transport + layout.checksum_offset()).ok_or(error)?;
        let length = u16::try_from(frame.len() - layout.transport).map_err(|_| error)?;
        let pseudo_header = add(unfinished, !length);
        Ok(Self { layout, size: size.into(), count, pseudo_header })
    }

    const fn payload_len(&self, frame: &[u8]) -> usize {
        frame.len() - self.layout.payload
    }

    /// The part of the payload that belongs to a segment.
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

/// The ones' complement sum.
pub(super) const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

#[cfg(test)]
mod tests;
