//! Flows.

use weave_netlink::{Attributes, DecodeError};

use crate::action::Action;
use crate::datapath::{DatapathId, split};
use crate::key::FlowMatch;

/// A flow: the actions for packets that match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Packets that the flow applies to.
    pub matches: FlowMatch,
    /// Actions that are applied in order; an empty list drops the packet.
    pub actions: Vec<Action>,
}

/// The counters of a flow since it was created or its counters were reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowStats {
    /// Number of packets that matched.
    pub packets: u64,
    /// Number of bytes that matched.
    pub bytes: u64,
    /// Time of the last match, in milliseconds of the kernel's monotonic clock; `None` if no
    /// packet has matched.
    pub used: Option<u64>,
}

/// A flow as the kernel lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DumpedFlow {
    /// Datapath of the flow.
    pub datapath: DatapathId,
    /// Matches and actions.
    pub flow: Flow,
    /// Counters of the flow.
    pub stats: FlowStats,
}

impl DumpedFlow {
    /// Decodes the payload of a message of the family [`Flow`](crate::Family::Flow).
    ///
    /// # Errors
    /// Fails if the payload is malformed, or if this crate does not support one of the actions.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let (datapath, fields) = split(payload)?;
        let nothing = Attributes::new(&[], 0);
        let (mut keys, mut masks, mut actions) = (None, nothing, Vec::new());
        let mut stats = FlowStats::default();
        for field in fields {
            let field = field?;
            match field.kind {
                // OVS_FLOW_ATTR_KEY, _ACTIONS, _STATS, _USED, _MASK
                1 => keys = Some(field.nested()),
                2 => actions = Action::decode_list(field.nested())?,
                3 => [stats.packets, stats.bytes] = field.counters("flow counters")?,
                5 => stats.used = Some(field.u64("time of last use")?),
                7 => masks = field.nested(),
                _ => {}
            }
        }
        let keys = keys.ok_or(DecodeError::Missing { what: "flow key" })?;
        let flow = Flow { matches: FlowMatch::decode(keys, masks)?, actions };
        Ok(Self { datapath, flow, stats })
    }
}
