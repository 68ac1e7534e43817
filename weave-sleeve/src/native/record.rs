//! The contents of a native datagram: frames, and segments of super-frames.
//!
//! ```text
//!   0      1        7             13         15          16     18       20
//!   | kind | source | destination | length n | headers h | size | offset | n bytes
//!
//!   | relays | k |        the six high bits and the two low bits of `kind`
//!
//!   k 0     a frame                                       h, size, offset are 0
//!   k 1     a frame whose transport checksum holds        the same
//!           only the sum of the pseudo-header
//!   k 2     a segment: the first h bytes are the headers of a super-frame, as they were captured
//!           (lengths of the whole, unfinished checksum), the others the part of its payload
//!           that starts at `offset`; every segment but the last has `size` bytes
//! ```
//!
//! `relays` is how often the frame has been relayed, 0 where it was captured; in version 1 of the
//! format always 0. Integers are big-endian. All kinds have the same header, so that a frame of the
//! path's MTU fits in either.

use std::num::NonZeroU16;

use weave_core::mesh::PeerName;

/// Length of the header that precedes each frame.
pub(crate) const HEADER_LEN: usize = 20;

const COMPLETE: u8 = 0;
const UNFINISHED: u8 = 1;
const SEGMENT: u8 = 2;
/// Bits of the first octet that tell these apart; the others are the number of relays.
const KIND_BITS: u32 = 2;
/// Largest number of relays that a record can say.
const MAX_RELAYS: u8 = u8::MAX >> KIND_BITS;
const _: () = assert!(weave_core::switch::MAX_RELAYS <= MAX_RELAYS);

/// The kind of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A frame.
    Complete,
    /// A TCP or UDP frame whose checksum is still the sum of the pseudo-header.
    Unfinished,
    /// Headers and one segment of a super-frame.
    Segment {
        /// Length of the headers.
        headers: u8,
        /// Payload bytes of each segment but the last.
        size: NonZeroU16,
        /// Offset of the segment in the payload of the whole.
        offset: u16,
    },
}

/// A frame or a segment, and the peers it travels between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The peer that captured the frame.
    pub source: PeerName,
    /// The peer that the frame is for.
    pub destination: PeerName,
    /// The kind of the record.
    pub form: Form,
    /// The number of times that the frame was relayed, at most 63.
    pub relays: u8,
    /// The frame, or headers and segment. They are not shorter than the headers.
    pub bytes: &'a [u8],
}

impl Record<'_> {
    /// Returns the length on the wire.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN + self.bytes.len()
    }

    /// Writes the record to the start of `buffer` and returns its length, or `None` if it does not
    /// fit or is longer than 65535 bytes.
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let Self { source, destination, form, relays, bytes } = *self;
        let length = u16::try_from(bytes.len()).ok()?;
        let (header, rest) = buffer.split_first_chunk_mut::<HEADER_LEN>()?;
        rest.get_mut(..bytes.len())?.copy_from_slice(bytes);
        put_header(header, source, destination, form, relays, length);
        Some(self.buffer_len())
    }
}

/// Writes the header that precedes so many bytes.
pub(crate) fn put_header(
    header: &mut [u8; HEADER_LEN],
    source: PeerName,
    destination: PeerName,
    form: Form,
    relays: u8,
    length: u16,
) {
    let (kind, headers, size, offset) = match form {
        Form::Complete => (COMPLETE, 0, 0, 0),
        Form::Unfinished => (UNFINISHED, 0, 0, 0),
        Form::Segment { headers, size, offset } => (SEGMENT, headers, size.get(), offset),
    };
    header[0] = kind | relays.min(MAX_RELAYS) << KIND_BITS;
    header[1..7].copy_from_slice(&source.to_bytes());
    header[7..13].copy_from_slice(&destination.to_bytes());
    header[13..15].copy_from_slice(&length.to_be_bytes());
    header[15] = headers;
    header[16..18].copy_from_slice(&size.to_be_bytes());
    header[18..].copy_from_slice(&offset.to_be_bytes());
}

