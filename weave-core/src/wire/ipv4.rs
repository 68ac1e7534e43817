//! IPv4 headers (RFC 791, section 3.1).
//!
//! ```text
//!  0    1    2      4    6         8     9      10      12     16     20
//! +----+----+------+----+---------+-----+------+-------+------+------+-----------+---
//! |4hl | TOS| total| id | 0 DF MF | TTL | prot | check | from | to   | options   | payload
//! |    |    | len  |    | offset/8|     |      |       |      |      | to hl * 4 |
//! +----+----+------+----+---------+-----+------+-------+------+------+-----------+---
//! ```

use std::net::Ipv4Addr;

use super::{Checksum, Reader, UnexpectedEnd};

/// Length of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Length of a header with as many options as fit.
pub const MAX_HEADER_LEN: usize = 60;

/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;

pub(super) const RESERVED: u16 = 0x8000;
const DONT_FRAGMENT: u16 = 0x4000;
pub(super) const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// A view of a packet with a valid header. The packet itself may be cut off.
///
/// Valid is what Weave Net takes for valid (spec sleeve.md, section 9):
/// the version and the checksum do not matter.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    header: &'a [u8],
    /// Up to the total length or to the end of what there is.
    payload: &'a [u8],
    total_length: usize,
    fixed: Fixed,
}

/// The fields before the options.
#[derive(Clone, Copy, Debug)]
struct Fixed {
    tos: u8,
    flags_and_offset: u16,
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
}

/// Why bytes are not an IPv4 header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Ipv4Error {
    /// The header is cut off.
    #[error(transparent)]
    Truncated(#[from] UnexpectedEnd),
    /// The header length is less than 20 bytes or more than the total length.
    #[error("header length {header} does not go with total length {total}")]
    Lengths {
        /// Length of the header.
        header: usize,
        /// Length of the packet.
        total: usize,
    },
    /// The options do not fill their space.
    #[error("an option of type {0} has a wrong length")]
    Option(u8),
}

impl<'a> Ipv4<'a> {
    /// Looks at the packet at the start of `bytes`; what follows it is padding.
    ///
    /// # Errors
    /// When there is no valid header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Ipv4Error> {
        let mut reader = Reader::new(bytes);
        let first = reader.u8("an IPv4 header")?;
        let tos = reader.u8("an IPv4 header")?;
        let total_length = usize::from(reader.u16("an IPv4 header")?);
        let _id = reader.u16("an IPv4 header")?;
        let flags_and_offset = reader.u16("an IPv4 header")?;
        let _ttl = reader.u8("an IPv4 header")?;
        let protocol = reader.u8("an IPv4 header")?;
        let _checksum = reader.u16("an IPv4 header")?;
        let source = Ipv4Addr::from(reader.array::<4>("an IPv4 header")?);
        let destination = Ipv4Addr::from(reader.array::<4>("an IPv4 header")?);
        // A sender that leaves segmentation to its device may leave the length to it as well.
        let total_length = if total_length == 0 { bytes.len() } else { total_length };
        let header_len = usize::from(first & 0x0f) * 4;
        if header_len < MIN_HEADER_LEN || header_len > total_length {
            return Err(Ipv4Error::Lengths { header: header_len, total: total_length });
        }
        let mut reader = Reader::new(bytes);
        let header = reader.bytes(header_len, "an IPv4 header with options")?;
        check_options(header)?;
        let payload = reader.rest();
        let payload = payload.get(..total_length - header_len).unwrap_or(payload);
        let fixed = Fixed { tos, flags_and_offset, protocol, source, destination };
        Ok(Self { header, payload, total_length, fixed })
    }

    /// The header with its options.
    pub const fn header(&self) -> &'a [u8] {
        self.header
    }

    /// What follows the header, without padding.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Length of the packet, though it may be cut off.
    pub const fn total_length(&self) -> usize {
        self.total_length
    }

    /// Whether there are fewer bytes than the total length.
    pub const fn is_cut_off(&self) -> bool {
        self.header.len() + self.payload.len() < self.total_length
    }

    /// Type of service: DSCP and ECN.
    pub const fn tos(&self) -> u8 {
        self.fixed.tos
    }

    /// Routers must not cut the packet.
    pub const fn dont_fragment(&self) -> bool {
        self.fixed.flags_and_offset & DONT_FRAGMENT != 0
    }

    /// Fragments of the same packet follow.
    pub const fn more_fragments(&self) -> bool {
        self.fixed.flags_and_offset & MORE_FRAGMENTS != 0
    }

    /// The bit that must be zero.
    pub const fn reserved_flag(&self) -> bool {
        self.fixed.flags_and_offset & RESERVED != 0
    }

    /// Where the payload belongs in the unfragmented one, in units of 8 bytes.
    pub const fn fragment_offset(&self) -> u16 {
        self.fixed.flags_and_offset & OFFSET
    }

    /// What the payload is.
    pub const fn protocol(&self) -> u8 {
        self.fixed.protocol
    }

    /// Who sent it.
    pub const fn source(&self) -> Ipv4Addr {
        self.fixed.source
    }

    /// Who it is for.
    pub const fn destination(&self) -> Ipv4Addr {
        self.fixed.destination
    }
}

