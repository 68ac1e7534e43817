//! The virtio-net header that precedes a frame (virtio 1.2, section 5.1.6), as TAP devices and
//! packet sockets of Linux use it.
//!
//! ```text
//!   | 1 flags | 1 segmentation | 2 header length | 2 segment size | 2 checksum start | 2 offset |
//! ```
//!
//! Integers are in the byte order of the machine. The header length is a hint that nobody should
//! trust; it is ignored.

use super::{ChecksumRequest, Frame, Segmentation, SegmentationKind};
use crate::wire::ethernet::ADDRESSES_LEN;
use crate::wire::vlan::{TAG_LEN, Tag};

/// Length of the header.
pub const HEADER_LEN: usize = 10;

/// The checksum is still to be computed.
const NEEDS_CHECKSUM: u8 = 1;

const NOT_SEGMENTED: u8 = 0;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const UDP: u8 = 5;
/// The first segment alone carries the CWR flag of TCP.
const ECN: u8 = 0x80;

/// What a header says about its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// A transport checksum that still has to be computed; it lies within the frame.
    pub checksum: Option<ChecksumRequest>,
    /// How to cut the payload.
    pub segmentation: Option<Segmentation>,
}

/// A header that makes no sense with its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// There is not even a header.
    #[error("{length} bytes are too short for a virtio-net header")]
    TooShort {
        /// What there is.
        length: usize,
    },
    /// What follows it has no room for the addresses of a frame.
    #[error("{length} bytes are too short for a frame")]
    NoAddresses {
        /// What there is.
        length: usize,
    },
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
    /// An unknown kind of segmentation, segments of no size, or without a checksum.
    #[error("segmentation {kind:#04x} in segments of {size} bytes")]
    Segmentation {
        /// As the header says.
        kind: u8,
        /// As the header says.
        size: u16,
    },
}

/// Makes a frame of what was read.
///
/// # Errors
/// When the header is cut off or does not fit the frame.
pub fn frame(read: &[u8]) -> Result<Frame<'_>, HeaderError> {
    let Some((header, bytes)) = read.split_first_chunk::<HEADER_LEN>() else {
        return Err(HeaderError::TooShort { length: read.len() });
    };
    let Offload { checksum, segmentation } = decode(header, bytes.len())?;
    Ok(Frame { checksum, segmentation, ..Frame::plain(bytes) })
}

/// Makes a frame of what was read from a packet socket. The kernel takes the VLAN tag out of a
/// frame and tells it separately; it goes back in where the header was, which has been decoded by
/// then.
///
/// ```text
///   | 10 virtio-net header | frame ...                        as it was read
///   | .. | 6+6 addresses | 4 tag | type ...                   with its VLAN tag back in
/// ```
///
/// # Errors
/// When the header is cut off or does not fit the frame, or the frame has no addresses.
pub fn frame_with_tag(read: &mut [u8], tag: Option<Tag>) -> Result<Frame<'_>, HeaderError> {
    let Frame { bytes, mut checksum, segmentation, .. } = frame(read)?;
    let length = bytes.len();
    if length < ADDRESSES_LEN {
        return Err(HeaderError::NoAddresses { length });
    }
    let Some(Tag { kind, control }) = tag else {
        return Ok(Frame { checksum, segmentation, ..Frame::plain(&read[HEADER_LEN..]) });
    };
    if let Some(ChecksumRequest { start, offset }) = &mut checksum {
        // The kernel counts without the tag.
        let outside = HeaderError::ChecksumOutside { start: *start, offset: *offset, length };
        *start = start.checked_add(4).ok_or(outside)?;
    }
    let start = HEADER_LEN - TAG_LEN;
    read.copy_within(HEADER_LEN..HEADER_LEN + ADDRESSES_LEN, start);
    let bytes = &mut read[start..];
    bytes[ADDRESSES_LEN..ADDRESSES_LEN + 2].copy_from_slice(&kind.0.to_be_bytes());
    bytes[ADDRESSES_LEN + 2..ADDRESSES_LEN + TAG_LEN].copy_from_slice(&control.to_be_bytes());
    Ok(Frame { checksum, segmentation, ..Frame::plain(bytes) })
}

