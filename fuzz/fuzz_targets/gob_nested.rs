//! Maps, pointers and nested structs, as the address allocator sends them. Whatever a stream
//! has beyond them is stepped over.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::PeerName;
use weave_core::wire::gob::{AtMost, Decoder, Encoder, gob_struct};

gob_struct! {
    #[derive(PartialEq, Debug, Default)]
    struct State as "gossipState" {
        now: i64 = "Now",
        nicknames: Option<BTreeMap<PeerName, String>> = "Nicknames",
        paxos: Option<AtMost<1000, BTreeMap<NodeId, Claims>>> = "Paxos",
        ring: Option<Ring> = "Ring",
    }
}

gob_struct! {
    #[derive(PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
    struct NodeId as "NodeID" {
        name: PeerName = "Name",
        uid: u64 = "UID",
    }
}

gob_struct! {
    #[derive(PartialEq, Debug, Default)]
    struct Claims as "NodeClaims" {
        promise: Proposal = "Promise",
        accepted: Proposal = "Accepted",
    }
}

gob_struct! {
    #[derive(PartialEq, Debug, Default)]
    struct Proposal as "ProposalID" {
        round: u64 = "Round",
        proposer: NodeId = "Proposer",
    }
}

gob_struct! {
    #[derive(PartialEq, Debug, Default)]
    struct Ring as "Ring" {
        start: u32 = "Start",
        seeds: AtMost<1000, Vec<PeerName>> = "Seeds",
    }
}

fuzz_target!(|stream: &[u8]| {
    let mut decoder = Decoder::new(stream);
    while let Ok(Some(state)) = decoder.next_value::<State>() {
        let mut encoder = Encoder::new();
        encoder.value(&state);
        assert_eq!(Decoder::new(&encoder.finish()).value(), Ok(state));
    }
    assert!(decoder.offset() <= stream.len());
});
