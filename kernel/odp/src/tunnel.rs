//! The tunnel through which a packet came in or is to leave, over IPv4.

use std::fmt;
use std::net::Ipv4Addr;

use weave_netlink::{Attributes, DecodeError};

use crate::attribute::Attribute;

/// The outer headers of a packet: of a received one in a miss, of one to be sent in an action; or a
/// mask of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tunnel {
    /// Identifier of the tunnel; for VXLAN the VNI.
    pub id: u64,
    /// Outer source address.
    pub source: Ipv4Addr,
    /// Outer destination address.
    pub destination: Ipv4Addr,
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Don't-fragment bit.
    pub dont_fragment: bool,
    /// Whether there is an outer UDP checksum.
    pub checksum: bool,
    /// UDP source port; 0 lets the kernel choose.
    pub source_port: u16,
    /// UDP destination port; 0 for that of the vport.
    pub destination_port: u16,
}

impl Tunnel {
    /// All zero; as a mask it matches everything.
    pub const ZERO: Self = Self {
        id: 0,
        source: Ipv4Addr::UNSPECIFIED,
        destination: Ipv4Addr::UNSPECIFIED,
        tos: 0,
        ttl: 0,
        dont_fragment: false,
        checksum: false,
        source_port: 0,
        destination_port: 0,
    };

    /// Mask of the fields that identify a tunnel: its identifier and its ends.
    pub const ENDS: Self = Self {
        id: u64::MAX,
        source: Ipv4Addr::BROADCAST,
        destination: Ipv4Addr::BROADCAST,
        ..Self::ZERO
    };

    /// Returns the bits under a mask.
    #[must_use]
    pub fn masked(self, mask: Self) -> Self {
        Self {
            id: self.id & mask.id,
            source: self.source & mask.source,
            destination: self.destination & mask.destination,
            tos: self.tos & mask.tos,
            ttl: self.ttl & mask.ttl,
            dont_fragment: self.dont_fragment & mask.dont_fragment,
            checksum: self.checksum & mask.checksum,
            source_port: self.source_port & mask.source_port,
            destination_port: self.destination_port & mask.destination_port,
        }
    }

    /// Returns the attributes inside `OVS_KEY_ATTR_TUNNEL`. The kernel always requires a time to
    /// live; the other fields are present where `mask` has a bit set.
    pub(crate) fn attributes(self, mask: Self) -> Vec<Attribute<'static>> {
        let ports = [
            (9, self.source_port, mask.source_port),
            (10, self.destination_port, mask.destination_port),
        ];
        let mut list = Vec::with_capacity(9);
        let mut put = |wanted: bool, attribute| {
            if wanted {
                list.push(attribute);
            }
        };
        put(mask.id != 0, Attribute::small(0, self.id.to_be_bytes()));
        put(mask.source.to_bits() != 0, Attribute::small(1, self.source.octets()));
        put(mask.destination.to_bits() != 0, Attribute::small(2, self.destination.octets()));
        put(mask.tos != 0, Attribute::small(3, [self.tos]));
        put(true, Attribute::small(4, [self.ttl]));
        put(self.dont_fragment && mask.dont_fragment, Attribute::empty(5));
        put(self.checksum && mask.checksum, Attribute::empty(6));
        for (kind, port, mask) in ports {
            put(mask != 0, Attribute::small(kind, port.to_be_bytes()));
        }
        list
    }

    /// Returns the attributes of an action that sends packets into this tunnel.
    pub(crate) fn action_attributes(self) -> Vec<Attribute<'static>> {
        let given = |port| if port == 0 { 0 } else { u16::MAX };
        self.attributes(Self {
            tos: u8::MAX,
            ttl: u8::MAX,
            dont_fragment: true,
            checksum: true,
            source_port: given(self.source_port),
            destination_port: given(self.destination_port),
            ..Self::ENDS
        })
    }

    /// Decodes the attributes of a tunnel. Missing fields are zero, unknown ones are ignored.
    pub(crate) fn decode(fields: Attributes<'_>) -> Result<Self, DecodeError> {
        let mut tunnel = Self::ZERO;
        for field in fields {
            let field = field?;
            match field.kind {
                0 => tunnel.id = u64::from_be_bytes(field.array("tunnel id")?),
                1 => tunnel.source = field.array("tunnel source")?.into(),
                2 => tunnel.destination = field.array("tunnel destination")?.into(),
                3 => tunnel.tos = field.u8("tunnel type of service")?,
                4 => tunnel.ttl = field.u8("tunnel time to live")?,
                5 => tunnel.dont_fragment = true,
                6 => tunnel.checksum = true,
                9 => tunnel.source_port = u16::from_be_bytes(field.array("tunnel source port")?),
                10 => {
                    let port = field.array("tunnel destination port")?;
                    tunnel.destination_port = u16::from_be_bytes(port);
                }
                _ => {}
            }
        }
        Ok(tunnel)
    }
}

/// Writes the tunnel like `id=0x4d841 192.168.48.12->192.168.48.11`.
impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id={:#x} {}->{}", self.id, self.source, self.destination)
    }
}