/// Decodes the header of a frame of this length.
///
/// # Errors
/// When it does not fit the frame.
pub fn decode(header: &[u8; HEADER_LEN], length: usize) -> Result<Offload, HeaderError> {
    let [flags, kind, _, _, s0, s1, c0, c1, o0, o1] = *header;
    let checksum = if flags & NEEDS_CHECKSUM == 0 {
        None
    } else {
        let (start, offset) = (u16::from_ne_bytes([c0, c1]), u16::from_ne_bytes([o0, o1]));
        if usize::from(start) + usize::from(offset) + 2 > length {
            return Err(HeaderError::ChecksumOutside { start, offset, length });
        }
        Some(ChecksumRequest { start, offset })
    };
    let size = u16::from_ne_bytes([s0, s1]);
    let segmentation = match kind & !ECN {
        NOT_SEGMENTED => None,
        TCP4 => Some(SegmentationKind::Tcp4),
        TCP6 => Some(SegmentationKind::Tcp6),
        UDP => Some(SegmentationKind::Udp),
        _ => return Err(HeaderError::Segmentation { kind, size }),
    };
    if segmentation.is_some() && (size == 0 || checksum.is_none()) {
        return Err(HeaderError::Segmentation { kind, size });
    }
    Ok(Offload { checksum, segmentation: segmentation.map(|kind| Segmentation { kind, size }) })
}

/// The header to write before a frame.
pub fn encode(frame: &Frame<'_>) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    if let Some(ChecksumRequest { start, offset }) = frame.checksum {
        header[0] = NEEDS_CHECKSUM;
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        header[8..].copy_from_slice(&offset.to_ne_bytes());
    }
    if let Some(Segmentation { kind, size }) = frame.segmentation {
        header[1] = match kind {
            SegmentationKind::Tcp4 => TCP4,
            SegmentationKind::Tcp6 => TCP6,
            SegmentationKind::Udp => UDP,
        };
        header[4..6].copy_from_slice(&size.to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::EtherType;

    proptest! {
        #[test]
        fn what_decodes_encodes_the_same(header: [u8; HEADER_LEN], length in 0_usize..70_000) {
            if let Ok(offload) = decode(&header, length) {
                let Offload { checksum, segmentation } = offload;
                let encoded = encode(&Frame { bytes: &[], checksum, segmentation });
                prop_assert_eq!(decode(&encoded, length), Ok(offload));
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let words = |flags, kind, size: u16, start: u16, offset: u16| {
            let mut header = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
            header[4..6].copy_from_slice(&size.to_ne_bytes());
            header[6..8].copy_from_slice(&start.to_ne_bytes());
            header[8..].copy_from_slice(&offset.to_ne_bytes());
            header
        };
        let cases = [
            (words(0, 0, 0, 0xffff, 0xffff), true),
            (words(1, 0, 0, 34, 16), true),
            (words(1, 0, 0, 34, 4), true),
            (words(1, 0, 0, 34, 25), false),
            (words(1, 0, 0, 0xffff, 0xffff), false),
            (words(1, TCP4, 1398, 34, 16), true),
            (words(1, TCP4 | ECN, 1398, 34, 16), true),
            (words(1, TCP4, 0, 34, 16), false),
            (words(0, TCP6, 1398, 34, 16), false),
            (words(1, 3, 1398, 34, 16), false),
        ];
        for (header, good) in cases {
            assert_eq!(decode(&header, 60).is_ok(), good, "{header:?}");
        }
        assert_eq!(frame(&[0; 9]).err(), Some(HeaderError::TooShort { length: 9 }));
        let mut short = [0; HEADER_LEN + 11];
        let error = HeaderError::NoAddresses { length: 11 };
        assert_eq!(frame_with_tag(&mut short, None).err(), Some(error));
    }

    const TAG: Tag = Tag { kind: EtherType::VLAN, control: 0x2005 };

    #[test]
    fn the_tag_goes_back_in() {
        let frame: Vec<u8> = (0..60).collect();
        let mut read = [&[0; HEADER_LEN], &frame[..]].concat();
        let finished = frame_with_tag(&mut read, Some(TAG)).unwrap().bytes;
        assert_eq!(finished[..12], frame[..12]);
        assert_eq!(finished[12..16], [0x81, 0, 0x20, 5]);
        assert_eq!(finished[16..], frame[12..]);
    }

    #[test]
    fn the_checksum_is_found_behind_the_tag() {
        let checksum = Some(ChecksumRequest { start: 34, offset: 6 });
        let header = encode(&Frame { bytes: &[], checksum, segmentation: None });
        let mut plain = [&header[..], &[0; 34], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]].concat();
        let mut tagged = plain.clone();
        let plain = frame_with_tag(&mut plain, None).unwrap();
        assert_eq!(plain.checksum, checksum);
        let tagged = frame_with_tag(&mut tagged, Some(TAG)).unwrap();
        assert_eq!(tagged.checksum, Some(ChecksumRequest { start: 38, offset: 6 }));
        assert_eq!(tagged.bytes[38..], plain.bytes[34..]);
    }
}
