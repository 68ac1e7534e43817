//! IPv6 headers (RFC 8200, sections 3 and 4).
//!
//! ```text
//!  0     4         6      7     8      24     40
//! +-----+---------+------+-----+------+------+---------------
//! | 6.. | payload | next | hop | from | to   | extension headers, upper layer
//! |     | length  |      | lim |      |      |
//! +-----+---------+------+-----+------+------+---------------
//!
//! extension header:  next  length / 8 - 1  options ...
//! fragment header:   next  0  offset/8 0 0 M  id (4)
//! ```

use std::net::Ipv6Addr;

use super::{Reader, UnexpectedEnd};

/// Length of the header without extensions.
pub const HEADER_LEN: usize = 40;

/// Every link carries packets of this length (RFC 8200, section 5).
pub const MIN_MTU: usize = 1280;

/// Protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// More extension headers than anybody sends (RFC 8200, section 4.1, recommends six at most).
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// A view of a packet with a header. The packet itself may be cut off.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    packet: &'a [u8],
    next_header: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    /// After the fixed header, without padding.
    payload: &'a [u8],
}

/// Why bytes are not an IPv6 packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Ipv6Error {
    /// The header is cut off.
    #[error(transparent)]
    Truncated(#[from] UnexpectedEnd),
    /// The version is another one.
    #[error("IP version {0} instead of 6")]
    Version(u8),
}

/// The first header that is no extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpperLayer<'a> {
    /// What it is.
    pub protocol: u8,
    /// Where it starts, counted from the start of the packet.
    pub offset: usize,
    /// The header and what follows it; of a fragment other than the first, something else.
    pub bytes: &'a [u8],
    /// Where this fragment belongs, in units of 8 bytes.
    pub fragment_offset: u16,
}

impl<'a> Ipv6<'a> {
    /// Looks at the packet at the start of `bytes`; what follows it is padding.
    ///
    /// # Errors
    /// When there is no IPv6 header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Ipv6Error> {
        let mut reader = Reader::new(bytes);
        let [version, ..] = reader.array::<4>("an IPv6 header")?;
        if version >> 4 != 6 {
            return Err(Ipv6Error::Version(version >> 4));
        }
        let payload_length = usize::from(reader.u16("an IPv6 header")?);
        let next_header = reader.u8("an IPv6 header")?;
        let _hop_limit = reader.u8("an IPv6 header")?;
        let source = Ipv6Addr::from(reader.array::<16>("an IPv6 header")?);
        let destination = Ipv6Addr::from(reader.array::<16>("an IPv6 header")?);
        let rest = reader.rest();
        // Zero stands for a jumbogram (RFC 2675), as long as what there is.
        let payload = match payload_length {
            0 => rest,
            length => rest.get(..length).unwrap_or(rest),
        };
        let packet = bytes.get(..HEADER_LEN + payload.len()).unwrap_or(bytes);
        Ok(Self { packet, next_header, source, destination, payload })
    }

    /// The packet without padding, as far as there is one.
    pub const fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// Who sent it.
    pub const fn source(&self) -> Ipv6Addr {
        self.source
    }

    /// Who it is for.
    pub const fn destination(&self) -> Ipv6Addr {
        self.destination
    }

    /// Walks over the extension headers. None if they are cut off, encrypted or too many.
    pub fn upper_layer(&self) -> Option<UpperLayer<'a>> {
        let mut protocol = self.next_header;
        let mut fragment_offset = 0;
        let mut reader = Reader::new(self.payload);
        for _ in 0..=MAX_EXTENSIONS {
            let unit = match protocol {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => 8,
                // Its length counts words of four bytes and leaves out two (RFC 4302).
                AUTHENTICATION => 4,
                FRAGMENT => {
                    protocol = reader.u8("a fragment header").ok()?;
                    reader.u8("a fragment header").ok()?;
                    fragment_offset = reader.u16("a fragment header").ok()? >> 3;
                    reader.u32("a fragment header").ok()?;
                    if fragment_offset == 0 {
                        continue;
                    }
                    // The rest of what began in the first fragment.
                    return Some(self.upper(protocol, fragment_offset, reader));
                }
                _ => return Some(self.upper(protocol, fragment_offset, reader)),
            };
            let next = reader.u8("an extension header").ok()?;
            let length = usize::from(reader.u8("an extension header").ok()?);
            let length = if unit == 8 { (length + 1) * 8 } else { (length + 2) * 4 };
            reader.bytes(length - 2, "an extension header").ok()?;
            protocol = next;
        }
        None
    }

    const fn upper(
        &self,
        protocol: u8,
        fragment_offset: u16,
        reader: Reader<'a>,
    ) -> UpperLayer<'a> {
        let offset = HEADER_LEN + reader.offset();
        UpperLayer { protocol, offset, bytes: reader.rest(), fragment_offset }
    }
}

