//! Packets that a datapath passes to user space.

use weave_netlink::DecodeError;

use crate::datapath::{DatapathId, split};
use crate::key::FlowKey;

/// `OVS_PACKET_CMD_MISS`
const MISS: u8 = 1;

/// A packet that matched no flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upcall<'a> {
    /// Datapath of the packet.
    pub datapath: DatapathId,
    /// Key of the packet.
    pub key: FlowKey,
    /// Bytes of the packet, from its Ethernet header on.
    pub packet: &'a [u8],
}

impl<'a> Upcall<'a> {
    /// Decodes the payload of a message of the family [`Packet`](crate::Family::Packet); `None` if
    /// the packet was passed up by an action.
    ///
    /// # Errors
    /// Fails if the payload is malformed or lacks a mandatory attribute.
    pub fn decode(command: u8, payload: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        if command != MISS {
            return Ok(None);
        }
        let (datapath, fields) = split(payload)?;
        let (mut key, mut packet) = (None, None);
        for field in fields {
            let field = field?;
            match field.kind {
                // OVS_PACKET_ATTR_PACKET, OVS_PACKET_ATTR_KEY
                1 => packet = Some(field.value),
                2 => key = Some(FlowKey::decode(field.nested())?),
                _ => {}
            }
        }
        let missing = |what| DecodeError::Missing { what };
        let key = key.ok_or(missing("flow key"))?;
        let packet = packet.ok_or(missing("packet"))?;
        Ok(Some(Self { datapath, key, packet }))
    }
}
