//! Flows.

use crate::action::Action;
use crate::datapath::{DatapathId, split};
use crate::key::FlowMatch;
use weave_netlink::Attributes;
use weave_netlink::DecodeError;

/// What is done with the packets that match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Which packets.
    pub matches: FlowMatch,
    /// What is done with each of them, in order; nothing drops it.
    pub actions: Vec<Action>,
}

/// What a flow counts, since it was made or its counters were cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowStats {
    /// Packets that matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the last one matched, in milliseconds of the kernel's monotonic clock; none if none
    /// has.
    pub used: Option<u64>,
}

/// A flow as the kernel lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DumpedFlow {
    /// The datapath it belongs to.
    pub datapath: DatapathId,
    /// The flow.
    pub flow: Flow,
    /// What it counts.
    pub stats: FlowStats,
}

impl DumpedFlow {
    /// Of a message of the family [`Flow`](crate::Family::Flow).
    ///
    /// # Errors
    /// It is none, or its actions are not among those of this crate.
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