/// The reason why the rest of a datagram is not a record. Offsets count from the first record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// What is left is shorter than the header of a record.
    #[error("{length} bytes at offset {offset} are too short for a record")]
    HeaderTooShort {
        /// Offset of what is left.
        offset: usize,
        /// Length of what is left.
        length: usize,
    },
    /// The kind is unknown.
    #[error("a record of kind {kind:#04x} at offset {offset}")]
    Kind {
        /// Offset of the record.
        offset: usize,
        /// Its claimed kind.
        kind: u8,
    },
    /// A frame has header fields that only segments have.
    #[error("a record of kind {kind:#04x} at offset {offset} with the fields of a segment")]
    Unused {
        /// Offset of the record.
        offset: usize,
        /// Its claimed kind.
        kind: u8,
    },
    /// A record claims to be longer than what is left.
    #[error("too short: expected {expected} bytes at offset {offset}, got {available}")]
    TooShort {
        /// Offset of its bytes.
        offset: usize,
        /// Its claimed length.
        expected: usize,
        /// Length of what is left.
        available: usize,
    },
    /// A segment has no size or payload, or an offset that is not a multiple of the size.
    #[error("no segment: {length} bytes with {headers} of headers, segments of {size} at {offset}")]
    Segment {
        /// Length of headers and segment.
        length: usize,
        /// Length of the headers.
        headers: u8,
        /// Payload bytes of each segment but the last.
        size: u16,
        /// Offset of the segment.
        offset: u16,
    },
}

/// The records of a datagram, in order. An error ends the iteration.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Records<'a> {
    /// Reads the records in these bytes, which are a datagram without header and trailer.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    fn split(&mut self) -> Result<Record<'a>, RecordError> {
        let offset = self.offset;
        let Some((header, rest)) = self.rest.split_first_chunk::<HEADER_LEN>() else {
            return Err(RecordError::HeaderTooShort { offset, length: self.rest.len() });
        };
        let [kind, s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5, n0, n1, headers, z0, z1, o0, o1] =
            *header;
        let expected = usize::from(u16::from_be_bytes([n0, n1]));
        let (size, start) = (u16::from_be_bytes([z0, z1]), u16::from_be_bytes([o0, o1]));
        let form = match kind & !(MAX_RELAYS << KIND_BITS) {
            COMPLETE | UNFINISHED if (headers, size, start) != (0, 0, 0) => {
                return Err(RecordError::Unused { offset, kind });
            }
            COMPLETE => Form::Complete,
            UNFINISHED => Form::Unfinished,
            SEGMENT => segment(expected, headers, size, start)?,
            _ => return Err(RecordError::Kind { offset, kind }),
        };
        let Some((bytes, rest)) = rest.split_at_checked(expected) else {
            let (offset, available) = (offset + HEADER_LEN, rest.len());
            return Err(RecordError::TooShort { offset, expected, available });
        };
        self.rest = rest;
        self.offset += HEADER_LEN + expected;
        Ok(Record {
            source: PeerName::from_bytes([s0, s1, s2, s3, s4, s5]),
            destination: PeerName::from_bytes([d0, d1, d2, d3, d4, d5]),
            form,
            relays: kind >> KIND_BITS,
            bytes,
        })
    }
}

