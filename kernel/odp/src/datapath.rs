//! Datapaths.

use weave_netlink::{Attributes, DecodeError, Field};

/// Length of an `ovs_header`, which precedes the attributes.
pub(crate) const OVS_HEADER: usize = 4;

/// The interface index of a datapath, which identifies it in all requests but its creation and
/// look-up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DatapathId(pub i32);

/// A datapath, which is a switch in the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datapath {
    /// Interface index of the datapath.
    pub id: DatapathId,
    /// Name of the datapath, which is also that of its internal port 0.
    pub name: String,
    /// Counters; `None` if the kernel does not report them.
    pub stats: Option<DatapathStats>,
    /// Features that were requested, `OVS_DP_F_*`; `None` if the kernel does not report them. Any
    /// program that opens the datapath can change them; see
    /// [`Client::set_features`](crate::Client::set_features).
    pub features: Option<u32>,
}

/// `OVS_DP_F_UNALIGNED | OVS_DP_F_VPORT_PIDS`: attributes need no padding, and each port has a list
/// of sockets for its misses. With `OVS_DP_F_DISPATCH_UPCALL_PER_CPU` (Linux 5.15) the kernel would
/// ignore these lists.
pub const FEATURES: u32 = 3;

/// The counters of a datapath.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DatapathStats {
    /// Number of packets that matched a flow.
    pub hits: u64,
    /// Number of packets that matched none.
    pub misses: u64,
    /// Number of misses that could not be delivered to a socket.
    pub lost: u64,
    /// Number of flows.
    pub flows: u64,
}

impl Datapath {
    /// Decodes the payload of a message of the family [`Datapath`](crate::Family::Datapath).
    ///
    /// # Errors
    /// Fails if the payload is malformed or lacks a mandatory attribute.
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

/// Splits a message into the datapath it is about and its attributes.
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
