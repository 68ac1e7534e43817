//! The actions of flows.

use std::fmt;

use weave_netlink::{Attributes, DecodeError};

use crate::attribute::Attribute;
use crate::tunnel::Tunnel;
use crate::vport::PortNumber;

const OUTPUT: u16 = 1;
const SET: u16 = 3;
/// `OVS_KEY_ATTR_TUNNEL`, inside `SET`.
const TUNNEL: u16 = 16;

/// One of the actions that are applied to a packet in order. An empty list drops the packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Action {
    /// Sends the packet out of this port.
    Output(PortNumber),
    /// Sets the tunnel for the next output to a tunnel port.
    SetTunnel(Tunnel),
}

impl Action {
    pub(crate) fn attribute(&self) -> Attribute<'static> {
        match self {
            Self::Output(port) => Attribute::u32(OUTPUT, port.0),
            Self::SetTunnel(tunnel) => {
                Attribute::nest(SET, vec![Attribute::nest(TUNNEL, tunnel.action_attributes())])
            }
        }
    }

    /// Returns the attributes of a list of actions.
    pub(crate) fn attributes(actions: &[Self]) -> Vec<Attribute<'static>> {
        actions.iter().map(Self::attribute).collect()
    }

    pub(crate) fn decode_list(fields: Attributes<'_>) -> Result<Vec<Self>, DecodeError> {
        fields
            .map(|field| {
                let field = field?;
                let unknown =
                    DecodeError::Unknown { what: "action", kind: field.kind, offset: field.offset };
                match field.kind {
                    OUTPUT => Ok(Self::Output(PortNumber(field.u32("output port")?))),
                    SET => decode_set(field.nested())?.ok_or(unknown),
                    _ => Err(unknown),
                }
            })
            .collect()
    }
}

/// Decodes a set action; `None` if it sets something other than a tunnel.
fn decode_set(fields: Attributes<'_>) -> Result<Option<Action>, DecodeError> {
    let mut lacks_level = false;
    for field in fields {
        let field = field?;
        match field.kind {
            TUNNEL => return Tunnel::decode(field.nested()).map(Action::SetTunnel).map(Some),
            // Linux 4.3 leaves out the level of the tunnel: this is its destination.
            2 if field.value.len() == 4 => lacks_level = true,
            _ => {}
        }
    }
    // The attribute that sets the priority of a packet looks the same, but it is the only one.
    match lacks_level && fields.count() > 1 {
        true => Tunnel::decode(fields).map(Action::SetTunnel).map(Some),
        false => Ok(None),
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(port) => write!(f, "output={port}"),
            Self::SetTunnel(tunnel) => write!(f, "set_tunnel={{{tunnel}}}"),
        }
    }
}