/// What varies in the headers that this crate makes: no traffic class, no flow label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the payload is.
    pub next_header: u8,
    /// Who it is from.
    pub source: Ipv6Addr,
    /// Who it is for.
    pub destination: Ipv6Addr,
    /// Length of the payload.
    pub payload_length: u16,
}

impl Header {
    const HOP_LIMIT: u8 = 64;

    /// Appends the header.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0x60, 0, 0, 0]);
        out.extend_from_slice(&self.payload_length.to_be_bytes());
        out.extend_from_slice(&[self.next_header, Self::HOP_LIMIT]);
        out.extend_from_slice(&self.source.octets());
        out.extend_from_slice(&self.destination.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Header {
            next_header,
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
            payload_length: u16::try_from(payload.len()).unwrap(),
        }
        .put(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn upper(next_header: u8, payload: &[u8]) -> Option<(u8, usize, u16)> {
        let bytes = packet(next_header, payload);
        let upper = Ipv6::new(&bytes).unwrap().upper_layer()?;
        assert_eq!(upper.bytes, &bytes[upper.offset..]);
        Some((upper.protocol, upper.offset, upper.fragment_offset))
    }

    #[test]
    fn header_round_trip() {
        let mut bytes = packet(17, b"hello");
        bytes.extend_from_slice(b"padding");
        let view = Ipv6::new(&bytes).unwrap();
        assert_eq!(view.packet(), &bytes[..45]);
        assert_eq!(view.source().to_string(), "2001:db8::1");
        assert_eq!(view.destination().to_string(), "2001:db8::2");
        let upper = view.upper_layer().unwrap();
        assert_eq!((upper.protocol, upper.offset, upper.bytes), (17, 40, &b"hello"[..]));
        // Cut off, and a jumbogram.
        assert_eq!(Ipv6::new(&bytes[..42]).unwrap().packet().len(), 42);
        bytes[4..6].fill(0);
        assert_eq!(Ipv6::new(&bytes).unwrap().packet().len(), bytes.len());
    }

    #[test]
    fn refused() {
        let mut bytes = packet(17, &[]);
        assert!(matches!(Ipv6::new(&bytes[..39]), Err(Ipv6Error::Truncated(_))));
        assert!(matches!(Ipv6::new(&[]), Err(Ipv6Error::Truncated(_))));
        bytes[0] = 0x45;
        assert_eq!(Ipv6::new(&bytes).unwrap_err(), Ipv6Error::Version(4));
    }

    #[test]
    fn extension_headers_are_walked_over() {
        let hop_by_hop = [43, 0, 1, 4, 0, 0, 0, 0];
        let routing = [[51, 1, 0, 0, 0, 0, 0, 0], [0; 8]].concat();
        let authentication = [[58, 4, 0, 0, 0, 0, 0, 0], [0; 8], [0; 8]].concat();
        let payload = [&hop_by_hop[..], &routing, &authentication, &[128, 0]].concat();
        assert_eq!(upper(HOP_BY_HOP, &payload), Some((58, 40 + 8 + 16 + 24, 0)));
        // Cut off anywhere before the upper layer.
        for length in 0..payload.len() - 2 {
            assert_eq!(upper(HOP_BY_HOP, &payload[..length]), None, "{length}");
        }
    }

    #[test]
    fn fragments() {
        let first = [17, 0, 0, 1, 0, 0, 0, 9, 0xaa];
        assert_eq!(upper(FRAGMENT, &first), Some((17, 48, 0)));
        let options_in_first = [60, 0, 0, 1, 0, 0, 0, 9, 17, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(upper(FRAGMENT, &options_in_first), Some((17, 56, 0)));
        // What looks like options in a later one is payload.
        let later = [60, 0, 0, 0x10, 0, 0, 0, 9, 17, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(upper(FRAGMENT, &later), Some((60, 48, 2)));
    }

    #[test]
    fn the_walk_is_bounded() {
        let options = [60, 0, 1, 4, 0, 0, 0, 0];
        let with =
            |count: usize| [options.repeat(count - 1), vec![17, 0, 1, 4, 0, 0, 0, 0]].concat();
        assert_eq!(upper(60, &with(8)), Some((17, 40 + 64, 0)));
        assert_eq!(upper(60, &with(9)), None);
    }
}
