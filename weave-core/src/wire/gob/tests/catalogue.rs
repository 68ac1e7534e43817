//! The values of the address allocator, of the name server and of the original's database:
//! nested structs, maps with struct keys, pointers, and what it means that they are absent.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::*;
use crate::mesh::PeerName;

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct GossipState as "gossipState" {
        now: i64 = "Now",
        nicknames: Option<BTreeMap<PeerName, String>> = "Nicknames",
        paxos: Option<BTreeMap<NodeId, NodeClaims>> = "Paxos",
        ring: Option<Ring> = "Ring",
    }
}

gob_struct! {
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
    struct NodeId as "NodeID" {
        name: PeerName = "Name",
        uid: u64 = "UID",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct NodeClaims as "NodeClaims" {
        promise: ProposalId = "Promise",
        accepted: ProposalId = "Accepted",
        accepted_value: AcceptedValue = "AcceptedVal",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct ProposalId as "ProposalID" {
        round: u64 = "Round",
        proposer: NodeId = "Proposer",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct AcceptedValue as "AcceptedValue" {
        value: Vec<PeerName> = "Value",
        origin: ProposalId = "Origin",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct Ring as "Ring" {
        start: u32 = "Start",
        end: u32 = "End",
        peer: PeerName = "Peer",
        entries: Vec<RingEntry> = "Entries",
        seeds: Vec<PeerName> = "Seeds",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct RingEntry as "entry" {
        token: u32 = "Token",
        peer: PeerName = "Peer",
        version: u32 = "Version",
        free: u32 = "Free",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct Range as "Range" {
        start: u32 = "Start",
        end: u32 = "End",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct Owned as "ownedData" {
        is_container: bool = "IsContainer",
        cidrs: Vec<Cidr> = "Cidrs",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct Cidr as "CIDR" {
        address: u32 = "Addr",
        prefix_length: i64 = "PrefixLen",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct GossipData<'a> as "GossipData" {
        timestamp: i64 = "Timestamp",
        entries: Vec<DnsEntry<'a>> = "Entries",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    struct DnsEntry<'a> as "Entry" {
        container_id: Text<'a> = "ContainerID",
        origin: PeerName = "Origin",
        address: u32 = "Addr",
        hostname: Text<'a> = "Hostname",
        version: i64 = "Version",
        tombstone: i64 = "Tombstone",
    }
}

/// The row's stream, decoded; encoded again it is the same value.
fn both_ways<'de, T>(stream: &'de [u8]) -> T
where
    T: Decode<'de> + Encode + PartialEq + std::fmt::Debug,
{
    let mut decoder = Decoder::new(stream);
    let value: T = decoder.value().unwrap();
    assert_eq!(decoder.next_value::<T>(), Ok(None));
    let again = encode(&value).leak();
    assert_eq!(Decoder::new(again).value::<T>().as_ref(), Ok(&value));
    // But for definitions, whose ids and names differ, the bytes are the same.
    let body = |stream: &[u8]| last_message_without_id(stream);
    assert_eq!(hex::encode(body(again)), hex::encode(body(stream)));
    value
}

/// The last message of a stream after its two bytes of type id, or one if it is built-in.
fn last_message_without_id(stream: &[u8]) -> Vec<u8> {
    let mut rest = stream;
    loop {
        let message = &rest[1..=usize::from(rest[0])];
        rest = &rest[1 + message.len()..];
        if rest.is_empty() {
            return message[if message[0] == 0xff { 2 } else { 1 }..].to_vec();
        }
    }
}

fn row(section: &str, name: &str) -> (Vec<u8>, Value) {
    let rows = vectors(section);
    let row = rows.into_iter().find(|row| row["name"] == name).expect(name);
    (bytes(&row, "hex"), row["value"].clone())
}

fn address(text: &str) -> u32 {
    text.parse::<Ipv4Addr>().unwrap().to_bits()
}

const A: u64 = 0x7a9f_ebb6_0c6e;
const B: u64 = 0xce31_e006_451a;

fn peer(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

fn ring() -> Ring {
    let entry = |token, owner| RingEntry {
        token: address(token),
        peer: peer(owner),
        version: 0,
        free: 524_288,
    };
    Ring {
        start: address("10.32.0.0"),
        end: address("10.48.0.0"),
        peer: peer(A),
        entries: vec![entry("10.32.0.0", A), entry("10.40.0.0", B)],
        seeds: vec![peer(A), peer(B)],
    }
}

#[test]
fn absent_is_not_empty() {
    let (stream, expected) = row("ipam", "ipam-empty-nothing");
    let state: GossipState = both_ways(&stream);
    assert_eq!(expected["Paxos"], Value::Null);
    assert_eq!(state, GossipState { now: 1_500_000_000, ..GossipState::default() });

    let (stream, expected) = row("ipam", "ipam-paxos-empty-not-nil");
    let state: GossipState = both_ways(&stream);
    assert_eq!(expected["Paxos"], serde_json::json!({}));
    assert_eq!(state.paxos, Some(BTreeMap::new()));
}

#[test]
fn claims_of_the_address_allocator() {
    let proposal = ProposalId { round: 1, proposer: NodeId { name: peer(A), uid: 11 } };
    let promised = NodeClaims { promise: proposal.clone(), ..NodeClaims::default() };
    let accepted = NodeClaims {
        promise: proposal.clone(),
        accepted: proposal.clone(),
        accepted_value: AcceptedValue { value: vec![peer(A), peer(B)], origin: proposal.clone() },
    };
    for (name, now, claims) in [
        ("ipam-paxos-one-promise", 1_500_000_001, promised),
        ("ipam-paxos-accepted", 1_500_000_002, accepted),
    ] {
        let (stream, _) = row("ipam", name);
        let state: GossipState = both_ways(&stream);
        let expected = GossipState {
            now,
            nicknames: Some(BTreeMap::from([(peer(A), "host1".to_owned())])),
            paxos: Some(BTreeMap::from([(proposal.proposer, claims)])),
            ring: None,
        };
        assert_eq!(state, expected, "{name}");
    }
}

#[test]
fn ring_of_the_address_allocator() {
    let (stream, _) = row("ipam", "ipam-ring");
    let state: GossipState = both_ways(&stream);
    assert_eq!((state.paxos, state.ring), (None, Some(ring())));

    let (stream, _) = row("ipam", "ipam-range");
    let range: Range = both_ways(&stream);
    assert_eq!(range, Range { start: address("10.32.0.0"), end: address("10.33.0.0") });
}

#[test]
fn database_of_the_original() {
    assert_eq!(both_ways::<Ring>(&row("ipam", "db-ring").0), ring());
    assert_eq!(both_ways::<PeerName>(&row("ipam", "db-peername").0), peer(A));
    let direct_peers: Vec<String> = both_ways(&row("ipam", "db-direct-peers").0);
    assert_eq!(direct_peers, ["192.168.48.12", "host2:6783"]);
    let owned: BTreeMap<String, Owned> = both_ways(&row("ipam", "db-owned").0);
    let cidr = Cidr { address: address("10.32.0.1"), prefix_length: 12 };
    let exposed = Owned { is_container: false, cidrs: vec![cidr] };
    assert_eq!(owned, BTreeMap::from([("weave:expose".to_owned(), exposed)]));
}

#[test]
fn entries_of_the_name_server() {
    let (stream, _) = row("dns", "dns-empty");
    let data: GossipData = both_ways(&stream);
    assert_eq!(data, GossipData { timestamp: 1_500_000_000, entries: Vec::new() });

    let (stream, expected) = row("dns", "dns-two-entries");
    let data: GossipData = both_ways(&stream);
    let expected = expected["Entries"].as_array().unwrap();
    assert_eq!(data.entries.len(), expected.len());
    for (entry, expected) in data.entries.iter().zip(expected) {
        assert_eq!(entry.container_id, text(expected, "ContainerID").into());
        assert_eq!(entry.origin.to_string(), text(expected, "Origin"));
        assert_eq!(entry.address, address(text(expected, "Addr")));
        assert_eq!(entry.hostname, text(expected, "Hostname").into());
        assert_eq!(entry.version, expected["Version"].as_i64().unwrap());
        assert_eq!(entry.tombstone, expected["Tombstone"].as_i64().unwrap());
    }
}

#[test]
fn definitions_are_numbered_and_ordered_as_the_original_does() {
    let (stream, _) = row("ipam", "ipam-ring");
    let state: GossipState = Decoder::new(&stream).value().unwrap();
    let ids = defined_ids(&encode(&state));
    assert_eq!(ids, [65, 66, 72, 67, 68, 69, 70, 71, 73, 75, 74]);
    // The original began at 64, and made two types of the slices of peer names.
    let originals: Vec<i64> = defined_ids(&stream).iter().map(|id| id + 1).collect();
    assert_eq!(originals, [&ids[..], &[76]].concat());
}

fn defined_ids(stream: &[u8]) -> Vec<i64> {
    let mut ids = Vec::new();
    let mut reader = crate::wire::Reader::new(stream);
    while !reader.is_empty() {
        let length = reader.u8("length").unwrap();
        let message = reader.bytes(length.into(), "message").unwrap();
        let (first, second) = (message[0], message[1]);
        let id = if first == 0xff { second } else { first };
        if id & 1 == 1 {
            ids.push(i64::from(id >> 1) + 1);
        }
    }
    ids
}
