//! The internet checksum (RFC 1071): the ones' complement of the ones' complement sum of
//! big-endian 16-bit words.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::UnexpectedEnd;

/// A sum in the making. Pieces may have any length; together they are summed as if they were
/// one byte string.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    /// Each piece adds less than 2^16.
    sum: u64,
    /// The next piece begins with the low half of a word.
    odd: bool,
}

impl Checksum {
    /// The empty sum.
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// The checksum of one byte string.
    pub fn of(bytes: &[u8]) -> u16 {
        let mut checksum = Self::new();
        checksum.add(bytes);
        checksum.finish()
    }

    /// The pseudo-header of TCP and UDP over IPv4 (RFC 9293, section 3.1).
    pub fn pseudo_ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Self {
        let mut checksum = Self::new();
        checksum.add(&source.octets());
        checksum.add(&destination.octets());
        checksum.add(&[0, protocol]);
        checksum.add(&length.to_be_bytes());
        checksum
    }

    /// The pseudo-header of upper layers over IPv6 (RFC 8200, section 8.1).
    pub fn pseudo_ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> Self {
        let mut checksum = Self::new();
        checksum.add(&source.octets());
        checksum.add(&destination.octets());
        checksum.add(&length.to_be_bytes());
        checksum.add(&[0, 0, 0, protocol]);
        checksum
    }

    /// Adds a piece.
    pub fn add(&mut self, piece: &[u8]) {
        let sum = sum_words(piece);
        // In ones' complement arithmetic, swapping the bytes of every word swaps those of the
        // sum (RFC 1071, section 2).
        self.sum += u64::from(if self.odd { sum.swap_bytes() } else { sum });
        self.odd ^= piece.len() % 2 == 1;
    }

    /// The sum itself: what an unfinished checksum field holds.
    pub const fn sum(self) -> u16 {
        fold(self.sum)
    }

    /// The checksum.
    pub const fn finish(self) -> u16 {
        !self.sum()
    }
}

/// Computes a checksum that the sender left to the device: sums the frame from `start` to its
/// end and stores the complement at `start + offset`, where the sum of the pseudo-header is
/// (virtio 1.2, section 5.1.6.2).
///
/// # Errors
/// When the frame does not reach to the end of the checksum field.
pub fn complete_checksum(
    frame: &mut [u8],
    start: usize,
    offset: usize,
) -> Result<(), UnexpectedEnd> {
    let left = frame.len();
    let error = UnexpectedEnd { what: "the checksum field", offset: start, needed: 2, left };
    let summed = frame.get_mut(start..).ok_or(error)?;
    let checksum = match Checksum::of(summed) {
        // Zero would mean "none" to UDP; the other zero is as good to all.
        0 => 0xffff,
        other => other,
    };
    let field = summed.get_mut(offset..).and_then(<[u8]>::first_chunk_mut).ok_or(error)?;
    *field = checksum.to_be_bytes();
    Ok(())
}

/// The sum of big-endian words, an odd byte at the end being the high half of one.
fn sum_words(bytes: &[u8]) -> u16 {
    // Words of any size in any byte order give the same sum, up to the order of its bytes
    // (RFC 1071, section 2). 32-bit words in 64-bit lanes are what compilers turn into vector
    // instructions.
    let (words, rest) = bytes.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    fold(sum + u64::from(u32::from_ne_bytes(last))).to_be()
}

/// Adds the carries to the lowest 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "the loop ends below 2^16")]
const fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071, section 4.1, word by word.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn example_of_the_rfc() {
        // RFC 1071, section 3.
        let mut checksum = Checksum::new();
        checksum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(checksum.sum(), 0xddf2);
        assert_eq!(checksum.finish(), 0x220d);
        assert_eq!(Checksum::new().finish(), 0xffff);
    }

    #[test]
    fn carries_do_not_get_lost() {
        assert_eq!(Checksum::of(&[0xff; 65535]), slow(&[0xff; 65535]));
        assert_eq!(Checksum::of(&[0xff; 8]), 0);
    }

    #[test]
    fn udp_over_ipv4_with_pseudo_header() {
        let source = Ipv4Addr::new(10, 32, 0, 11);
        let destination = Ipv4Addr::new(10, 32, 0, 12);
        let datagram = [0x04, 0xd2, 0x16, 0x2e, 0x00, 0x0b, 0, 0, b'a', b'b', b'c'];
        let mut checksum = Checksum::pseudo_ipv4(source, destination, 17, 11);
        checksum.add(&datagram);
        let mut written_out = vec![10, 32, 0, 11, 10, 32, 0, 12, 0, 17, 0, 11];
        written_out.extend_from_slice(&datagram);
        assert_eq!(checksum.finish(), slow(&written_out));
    }

    #[test]
    fn tcp_over_ipv6_with_pseudo_header() {
        let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let destination: Ipv6Addr = "2001:db8::2".parse().unwrap();
        let checksum = Checksum::pseudo_ipv6(source, destination, 6, 0x12345);
        let mut written_out = source.octets().to_vec();
        written_out.extend_from_slice(&destination.octets());
        written_out.extend_from_slice(&[0, 1, 0x23, 0x45, 0, 0, 0, 6]);
        assert_eq!(checksum.finish(), slow(&written_out));
    }

    #[test]
    fn a_field_beyond_the_frame_is_refused() {
        let mut frame = [0; 40];
        assert!(complete_checksum(&mut frame, 34, 4).is_ok());
        for (start, offset) in [(34, 5), (41, 0), (usize::MAX, 0), (0, usize::MAX), (39, 0)] {
            assert!(complete_checksum(&mut frame, start, offset).is_err(), "{start} {offset}");
        }
    }

    #[test]
    fn a_finished_checksum_is_never_zero() {
        let mut frame = [0xff, 0xff, 0, 0];
        complete_checksum(&mut frame, 0, 2).unwrap();
        assert_eq!(frame, [0xff; 4]);
    }

    proptest! {
        #[test]
        fn equals_the_slow_one(bytes: Vec<u8>) {
            prop_assert_eq!(Checksum::of(&bytes), slow(&bytes));
        }

        #[test]
        fn pieces_make_the_whole(pieces: Vec<Vec<u8>>) {
            let mut checksum = Checksum::new();
            for piece in &pieces {
                checksum.add(piece);
            }
            prop_assert_eq!(checksum.finish(), slow(&pieces.concat()));
        }

        #[test]
        fn a_completed_checksum_verifies(
            mut frame in prop::collection::vec(any::<u8>(), 2..200),
            start in 0_usize..64,
            offset in 0_usize..64,
        ) {
            // Whatever the field held is part of the sum, as the pseudo-header is.
            let held = frame.get(start + offset..start + offset + 2).map(<[u8]>::to_vec);
            let expected = frame.get(start..).map(slow);
            if complete_checksum(&mut frame, start, offset).is_ok() {
                prop_assert!(held.is_some());
                let stored = u16::from_be_bytes([frame[start + offset], frame[start + offset + 1]]);
                let expected = expected.filter(|sum| *sum != 0).unwrap_or(0xffff);
                prop_assert_eq!(stored, expected);
            } else {
                prop_assert!(held.is_none());
            }
        }
    }
}
