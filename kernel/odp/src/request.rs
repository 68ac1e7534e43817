//! Requests and their encoding.

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_ECHO};
use weave_netlink::{HEADER_LEN, TooLong, write_header};

use crate::action::Action;
use crate::attribute::{Attribute, Value, append};
use crate::datapath::{DatapathId, FEATURES};
use crate::family::{Families, Family, FamilyId};
use crate::flow::Flow;
use crate::generic::GENERIC_HEADER;
use crate::key::FlowMatch;
use crate::vport::{PortNumber, VportKind};

const NEW: u8 = 1;
const DELETE: u8 = 2;
const GET: u8 = 3;
const SET: u8 = 4;
/// `OVS_PACKET_CMD_EXECUTE`
const EXECUTE: u8 = 3;

/// Port id by which misses of a new port go to no socket.
const NO_UPCALLS: u32 = 0;

/// A request to the kernel's Open vSwitch datapath.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Creates a datapath. Refused with `EEXIST` if an interface has this name.
    CreateDatapath {
        /// Name of the datapath.
        name: &'a str,
    },
    /// Looks up a datapath. Refused with `ENODEV` if there is none.
    Datapath {
        /// Name of the datapath.
        name: &'a str,
    },
    /// Sets the features of a datapath, `OVS_DP_F_*`.
    SetFeatures {
        /// Datapath.
        datapath: DatapathId,
        /// All features that it shall have, e.g. [`FEATURES`].
        features: u32,
    },
    /// Deletes a datapath with its ports and flows.
    DeleteDatapath(DatapathId),
    /// Creates a port. Refused with `EEXIST` if it exists, with `EADDRINUSE` if the UDP port is in
    /// use, with `EAFNOSUPPORT` if the kernel does not support such ports, and with `ENODEV` if
    /// there is no such interface.
    CreateVport {
        /// Datapath.
        datapath: DatapathId,
        /// Name of the port.
        name: &'a str,
        /// Kind of the port.
        kind: VportKind,
    },
    /// Looks up a port.
    Vport {
        /// Datapath.
        datapath: DatapathId,
        /// Number of the port.
        port: PortNumber,
    },
    /// Lists the ports.
    Vports(DatapathId),
    /// Deletes a port.
    DeleteVport {
        /// Datapath.
        datapath: DatapathId,
        /// Number of the port.
        port: PortNumber,
    },
    /// Distributes the misses of a port over these sockets, by a hash of the packet.
    SetUpcalls {
        /// Datapath.
        datapath: DatapathId,
        /// Number of the port.
        port: PortNumber,
        /// Port ids of the sockets.
        sockets: &'a [u32],
    },
    /// Creates a flow, or replaces its actions.
    PutFlow {
        /// Datapath.
        datapath: DatapathId,
        /// Flow with its new actions.
        flow: &'a Flow,
    },
    /// Deletes a flow. Refused with `ENOENT` if there is none.
    DeleteFlow {
        /// Datapath.
        datapath: DatapathId,
        /// Match of the flow.
        matches: &'a FlowMatch,
    },
    /// Deletes all flows.
    DeleteFlows(DatapathId),
    /// Resets the counters of a flow and replaces its actions.
    ClearFlow {
        /// Datapath.
        datapath: DatapathId,
        /// Flow with its new actions.
        flow: &'a Flow,
    },
    /// Lists the flows.
    Flows(DatapathId),
    /// Applies actions to a packet.
    Execute {
        /// Datapath.
        datapath: DatapathId,
        /// Bytes of the packet, from its Ethernet header on.
        packet: &'a [u8],
        /// Actions to apply.
        actions: &'a [Action],
    },
}

