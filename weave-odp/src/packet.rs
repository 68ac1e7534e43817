//! Packets that come up from a datapath.

use crate::datapath::{DatapathId, split};
use crate::key::FlowKey;
use weave_netlink::DecodeError;

/// `OVS_PACKET_CMD_MISS`
const MISS: u8 = 1;

/// A packet without a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upcall<'a> {
    /// The datapath it is in.
    pub datapath: DatapathId,
    /// What it looks like.
    pub key: FlowKey,
    /// The packet, from its Ethernet header on.
    pub packet: &'a [u8],
}

impl<'a> Upcall<'a> {
    /// Of a message of the family [`Packet`](crate::Family::Packet); `None` if it was sent up by
    /// an action.
    ///
    /// # Errors
    /// It is none.
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
