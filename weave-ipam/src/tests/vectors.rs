//! Reading the files of vectors.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;
use weave_core::mesh::PeerName;
use weave_core::wire::gob::AtMost;

use crate::ring::{Entry, RawRing};
use crate::{Range, Ring};

pub(super) fn load(file: &str) -> Value {
    let path = format!("{}/../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub(super) fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

pub(super) fn address(value: &Value) -> u32 {
    text(value).parse::<Ipv4Addr>().unwrap().to_bits()
}

pub(super) fn peer(value: &Value) -> PeerName {
    text(value).parse().unwrap()
}

pub(super) fn peers(value: &Value) -> Vec<PeerName> {
    list(value).iter().map(peer).collect()
}

pub(super) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

/// `{"start": .., "end_exclusive": ..}`
pub(super) fn range(value: &Value) -> Range {
    Range::new(address(&value["start"]), address(&value["end_exclusive"]))
}

/// `[start, end]`
pub(super) fn pair(value: &Value) -> Range {
    Range::new(address(&value[0]), address(&value[1]))
}

pub(super) fn entries(value: &Value) -> Vec<Entry> {
    list(value)
        .iter()
        .map(|entry| Entry {
            token: address(&entry["token"]),
            peer: peer(&entry["peer"]),
            version: number(&entry["version"]),
            free: number(&entry["free"]),
        })
        .collect()
}

pub(super) fn raw_ring(value: &Value) -> RawRing {
    RawRing {
        start: address(&value["range_start"]),
        end: address(&value["range_end_exclusive"]),
        peer: peer(&value["peer"]),
        entries: AtMost(entries(&value["entries"])),
        seeds: AtMost(peers(&value["seeds"])),
    }
}

pub(super) fn ring(value: &Value) -> Ring {
    raw_ring(value).try_into().unwrap()
}

pub(super) fn nicknames(value: &Value) -> BTreeMap<PeerName, String> {
    let map = value.as_object().unwrap();
    map.iter().map(|(name, nickname)| (name.parse().unwrap(), text(nickname).to_owned())).collect()
}
