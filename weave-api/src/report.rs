//! The report, as JSON names its parts (spec router.md, section 13; cli-http.md, section 7).
//!
//! Empty lists are `null`, as the original prints them, except for targets and trusted subnets.

mod ipam;
mod kubernetes;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::metric::Metric;

pub use ipam::{
    ClaimedCidr, IpamConflict, IpamEntry, IpamHolder, IpamStatus, PaxosStatus, PendingClaim,
};
pub use kubernetes::KubernetesStatus;

/// Everything: the router, and a section for each part that it has. A part fills its own section,
/// and the text of it is in a file of `text`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Report {
    /// Whether the router does its work.
    pub ready: bool,
    /// Version of the program.
    pub version: String,
    /// The look for newer versions.
    pub version_check: VersionCheck,
    /// The mesh, the switch and the transports.
    pub router: RouterStatus,
    /// The address allocator, if the router has one.
    #[serde(rename = "IPAM", skip_serializing_if = "Option::is_none")]
    pub ipam: Option<IpamStatus>,
    /// The cluster, if the router is the pod network of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesStatus>,
}

/// The look for newer versions, of which there is none: the service is gone.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VersionCheck {
    /// Whether anybody looks.
    pub enabled: bool,
    /// Whether the last look succeeded.
    pub success: bool,
    /// The newer version, if there is one.
    pub new_version: String,
    /// When it is looked for again, in RFC 3339.
    pub next_check_at: String,
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
pub struct RouterStatus {
    /// Name of the protocol: `weave`.
    pub protocol: String,
    /// The oldest version of the protocol it speaks.
    pub protocol_min_version: u8,
    /// The newest version of the protocol it speaks.
    pub protocol_max_version: u8,
    /// Whether it has a password.
    pub encryption: bool,
    /// Whether it connects to peers that others know.
    pub peer_discovery: bool,
    /// Name of this peer.
    pub name: String,
    /// Readable name of this peer.
    pub nick_name: String,
    /// TCP port of the mesh.
    pub port: u16,
    /// All known peers, this one first.
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub peers: Vec<Peer>,
    /// Next hops.
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub unicast_routes: Vec<UnicastRoute>,
    /// Broadcast trees.
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub broadcast_routes: Vec<BroadcastRoute>,
    /// Connections, and attempts at some.
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub connections: Vec<Connection>,
    /// Connections that ended.
    pub termination_count: u64,
    /// Peers that the user asked for.
    #[serde(deserialize_with = "empty_if_null")]
    pub targets: Vec<String>,
    /// What each transport says of itself, by its name.
    pub overlay_diagnostics: Value,
    /// Networks between whose hosts nothing is encrypted.
    #[serde(deserialize_with = "empty_if_null")]
    pub trusted_subnets: Vec<String>,
    /// Where frames are captured, and how.
    pub interface: String,
    /// What the port counts.
    pub capture_stats: Value,
    /// Stations, and where each is.
    #[serde(rename = "MACs")]
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub macs: Vec<Mac>,
    /// What the original does not have: how many more stations are known than are listed.
    #[serde(rename = "MACsLeftOut", skip_serializing_if = "is_zero")]
    pub macs_left_out: usize,
    /// What the original does not have: where the rules of the firewall are.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub firewall: String,
    /// Ours alone: why the state of the router cannot be stored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub storage: String,
    /// What the original does not have: what carries frames in the kernel, or why nothing does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fastdp: String,
    /// What the original does not have: everything counted since the start, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
    /// How many stations are known; the document lists them.
    #[serde(skip)]
    pub stations: usize,
    /// How many flows the kernel has, if anything is carried there; the document lists them.
    #[serde(skip)]
    pub flows: Option<usize>,
    /// The same in numbers, and more, for the page of metrics; empty in other reports.
    #[serde(skip)]
    pub metrics: Vec<Metric>,
}

/// One peer of the mesh.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Peer {
    /// Name of the peer.
    pub name: String,
    /// Readable name of the peer.
    pub nick_name: String,
    /// Number drawn at each start.
    #[serde(rename = "UID")]
    pub uid: u64,
    /// Short id.
    #[serde(rename = "ShortID")]
    pub short_id: u16,
    /// Version of its record.
    pub version: u64,
    /// Its connections, as its record says.
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub connections: Vec<PeerConnection>,
}

/// One connection in the record of a peer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PeerConnection {
    /// Name of the peer at the other end.
    pub name: String,
    /// Readable name of that peer.
    pub nick_name: String,
    /// Address of that peer.
    pub address: String,
    /// Whether the connection was dialled from this end.
    pub outbound: bool,
    /// Whether frames get through.
    pub established: bool,
}

/// Where frames for a peer go next.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UnicastRoute {
    /// The peer frames are for.
    pub dest: String,
    /// The neighbour they go to.
    pub via: String,
}

/// Where flooded frames of a peer go next.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BroadcastRoute {
    /// The peer frames are from.
    pub source: String,
    /// The neighbours they go to.
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub via: Vec<String>,
}

/// A connection of this peer, or an attempt at one.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Connection {
    /// Address of the other end.
    pub address: String,
    /// Whether it was dialled from here.
    pub outbound: bool,
    /// `established`, `pending`, `retrying`, `failed` or `connecting`.
    pub state: String,
    /// Peer and transport, or what went wrong.
    pub info: String,
    /// Of its overlay; none for an attempt.
    pub attrs: Option<BTreeMap<String, Value>>,
    /// What the original does not have: the name of the peer, if it is connected.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// What the original does not have: how long a packet takes there and back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_seconds: Option<f64>,
    /// What the original does not have: what its links counted, as `overlay.counter`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
    /// An own address in the list of peers, for which the original has the state of a failure, too:
    /// a list that is the same on all hosts is none.
    #[serde(skip)]
    pub itself: bool,
}

/// Where a station was seen.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mac {
    /// Its Ethernet address.
    pub mac: String,
    /// Name of the peer it is behind.
    pub name: String,
    /// Readable name of that peer.
    pub nick_name: String,
    /// When it last spoke, in RFC 3339.
    pub last_seen: String,
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
