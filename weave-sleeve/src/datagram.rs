//! The contents of a UDP datagram (spec sleeve.md, section 2).
//!
//! ```text
//!   plain     | 6 sender | records ...
//!   sealed    | 6 sender | 8 word | 16 tag | records ..., encrypted
//!
//!   record    | 6 source | 6 destination | 2 length n | n frame |
//! ```
//!
//! `sender` is the router that sent the datagram; `source` and `destination` are the peers between
//! which the frame travels. Integers are big-endian. The encryption is in [`crate::cipher`].

use weave_core::mesh::PeerName;

/// Length of a peer name.
pub const NAME_LEN: usize = 6;

/// Length of the header that precedes each frame.
pub const RECORD_HEADER: usize = 14;

/// Returns the name of the router that sent this datagram.
///
/// # Errors
/// The datagram is too short to contain a name.
pub fn sender(datagram: &[u8]) -> Result<PeerName, RecordError> {
    match datagram.first_chunk::<NAME_LEN>() {
        Some(name) => Ok(PeerName::from_bytes(*name)),
        None => Err(RecordError::NoSender { length: datagram.len() }),
    }
}

/// A frame and the peers it travels between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The peer that captured the frame.
    pub source: PeerName,
    /// The peer that the frame is for.
    pub destination: PeerName,
    /// An Ethernet frame without FCS, of any length.
    pub frame: &'a [u8],
}

impl Record<'_> {
    /// Returns the length on the wire.
    pub const fn buffer_len(&self) -> usize {
        RECORD_HEADER + self.frame.len()
    }

    /// Writes the record to the start of `buffer` and returns its length, or `None` if it does not
    /// fit or the frame is longer than 65535 bytes.
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let Self { source, destination, frame } = *self;
        let length = u16::try_from(frame.len()).ok()?;
        let (header, rest) = buffer.split_first_chunk_mut::<RECORD_HEADER>()?;
        rest.get_mut(..frame.len())?.copy_from_slice(frame);
        put_header(header, source, destination, length);
        Some(self.buffer_len())
    }
}

/// Writes the header that precedes a frame of this length.
pub(crate) fn put_header(
    header: &mut [u8; RECORD_HEADER],
    source: PeerName,
    destination: PeerName,
    length: u16,
) {
    header[..6].copy_from_slice(&source.to_bytes());
    header[6..12].copy_from_slice(&destination.to_bytes());
    header[12..].copy_from_slice(&length.to_be_bytes());
}

/// The reason why the rest of a datagram is not a record. Offsets count from the first record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The datagram is shorter than a name.
    #[error("{length} bytes are too short for the name of the sender")]
    NoSender {
        /// Length of the datagram.
        length: usize,
    },
    /// A record claims to be longer than what is left.
    #[error("too short: expected a frame of {expected} bytes at offset {offset}, got {available}")]
    FrameTooShort {
        /// Offset of the frame.
        offset: usize,
        /// Its claimed length.
        expected: usize,
        /// Length of what is left.
        available: usize,
    },
    /// What is left is shorter than the header of a record.
    #[error("{length} bytes of trailing garbage at offset {offset}")]
    TrailingGarbage {
        /// Offset of the garbage.
        offset: usize,
        /// Length of the garbage.
        length: usize,
    },
}

/// The records of a datagram, in order. An error ends the iteration.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Records<'a> {
    /// Reads the records in these bytes: what follows the header of a plain datagram, or the
    /// decrypted part of a sealed one.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((header, rest)) = self.rest.split_first_chunk::<RECORD_HEADER>() else {
            let length = self.rest.len();
            self.rest = &[];
            return Some(Err(RecordError::TrailingGarbage { offset: self.offset, length }));
        };
        let [s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5, high, low] = *header;
        let expected = usize::from(u16::from_be_bytes([high, low]));
        let offset = self.offset + RECORD_HEADER;
        let Some((frame, rest)) = rest.split_at_checked(expected) else {
            let available = rest.len();
            self.rest = &[];
            return Some(Err(RecordError::FrameTooShort { offset, expected, available }));
        };
        self.rest = rest;
        self.offset = offset + expected;
        Some(Ok(Record {
            source: PeerName::from_bytes([s0, s1, s2, s3, s4, s5]),
            destination: PeerName::from_bytes([d0, d1, d2, d3, d4, d5]),
            frame,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_that_do_not_fit_are_not_written() {
        let record =
            |frame| Record { source: PeerName::UNKNOWN, destination: PeerName::UNKNOWN, frame };
        let mut buffer = [7; 20];
        assert_eq!(record(&[1; 7]).emit(&mut buffer), None);
        assert_eq!(record(&[]).emit(&mut buffer[..13]), None);
        assert_eq!(buffer, [7; 20]);
        assert_eq!(record(&[1; 6]).emit(&mut buffer), Some(20));
        let longest = vec![0; 65_535];
        let mut buffer = vec![0; 70_000];
        assert_eq!(record(&longest).emit(&mut buffer), Some(65_549));
        assert_eq!(record(&[0; 65_536]).emit(&mut buffer), None);
    }

    proptest! {
        #[test]
        fn round_trip(
            records in prop::collection::vec(
                (any::<[u8; 6]>(), any::<[u8; 6]>(), prop::collection::vec(any::<u8>(), 0..200)),
                0..20,
            ),
            cut in 0_usize..14,
        ) {
            let mut buffer = vec![0; 20 * 214];
            let mut end = 0;
            for (source, destination, frame) in &records {
                let (source, destination) =
                    (PeerName::from_bytes(*source), PeerName::from_bytes(*destination));
                let record = Record { source, destination, frame };
                end += record.emit(&mut buffer[end..]).unwrap();
            }
            let decoded: Result<Vec<_>, _> = Records::new(&buffer[..end])
                .map(|r| r.map(|r| (r.source.to_bytes(), r.destination.to_bytes(), r.frame.to_vec())))
                .collect();
            prop_assert_eq!(decoded.unwrap(), records.clone());

            // Without its last bytes the datagram loses the last record and no other.
            let cut = cut.min(end);
            let whole = Records::new(&buffer[..end - cut]).filter(Result::is_ok).count();
            let expected = if cut == 0 { records.len() } else { records.len() - 1 };
            prop_assert_eq!(whole, expected);
        }
    }
}