/// Each option is one byte (0 the end, 1 nothing) or has its length in the second.
fn check_options(header: &[u8]) -> Result<(), Ipv4Error> {
    let mut options = header.get(MIN_HEADER_LEN..).unwrap_or_default();
    while let Some((kind, rest)) = options.split_first() {
        options = match kind {
            0 => break,
            1 => rest,
            _ => match rest.first() {
                Some(length @ 2..) => options.get(usize::from(*length)..),
                _ => None,
            }
            .ok_or(Ipv4Error::Option(*kind))?,
        };
    }
    Ok(())
}

/// What varies in the headers that this crate makes: no options, id zero, not fragmented.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Type of service.
    pub tos: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Who it is from.
    pub source: Ipv4Addr,
    /// Who it is for.
    pub destination: Ipv4Addr,
    /// Length of the payload, at most 65515.
    pub payload_length: u16,
}

impl Header {
    const TTL: u8 = 64;

    /// Appends the header with its checksum.
    pub fn put(&self, out: &mut Vec<u8>) {
        let mut header = [0; MIN_HEADER_LEN];
        let [version, tos, .., ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = &mut header;
        (*version, *tos, *ttl, *protocol) = (0x45, self.tos, Self::TTL, self.protocol);
        [*s0, *s1, *s2, *s3] = self.source.octets();
        [*d0, *d1, *d2, *d3] = self.destination.octets();
        rewrite(&mut header, 20_u16.saturating_add(self.payload_length), 0);
        out.extend_from_slice(&header);
    }
}

/// Changes a header for a packet or fragment of another length, and its checksum with it.
pub(super) fn rewrite(header: &mut [u8], total_length: u16, flags_and_offset: u16) {
    let Some((fixed, _)) = header.split_first_chunk_mut::<MIN_HEADER_LEN>() else { return };
    let [_, _, l0, l1, _, _, f0, f1, _, _, c0, c1, ..] = fixed;
    [*l0, *l1] = total_length.to_be_bytes();
    [*f0, *f1] = flags_and_offset.to_be_bytes();
    [*c0, *c1] = [0, 0];
    let checksum = Checksum::of(header);
    if let Some([.., c0, c1]) = header.first_chunk_mut::<12>() {
        [*c0, *c1] = checksum.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        tos: 0xb8,
        protocol: 17,
        source: Ipv4Addr::new(10, 32, 0, 11),
        destination: Ipv4Addr::new(10, 32, 0, 12),
        payload_length: 5,
    };

    #[test]
    fn header_round_trip() {
        let mut bytes = Vec::new();
        HEADER.put(&mut bytes);
        assert_eq!(Checksum::of(&bytes), 0, "a header with its checksum sums up to zero");
        bytes.extend_from_slice(b"hello, padding");
        let packet = Ipv4::new(&bytes).unwrap();
        assert_eq!(packet.header(), &bytes[..20]);
        assert_eq!(packet.payload(), b"hello");
        assert_eq!((packet.total_length(), packet.is_cut_off()), (25, false));
        assert_eq!((packet.tos(), packet.protocol()), (0xb8, 17));
        assert_eq!((packet.source(), packet.destination()), (HEADER.source, HEADER.destination));
        assert!(!packet.dont_fragment() && !packet.more_fragments() && !packet.reserved_flag());
        assert_eq!(packet.fragment_offset(), 0);

        let cut_off = Ipv4::new(&bytes[..22]).unwrap();
        assert_eq!((cut_off.payload(), cut_off.is_cut_off()), (&b"he"[..], true));
        assert!(matches!(Ipv4::new(&bytes[..19]), Err(Ipv4Error::Truncated(_))));
    }

    #[test]
    fn flags_and_offset() {
        let mut bytes = Vec::new();
        HEADER.put(&mut bytes);
        for (flags, expected) in [
            (0x8000, (true, false, false, 0)),
            (0x4000, (false, true, false, 0)),
            (0x2000, (false, false, true, 0)),
            (0x1fff, (false, false, false, 0x1fff)),
        ] {
            rewrite(&mut bytes, 25, flags);
            assert_eq!(Checksum::of(&bytes), 0);
            let packet = Ipv4::new(&bytes).unwrap();
            let found = (
                packet.reserved_flag(),
                packet.dont_fragment(),
                packet.more_fragments(),
                packet.fragment_offset(),
            );
            assert_eq!(found, expected);
        }
    }

    /// A packet with these option bytes, and enough of a payload.
    fn with_options(options: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        HEADER.put(&mut bytes);
        bytes.extend_from_slice(options);
        let words = 5 + options.len() / 4;
        bytes[0] = 0x40 | u8::try_from(words).unwrap();
        let total = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        bytes
    }

    #[test]
    fn options() {
        for good in [
            &[0, 0, 0, 0][..],
            &[1, 1, 1, 1],
            &[7, 4, 0, 0],
            &[1, 7, 3, 9],
            &[7, 2, 7, 2],
            &[1, 0, 7, 0],
            &[0xff; 0],
        ] {
            let bytes = with_options(good);
            assert_eq!(Ipv4::new(&bytes).unwrap().header().len(), 20 + good.len(), "{good:?}");
        }
        for bad in [&[7, 5, 0, 0], &[7, 0, 0, 0], &[7, 1, 0, 0], &[1, 1, 1, 7]] {
            let bytes = with_options(bad);
            assert_eq!(Ipv4::new(&bytes).unwrap_err(), Ipv4Error::Option(7), "{bad:?}");
        }
    }

    #[test]
    fn lengths() {
        let mut bytes = with_options(&[1; 40]);
        assert_eq!(Ipv4::new(&bytes).unwrap().header().len(), MAX_HEADER_LEN);
        assert!(matches!(Ipv4::new(&bytes[..59]), Err(Ipv4Error::Truncated(_))));
        bytes[3] = 59;
        let error = Err(Ipv4Error::Lengths { header: 60, total: 59 });
        assert_eq!(Ipv4::new(&bytes).map(drop), error);
        bytes[0] = 0x44;
        let error = Err(Ipv4Error::Lengths { header: 16, total: 59 });
        assert_eq!(Ipv4::new(&bytes).map(drop), error);
        // The length is left to the device.
        bytes[0] = 0x45;
        bytes[3] = 0;
        assert_eq!(Ipv4::new(&bytes).unwrap().payload().len(), 40);
    }
}
