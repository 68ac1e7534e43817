//! Datapaths.

use weave_netlink::DecodeError;
use weave_netlink::{Attributes, Field};

/// Length of what precedes the attributes, `ovs_header`.
pub(crate) const OVS_HEADER: usize = 4;

/// The interface index of a datapath, by which all but its creation and look-up name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DatapathId(pub i32);

/// A datapath.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datapath {
    /// Its index.
    pub id: DatapathId,
    /// Its name, which is also the name of its internal port 0.
    pub name: String,
    /// What it counts, if it says.
    pub stats: Option<DatapathStats>,
    /// What its user asked for, `OVS_DP_F_*`, if it says. Any program that opens the datapath can
    /// change that; see [`Client::set_features`](crate::Client::set_features).
    pub features: Option<u32>,
}

/// `OVS_DP_F_UNALIGNED | OVS_DP_F_VPORT_PIDS`: attributes need no padding, and a port has a list of
/// sockets for its misses. Not `OVS_DP_F_DISPATCH_UPCALL_PER_CPU`, with which the kernel would not look
/// at these lists (Linux 5.15).
pub const FEATURES: u32 = 3;

/// What a datapath counts: packets, but for the flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DatapathStats {
    /// Packets with a flow.
    pub hits: u64,
    /// Packets without one.
    pub misses: u64,
    /// Misses that nobody got to see.
    pub lost: u64,
    /// Flows there are.
    pub flows: u64,
}

impl Datapath {
    /// Of a message of the family [`Datapath`](crate::Family::Datapath).
    ///
    /// # Errors
    /// It is none.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let (id, fields) = split(payload)?;
        let (mut name, mut stats, mut features) = (None, None, None);
        for field in fields {
            let field = field?;
            match field.kind {
                // OVS_DP_ATTR_NAME, OVS_DP_ATTR_STATS, OVS_DP_ATTR_USER_FEATURES
                1 => name = Some(field.text("datapath name")?.to_owned()),
                3 => stats = Some(decode_stats(field)?),
                5 => features = Some(field.u32("datapath features")?),
                _ => {}
            }
        }
        let name = name.ok_or(DecodeError::Missing { what: "datapath name" })?;
        Ok(Self { id, name, stats, features })
    }
}

fn decode_stats(field: Field<'_>) -> Result<DatapathStats, DecodeError> {
    let [hits, misses, lost, flows] = field.counters("datapath counters")?;
    Ok(DatapathStats { hits, misses, lost, flows })
}

/// The datapath a message is about, and its attributes.
pub(crate) fn split(payload: &[u8]) -> Result<(DatapathId, Attributes<'_>), DecodeError> {
    match payload.split_first_chunk::<OVS_HEADER>() {
        Some((header, rest)) => {
            Ok((DatapathId(i32::from_ne_bytes(*header)), Attributes::new(rest, OVS_HEADER)))
        }
        None => Err(DecodeError::Short {
            what: "the number of a datapath",
            offset: 0,
            needed: OVS_HEADER,
            left: payload.len(),
        }),
    }
}