impl Request<'_> {
    /// Returns the family of the request.
    pub const fn family(&self) -> Family {
        self.command().0
    }

    /// Returns the name of the request for error messages: `cannot {name}`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateDatapath { .. } => "create datapath",
            Self::Datapath { .. } => "look up datapath",
            Self::SetFeatures { .. } => "set features of datapath",
            Self::DeleteDatapath(_) => "delete datapath",
            Self::CreateVport { .. } => "create vport",
            Self::Vport { .. } => "look up vport",
            Self::Vports(_) => "list vports",
            Self::DeleteVport { .. } => "delete vport",
            Self::SetUpcalls { .. } => "set upcall sockets",
            Self::PutFlow { .. } => "create flow",
            Self::DeleteFlow { .. } => "delete flow",
            Self::DeleteFlows(_) => "delete all flows",
            Self::ClearFlow { .. } => "clear flow",
            Self::Flows(_) => "list flows",
            Self::Execute { .. } => "execute",
        }
    }

    /// Appends the bytes of this request.
    ///
    /// # Errors
    /// Fails if a part of the request is too long; then nothing is appended.
    pub fn encode(
        &self,
        families: &Families,
        sequence: u32,
        to: &mut Vec<u8>,
    ) -> Result<(), TooLong> {
        let (family, command) = self.command();
        let datapath = self.datapath().map_or(0, |id| id.0);
        let header = [command, family.version(), 0, 0];
        let flags = match self {
            Self::Vports(_) | Self::Flows(_) => NLM_F_DUMP,
            // The kernel does not echo this one.
            Self::DeleteFlows(_) => NLM_F_ACK,
            _ => NLM_F_ECHO,
        };
        let prefix = [header, datapath.to_ne_bytes()].concat();
        frame(families.id(family), flags, sequence, &prefix, &self.attributes(), to)
    }

    const fn command(&self) -> (Family, u8) {
        match self {
            Self::CreateDatapath { .. } => (Family::Datapath, NEW),
            Self::Datapath { .. } => (Family::Datapath, GET),
            Self::SetFeatures { .. } => (Family::Datapath, SET),
            Self::DeleteDatapath(_) => (Family::Datapath, DELETE),
            Self::CreateVport { .. } => (Family::Vport, NEW),
            Self::Vport { .. } | Self::Vports(_) => (Family::Vport, GET),
            Self::DeleteVport { .. } => (Family::Vport, DELETE),
            Self::SetUpcalls { .. } => (Family::Vport, SET),
            Self::PutFlow { .. } => (Family::Flow, NEW),
            Self::DeleteFlow { .. } | Self::DeleteFlows(_) => (Family::Flow, DELETE),
            Self::ClearFlow { .. } => (Family::Flow, SET),
            Self::Flows(_) => (Family::Flow, GET),
            Self::Execute { .. } => (Family::Packet, EXECUTE),
        }
    }

    const fn datapath(&self) -> Option<DatapathId> {
        match self {
            Self::CreateDatapath { .. } | Self::Datapath { .. } => None,
            Self::SetFeatures { datapath, .. }
            | Self::DeleteDatapath(datapath)
            | Self::Vports(datapath)
            | Self::DeleteFlows(datapath)
            | Self::Flows(datapath)
            | Self::CreateVport { datapath, .. }
            | Self::Vport { datapath, .. }
            | Self::DeleteVport { datapath, .. }
            | Self::SetUpcalls { datapath, .. }
            | Self::PutFlow { datapath, .. }
            | Self::DeleteFlow { datapath, .. }
            | Self::ClearFlow { datapath, .. }
            | Self::Execute { datapath, .. } => Some(*datapath),
        }
    }

    fn attributes(&self) -> Vec<Attribute<'_>> {
        match *self {
            // OVS_DP_ATTR_NAME, _UPCALL_PID, _USER_FEATURES
            Self::CreateDatapath { name } => vec![
                Attribute::text(1, name),
                Attribute::u32(2, NO_UPCALLS),
                Attribute::u32(5, FEATURES),
            ],
            Self::Datapath { name } => vec![Attribute::text(1, name)],
            Self::SetFeatures { features, .. } => vec![Attribute::u32(5, features)],
            Self::DeleteDatapath(_) | Self::Vports(_) | Self::DeleteFlows(_) | Self::Flows(_) => {
                Vec::new()
            }
            // OVS_VPORT_ATTR_NAME, _TYPE, _OPTIONS, _UPCALL_PID
            Self::CreateVport { name, kind, .. } => vec![
                Attribute::text(3, name),
                Attribute::u32(2, kind.number()),
                Attribute::nest(4, kind.options()),
                Attribute::u32(5, NO_UPCALLS),
            ],
            // OVS_VPORT_ATTR_PORT_NO
            Self::Vport { port, .. } | Self::DeleteVport { port, .. } => {
                vec![Attribute::u32(1, port.0)]
            }
            Self::SetUpcalls { port, sockets, .. } => {
                vec![Attribute::u32(1, port.0), Attribute::new(5, Value::Numbers(sockets.to_vec()))]
            }
            Self::PutFlow { flow, .. } => flow_attributes(flow),
            Self::DeleteFlow { matches, .. } => match_attributes(matches),
            Self::ClearFlow { flow, .. } => {
                let mut list = flow_attributes(flow);
                // OVS_FLOW_ATTR_CLEAR
                list.push(Attribute::empty(6));
                list
            }
            // OVS_PACKET_ATTR_PACKET, _KEY, _ACTIONS
            Self::Execute { packet, actions, .. } => vec![
                Attribute::new(1, Value::Bytes(packet)),
                Attribute::nest(2, Vec::new()),
                Attribute::nest(3, Action::attributes(actions)),
            ],
        }
    }
}

/// Appends the request for the number of a family, `CTRL_CMD_GETFAMILY`.
///
/// # Errors
/// Fails if the name is too long.
pub fn look_up_family(name: &str, sequence: u32, to: &mut Vec<u8>) -> Result<(), TooLong> {
    // CTRL_ATTR_FAMILY_NAME
    let attributes = [Attribute::text(2, name)];
    frame(FamilyId::CONTROL, NLM_F_ECHO, sequence, &[GET, 0, 0, 0], &attributes, to)
}

/// `OVS_FLOW_ATTR_KEY`, `_MASK`
fn match_attributes(matches: &FlowMatch) -> Vec<Attribute<'_>> {
    vec![
        Attribute::nest(1, matches.key_attributes()),
        Attribute::nest(7, matches.mask_attributes()),
    ]
}

fn flow_attributes(flow: &Flow) -> Vec<Attribute<'_>> {
    let mut list = match_attributes(&flow.matches);
    // OVS_FLOW_ATTR_ACTIONS
    list.push(Attribute::nest(2, Action::attributes(&flow.actions)));
    list
}

/// Appends a message: a netlink header, `prefix` and the attributes.
fn frame(
    family: FamilyId,
    flags: u16,
    sequence: u32,
    prefix: &[u8],
    attributes: &[Attribute<'_>],
    to: &mut Vec<u8>,
) -> Result<(), TooLong> {
    debug_assert!(prefix.len() >= GENERIC_HEADER);
    let start = to.len();
    to.resize(start + HEADER_LEN, 0);
    to.extend_from_slice(prefix);
    append(attributes, to)
        .and_then(|()| write_header(&mut to[start..], family.0, flags, sequence))
        .inspect_err(|_| to.truncate(start))
}
