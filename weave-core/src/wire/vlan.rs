//! VLAN tags (IEEE 802.1Q, clause 9).
//!
//! ```text
//!  12     14     16     18
//! +------+------+------+----
//! | 8100 | PCP 3 bits | type of what follows
//! | 88a8 | DEI 1 bit  |
//! |      | id 12 bits |
//! +------+------+------+----
//! ```

use super::{EtherType, Reader};

/// A frame has at most a service tag and a customer tag.
pub const MAX_TAGS: usize = 2;

/// The four bytes between the addresses and the type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// [`EtherType::VLAN`] or [`EtherType::SERVICE_VLAN`].
    pub protocol: EtherType,
    /// Priority, drop eligibility, VLAN id.
    pub control: u16,
}

impl Tag {
    /// Length on the wire.
    pub const LEN: usize = 4;

    /// The tag that a type announces, the type after it, what follows. None if the type is no
    /// tag's or the payload is too short.
    pub fn split(protocol: EtherType, payload: &[u8]) -> Option<(Self, EtherType, &[u8])> {
        if !matches!(protocol, EtherType::VLAN | EtherType::SERVICE_VLAN) {
            return None;
        }
        let mut reader = Reader::new(payload);
        let control = reader.u16("a tag").ok()?;
        let inner = EtherType(reader.u16("a type").ok()?);
        Some((Self { protocol, control }, inner, reader.rest()))
    }

    /// The VLAN, 1 to 4094; zero if the tag has only a priority.
    pub const fn id(self) -> u16 {
        self.control & 0x0fff
    }

    /// The bytes to put after the addresses.
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b] = self.protocol.0.to_be_bytes();
        let [c, d] = self.control.to_be_bytes();
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let tag = Tag { protocol: EtherType::VLAN, control: 0xa005 };
        assert_eq!(tag.id(), 5);
        let bytes = tag.to_bytes();
        assert_eq!(bytes, [0x81, 0, 0xa0, 5]);
        let payload = [bytes[2], bytes[3], 0x08, 0x06, 1, 2];
        assert_eq!(Tag::split(tag.protocol, &payload), Some((tag, EtherType::ARP, &[1, 2][..])));
        assert_eq!(Tag::split(tag.protocol, &payload[..3]), None);
        assert_eq!(Tag::split(EtherType::IPV4, &payload), None);
    }
}
