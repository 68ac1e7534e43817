//! Ethernet frames without FCS (IEEE 802.3, clause 3).
//!
//! ```text
//!  0           6           12     14
//! +-----------+-----------+------+---------------
//! | to        | from      | type | payload ...          DIX
//! +-----------+-----------+------+---------------
//! | to        | from      | len  | LLC ...              802.3: below 0x0600
//! +-----------+-----------+------+------+------+-
//! | to        | from      | 8100 | tag  | type | ...    802.1Q
//! +-----------+-----------+------+------+------+-
//! ```

use super::vlan::{self, TAG_LEN};
use super::{EtherType, MacAddress, Reader, UnexpectedEnd};

/// Length of the two addresses, behind which tags go.
pub const ADDRESSES_LEN: usize = 12;

/// Length of the two addresses and the type.
pub const HEADER_LEN: usize = 14;

/// Shorter frames are padded with zeros: 64 bytes less the FCS.
pub const MIN_LEN: usize = 60;

/// A view of a frame that has at least a header.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a> {
    destination: MacAddress,
    source: MacAddress,
    outer_type: EtherType,
    payload: &'a [u8],
}

/// What a frame carries below its tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network<'a> {
    /// The type of the payload.
    pub ethertype: EtherType,
    /// Where the payload starts in the frame.
    pub offset: usize,
    /// The payload, and perhaps padding.
    pub payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    /// Looks at a frame.
    ///
    /// # Errors
    /// When it is shorter than a header.
    pub fn new(frame: &'a [u8]) -> Result<Self, UnexpectedEnd> {
        let mut reader = Reader::new(frame);
        Ok(Self {
            destination: MacAddress(reader.array("the destination address")?),
            source: MacAddress(reader.array("the source address")?),
            outer_type: EtherType(reader.u16("the type")?),
            payload: reader.rest(),
        })
    }

    /// Who it is for.
    pub const fn destination(&self) -> MacAddress {
        self.destination
    }

    /// Who sent it.
    pub const fn source(&self) -> MacAddress {
        self.source
    }

    /// The type or length; of a tagged frame the type of the outer tag.
    pub const fn outer_type(&self) -> EtherType {
        self.outer_type
    }

    /// What follows the header.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Looks below up to [`vlan::MAX_TAGS`] tags. With more, or if the frame ends in a tag,
    /// the type is that of the tag.
    pub fn network(&self) -> Network<'a> {
        let mut network =
            Network { ethertype: self.outer_type, offset: HEADER_LEN, payload: self.payload };
        for _ in 0..vlan::MAX_TAGS {
            let Some((ethertype, payload)) = vlan::strip(network.ethertype, network.payload) else {
                break;
            };
            network = Network { ethertype, offset: network.offset + TAG_LEN, payload };
        }
        network
    }
}

/// Appends an untagged header.
pub fn put_header(
    destination: MacAddress,
    source: MacAddress,
    ethertype: EtherType,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&destination.0);
    out.extend_from_slice(&source.0);
    out.extend_from_slice(&ethertype.0.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip() {
        let (to, from) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
        let mut bytes = Vec::new();
        put_header(to, from, EtherType::ARP, &mut bytes);
        assert_eq!(bytes.len(), HEADER_LEN);
        bytes.push(7);
        let frame = Ethernet::new(&bytes).unwrap();
        assert_eq!((frame.destination(), frame.source()), (to, from));
        assert_eq!((frame.outer_type(), frame.payload()), (EtherType::ARP, &[7][..]));
        assert_eq!(
            frame.network(),
            Network { ethertype: EtherType::ARP, offset: 14, payload: &[7] }
        );
    }

    #[test]
    fn shorter_than_a_header() {
        let error = Ethernet::new(&[0; 13]).unwrap_err();
        assert_eq!(error.to_string(), "the type at offset 12 needs 2 bytes, but 1 are left");
    }

    #[test]
    fn tags_are_looked_through_up_to_two() {
        let mut bytes = vec![0; 12];
        bytes.extend_from_slice(&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x08, 0x00, 0x45]);
        let network = Ethernet::new(&bytes).unwrap().network();
        assert_eq!((network.ethertype, network.offset), (EtherType::IPV4, 22));
        assert_eq!(network.payload, [0x45]);

        bytes.truncate(18);
        let network = Ethernet::new(&bytes).unwrap().network();
        assert_eq!((network.ethertype, network.offset), (EtherType::VLAN, 18));
        bytes.truncate(17);
        let network = Ethernet::new(&bytes).unwrap().network();
        assert_eq!((network.ethertype, network.offset), (EtherType::SERVICE_VLAN, 14));

        let mut three = vec![0; 12];
        three.extend_from_slice(&[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 0x08, 0x00]);
        let network = Ethernet::new(&three).unwrap().network();
        assert_eq!((network.ethertype, network.offset), (EtherType::VLAN, 22));
    }
}