fn segment(length: usize, headers: u8, size: u16, offset: u16) -> Result<Form, RecordError> {
    let payload = length.saturating_sub(headers.into());
    match NonZeroU16::new(size) {
        Some(step) if (1..=size.into()).contains(&payload) && offset % step == 0 => {
            Ok(Form::Segment { headers, size: step, offset })
        }
        _ => Err(RecordError::Segment { length, headers, size, offset }),
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.split();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn emit(record: &Record<'_>) -> Vec<u8> {
        let mut buffer = vec![0; record.buffer_len()];
        assert_eq!(record.emit(&mut buffer), Some(buffer.len()));
        assert_eq!(record.emit(&mut vec![0; buffer.len() - 1]), None);
        buffer
    }

    fn form() -> impl Strategy<Value = Form> {
        prop_oneof![
            Just(Form::Complete),
            Just(Form::Unfinished),
            (1_u16..1500, 0_u16..40).prop_map(|(size, index)| Form::Segment {
                headers: 54,
                size: NonZeroU16::new(size).unwrap(),
                offset: size * index,
            }),
        ]
    }

    proptest! {
        #[test]
        fn emitted_records_are_read_back(
            source: [u8; 6],
            destination: [u8; 6],
            forms in prop::collection::vec((form(), 0..=MAX_RELAYS, 1_usize..1500), 0..6),
        ) {
            let (source, destination) =
                (PeerName::from_bytes(source), PeerName::from_bytes(destination));
            let bytes: Vec<u8> = (0..=255).cycle().take(2000).collect();
            let records: Vec<_> = forms
                .iter()
                .map(|&(form, relays, length)| {
                    let length = match form {
                        Form::Segment { headers, size, .. } => {
                            usize::from(headers) + length.min(size.get().into())
                        }
                        _ => length,
                    };
                    Record { source, destination, form, relays, bytes: &bytes[..length] }
                })
                .collect();
            let datagram: Vec<u8> = records.iter().flat_map(emit).collect();
            let read: Result<Vec<_>, _> = Records::new(&datagram).collect();
            prop_assert_eq!(read, Ok(records));
        }

        #[test]
        fn any_input_ends(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let count = Records::new(&bytes).count();
            prop_assert!(count <= bytes.len() / HEADER_LEN + 1);
        }
    }

    #[test]
    fn the_number_of_relays_is_beside_the_kind() {
        let name = PeerName::from_bytes([2; 6]);
        let first_octet = |form, relays| {
            emit(&Record { source: name, destination: name, form, relays, bytes: &[7; 60] })[0]
        };
        let segment = Form::Segment { headers: 54, size: NonZeroU16::MAX, offset: 0 };
        // Without relays it is what version 1 has.
        let version_1 = [Form::Complete, Form::Unfinished, segment].map(|it| first_octet(it, 0));
        assert_eq!(version_1, [0, 1, 2]);
        assert_eq!(first_octet(Form::Unfinished, 1), 1 << 2 | 1);
        assert_eq!(first_octet(segment, 31), 31 << 2 | 2);
        assert_eq!(first_octet(Form::Complete, u8::MAX), 63 << 2);
    }

    #[test]
    fn errors_say_what_and_where() {
        let name = PeerName::from_bytes([2; 6]);
        let (form, relays) = (Form::Complete, 0);
        let whole = Record { source: name, destination: name, form, relays, bytes: &[7; 5] };
        let first = emit(&whole);
        let second = |damage: &dyn Fn(&mut Vec<u8>)| {
            let mut second = emit(&whole);
            damage(&mut second);
            let both = [first.clone(), second].concat();
            let mut records = Records::new(&both);
            assert_eq!(records.next(), Some(Ok(whole)));
            let error = records.next().unwrap().unwrap_err();
            assert_eq!(records.next(), None);
            error
        };
        assert_eq!(
            second(&|bytes| bytes.truncate(19)),
            RecordError::HeaderTooShort { offset: 25, length: 19 }
        );
        assert_eq!(
            second(&|bytes| bytes.truncate(24)),
            RecordError::TooShort { offset: 45, expected: 5, available: 4 }
        );
        for kind in [3, 0xff] {
            assert_eq!(second(&|bytes| bytes[0] = kind), RecordError::Kind { offset: 25, kind });
        }
        for (kind, place) in [(0, 15), (0, 17), (1, 16), (1, 18), (1, 19)] {
            let damaged = second(&|bytes| (bytes[0], bytes[place]) = (kind, 1));
            assert_eq!(damaged, RecordError::Unused { offset: 25, kind });
        }
        // No size; no payload; too much of it; between two segments.
        for (headers, size, offset) in [(2, 0, 0), (5, 3, 0), (6, 3, 0), (1, 3, 0), (2, 3, 4)] {
            let damaged = second(&|bytes| {
                bytes[0] = SEGMENT;
                bytes[15..20].copy_from_slice(&[headers, 0, size, 0, offset]);
            });
            let (size, offset) = (u16::from(size), u16::from(offset));
            assert_eq!(damaged, RecordError::Segment { length: 5, headers, size, offset });
        }
    }
}
