//! The section of the address allocator.

use serde::{Deserialize, Serialize};

use super::{empty_if_null, null_if_empty};

/// The address allocator.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamStatus {
    /// Set while there is no ring, and one is wanted.
    pub paxos: Option<PaxosStatus>,
    /// The range.
    pub range: String,
    /// Addresses in the range.
    #[serde(rename = "RangeNumIPs")]
    pub range_size: u32,
    /// Addresses in use on this host.
    #[serde(rename = "ActiveIPs")]
    pub active: u32,
    /// Where addresses come from if no subnet is named.
    pub default_subnet: String,
    /// Who owns what.
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub entries: Vec<IpamEntry>,
    /// Claims that wait.
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub pending_claims: Vec<PendingClaim>,
    /// Holders that wait for an address.
    #[serde(serialize_with = "null_if_empty", deserialize_with = "empty_if_null")]
    pub pending_allocates: Vec<String>,
    /// Addresses wait until other peers told what is in use. Ours alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub settling: bool,
    /// What other peers say that does not fit. Ours alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<IpamConflict>,
    /// Who has which addresses of this host. Ours alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<IpamHolder>,
}

/// One who has addresses: mostly an interface of a container.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamHolder {
    /// Who it is to the container engine.
    pub holder: String,
    /// Its addresses, with their prefixes.
    pub addresses: Vec<String>,
    /// `here`, `ended`, or `unwatched`: what is known of its end.
    pub presence: String,
    /// Who it is to those who run it, such as `default/web-0` for a pod; empty if they did not say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label: String,
}

/// Something that a peer says of the ring that does not fit.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConflict {
    /// Name of the peer that says so.
    pub peer: String,
    /// Readable name of that peer.
    pub nickname: String,
    /// What conflicts.
    pub text: String,
    /// How often it was said.
    pub count: u64,
}

/// The vote on the first division of the range.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PaxosStatus {
    /// Whether this peer takes part.
    pub elector: bool,
    /// Peers that are known to take part.
    pub known_nodes: usize,
    /// How many have to agree.
    pub quorum: usize,
}

/// A part of the range and who owns it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamEntry {
    /// First address.
    pub token: String,
    /// Number of addresses.
    pub size: u32,
    /// Name of the owner.
    pub peer: String,
    /// Readable name of the owner.
    pub nickname: String,
    /// Whether the owner is in reach.
    pub is_known_peer: bool,
    /// Version of the entry.
    pub version: u32,
}

/// An address that is waited for.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PendingClaim {
    /// The holder.
    pub ident: String,
    /// What it claims.
    #[serde(rename = "CIDR")]
    pub cidr: ClaimedCidr,
}

/// Its address and prefix length.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ClaimedCidr {
    /// The address.
    pub addr: String,
    /// Length of the prefix.
    pub prefix_len: u8,
}
