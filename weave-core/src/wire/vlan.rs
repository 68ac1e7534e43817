//! VLAN tags (IEEE 802.1Q, clause 9).
//!
//! ```text
//!  12     14           16     18
//! +------+------------+------+-------------------
//! | 8100 | PCP 3 bits | type | what the tag is on
//! | 88a8 | DEI 1 bit  |      |
//! |      | id 12 bits |      |
//! +------+------------+------+-------------------
//! ```

use super::{EtherType, Reader};

/// A frame has at most a service tag and a customer tag.
pub const MAX_TAGS: usize = 2;

/// Length of a tag, which is put before the type of an untagged frame.
pub const TAG_LEN: usize = 4;

/// A tag without its place in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// [`EtherType::VLAN`] or [`EtherType::SERVICE_VLAN`].
    pub kind: EtherType,
    /// Priority, DEI and id.
    pub control: u16,
}

/// Takes a tag off: the type and the payload below it. None if `ethertype` is not that of a tag
/// or the payload is too short for one.
pub fn strip(ethertype: EtherType, payload: &[u8]) -> Option<(EtherType, &[u8])> {
    if !matches!(ethertype, EtherType::VLAN | EtherType::SERVICE_VLAN) {
        return None;
    }
    let mut reader = Reader::new(payload);
    let _control = reader.u16("a tag").ok()?;
    let below = EtherType(reader.u16("a type").ok()?);
    Some((below, reader.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tags_are_taken_off() {
        let payload = [0xa0, 5, 0x08, 0x06, 1, 2];
        for tag in [EtherType::VLAN, EtherType::SERVICE_VLAN] {
            assert_eq!(strip(tag, &payload), Some((EtherType::ARP, &[1, 2][..])));
            assert_eq!(strip(tag, &payload[..4]), Some((EtherType::ARP, &[][..])));
            assert_eq!(strip(tag, &payload[..3]), None);
        }
        assert_eq!(strip(EtherType::IPV4, &payload), None);
    }
}
