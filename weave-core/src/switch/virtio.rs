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

/// Splits what was read into header and frame, and decodes the header.
///
/// # Errors
/// When the header is cut off or does not fit the frame.
pub fn split(read: &[u8]) -> Result<(Offload, &[u8]), HeaderError> {
    let Some((header, frame)) = read.split_first_chunk::<HEADER_LEN>() else {
        return Err(HeaderError::TooShort { length: read.len() });
    };
    Ok((decode(header, frame.len())?, frame))
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
        assert_eq!(split(&[0; 9]), Err(HeaderError::TooShort { length: 9 }));
    }
}
