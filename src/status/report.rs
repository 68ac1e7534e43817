//! The report, as JSON names its parts (spec router.md, section 13; cli-http.md, section 7).
//!
//! Empty lists are `null`, as the original prints them, except for targets and trusted subnets.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Everything.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Report {
    pub(crate) ready: bool,
    pub(crate) version: String,
    pub(crate) version_check: VersionCheck,
    pub(crate) router: RouterStatus,
    #[serde(rename = "IPAM", skip_serializing_if = "Option::is_none")]
    pub(crate) ipam: Option<IpamStatus>,
}

/// The look for newer versions, of which there is none: the service is gone.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VersionCheck {
    pub(crate) enabled: bool,
    pub(crate) success: bool,
    pub(crate) new_version: String,
    pub(crate) next_check_at: String,
}

impl Default for VersionCheck {
    fn default() -> Self {
        Self {
            enabled: false,
            success: false,
            new_version: String::new(),
            next_check_at: "0001-01-01T00:00:00Z".to_owned(),
        }
    }
}

/// The router.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RouterStatus {
    pub(crate) protocol: String,
    pub(crate) protocol_min_version: u8,
    pub(crate) protocol_max_version: u8,
    pub(crate) encryption: bool,
    pub(crate) peer_discovery: bool,
    pub(crate) name: String,
    pub(crate) nick_name: String,
    pub(crate) port: u16,
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub(crate) peers: Vec<Peer>,
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub(crate) unicast_routes: Vec<UnicastRoute>,
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub(crate) broadcast_routes: Vec<BroadcastRoute>,
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub(crate) connections: Vec<Connection>,
    pub(crate) termination_count: u64,
    #[serde(deserialize_with = "empty_if_null")]
    pub(crate) targets: Vec<String>,
    pub(crate) overlay_diagnostics: Value,
    #[serde(deserialize_with = "empty_if_null")]
    pub(crate) trusted_subnets: Vec<String>,
    pub(crate) interface: String,
    pub(crate) capture_stats: Value,
    #[serde(rename = "MACs")]
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub(crate) macs: Vec<Mac>,
    /// What the original does not have: how many more stations are known than are listed.
    #[serde(rename = "MACsLeftOut", skip_serializing_if = "is_zero")]
    pub(crate) macs_left_out: usize,
    /// What the original does not have: where the rules of the firewall are.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) firewall: String,
    /// Ours alone: why the state of the router cannot be stored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) storage: String,
    /// What the original does not have: what carries frames in the kernel, or why nothing does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) fastdp: String,
    /// What the original does not have: everything counted since the start, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) counters: BTreeMap<String, u64>,
    /// How many stations are known; the document lists them.
    #[serde(skip)]
    pub(crate) stations: usize,
    /// How many flows the kernel has, if anything is carried there; the document lists them.
    #[serde(skip)]
    pub(crate) flows: Option<usize>,
}

/// One peer of the mesh.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) nick_name: String,
    #[serde(rename = "UID")]
    pub(crate) uid: u64,
    #[serde(rename = "ShortID")]
    pub(crate) short_id: u16,
    pub(crate) version: u64,
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub(crate) connections: Vec<PeerConnection>,
}

/// One connection in the record of a peer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PeerConnection {
    pub(crate) name: String,
    pub(crate) nick_name: String,
    pub(crate) address: String,
    pub(crate) outbound: bool,
    pub(crate) established: bool,
}

/// Where frames for a peer go next.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct UnicastRoute {
    pub(crate) dest: String,
    pub(crate) via: String,
}

/// Where flooded frames of a peer go next.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct BroadcastRoute {
    pub(crate) source: String,
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub(crate) via: Vec<String>,
}

/// A connection of this peer, or an attempt at one.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Connection {
    pub(crate) address: String,
    pub(crate) outbound: bool,
    pub(crate) state: String,
    pub(crate) info: String,
    /// Of its overlay; none for an attempt.
    pub(crate) attrs: Option<BTreeMap<String, Value>>,
    /// What the original does not have: the name of the peer, if it is connected.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) peer: String,
    /// What the original does not have: how long a packet takes there and back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) round_trip_seconds: Option<f64>,
    /// What the original does not have: what its links counted, as `overlay.counter`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) counters: BTreeMap<String, u64>,
    /// An own address in the list of peers, for which the original has the state of a failure, too:
    /// a list that is the same on all hosts is none.
    #[serde(skip)]
    pub(crate) itself: bool,
}

/// Where a station was seen.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Mac {
    pub(crate) mac: String,
    pub(crate) name: String,
    pub(crate) nick_name: String,
    pub(crate) last_seen: String,
}

/// The address allocator.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct IpamStatus {
    /// Set while there is no ring, and one is wanted.
    pub(crate) paxos: Option<PaxosStatus>,
    pub(crate) range: String,
    #[serde(rename = "RangeNumIPs")]
    pub(crate) range_size: u32,
    #[serde(rename = "ActiveIPs")]
    pub(crate) active: u32,
    pub(crate) default_subnet: String,
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub(crate) entries: Vec<IpamEntry>,
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub(crate) pending_claims: Vec<PendingClaim>,
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub(crate) pending_allocates: Vec<String>,
    /// Addresses wait until other peers told what is in use. Ours alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) settling: bool,
    /// What other peers say that does not fit. Ours alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conflicts: Vec<IpamConflict>,
}

/// Something that a peer says of the ring that does not fit.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct IpamConflict {
    pub(crate) peer: String,
    pub(crate) nickname: String,
    pub(crate) text: String,
    pub(crate) count: u64,
}

/// The vote on the first division of the range.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PaxosStatus {
    pub(crate) elector: bool,
    pub(crate) known_nodes: usize,
    pub(crate) quorum: usize,
}

/// A part of the range and who owns it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct IpamEntry {
    pub(crate) token: String,
    pub(crate) size: u32,
    pub(crate) peer: String,
    pub(crate) nickname: String,
    pub(crate) is_known_peer: bool,
    pub(crate) version: u32,
}

/// An address that is waited for.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PendingClaim {
    pub(crate) ident: String,
    #[serde(rename = "CIDR")]
    pub(crate) cidr: ClaimedCidr,
}

/// Its address and prefix length.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ClaimedCidr {
    pub(crate) addr: String,
    pub(crate) prefix_len: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn null_if_empty<T: Serialize, S: Serializer>(
    list: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if list.is_empty() { serializer.serialize_none() } else { list.serialize(serializer) }
}

fn empty_if_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
