//! The bytes that Weave Net 2.x sends to the kernel.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]
#![cfg(target_endian = "little")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;
use weave_xfrm::request::Request;
use weave_xfrm::{
    AeadKey, Mark, Mode, Path, Policy, PolicyDirection, PolicyEntry, Reqid, Spi, State, StateEntry,
    Template, Usage,
};

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 168, 48, 11);
const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 168, 48, 12);
const OUT: Path = Path { source: LOCAL, destination: REMOTE };
const IN: Path = Path { source: REMOTE, destination: LOCAL };
const MARK: Mark = Mark { value: 0x20000, mask: 0x20000 };
const NOBODY: Reqid = Reqid(0);

fn requests() -> BTreeMap<String, Vec<u8>> {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/ipsec.json")).unwrap();
    let entry = |entry: &Value| {
        let bytes = hex::decode(entry["hex"].as_str().unwrap()).unwrap();
        assert_eq!(entry["length"].as_u64().unwrap(), bytes.len() as u64);
        (entry["name"].as_str().unwrap().to_owned(), bytes)
    };
    vectors["xfrm_netlink"].as_array().unwrap().iter().map(entry).collect()
}

fn spi(number: u32) -> Spi {
    Spi::new(number).unwrap()
}

fn state(path: Path, number: u32) -> State {
    let key = AeadKey::new(std::array::from_fn(|n| u8::try_from(n + 1).unwrap()));
    State { path, spi: spi(number), reqid: NOBODY, key }
}

#[test]
fn every_request() {
    let (inbound, outbound) = (state(IN, 0xc123_4567), state(OUT, 0xc89a_bcde));
    let policy = Policy { path: OUT, mark: MARK, spi: outbound.spi, reqid: NOBODY };
    let mut requests = requests();
    for (name, request) in [
        ("allocspi-inbound", Request::AllocateSpi { path: IN, reqid: NOBODY }),
        ("update-inbound-sa", Request::UpdateState(&inbound)),
        ("add-outbound-sa", Request::AddState(&outbound)),
        ("update-outbound-policy", Request::PutPolicy(&policy)),
        ("get-outbound-policy", Request::Policy { path: OUT, mark: MARK }),
        ("delete-outbound-policy", Request::DeletePolicy { path: OUT, mark: MARK }),
        ("delete-inbound-sa", Request::DeleteState { path: IN, spi: inbound.spi }),
        ("delete-outbound-sa", Request::DeleteState { path: OUT, spi: outbound.spi }),
        ("list-policies", Request::Policies),
        ("list-states", Request::States),
    ] {
        let mut bytes = vec![0xee];
        request.encode(1, &mut bytes);
        let expected = requests.remove(name).unwrap();
        assert_eq!(hex::encode(&bytes[1..]), hex::encode(expected), "{name}");
    }
    assert!(requests.is_empty(), "{requests:?}");
}

/// Listed states and policies have the form of the requests that added them.
#[test]
fn added_states_and_policies_are_listed() {
    let requests = requests();
    let payload = |name: &str| &requests[name][16..];
    let expected = StateEntry {
        path: OUT,
        spi: Some(spi(0xc89a_bcde)),
        reqid: NOBODY,
        mode: Mode::Transport,
        aes_gcm: true,
        extended_sequence: true,
        usage: Usage::default(),
    };
    assert_eq!(StateEntry::decode(payload("add-outbound-sa")), Ok(Some(expected)));
    // Where `xfrm_lifetime_cur` and `xfrm_stats` are in an `xfrm_usersa_info`.
    let mut used = payload("add-outbound-sa").to_vec();
    used[160..168].copy_from_slice(&7000_u64.to_ne_bytes());
    used[168..176].copy_from_slice(&5_u64.to_ne_bytes());
    for (place, number) in [(192, 1_u32), (196, 2), (200, 4)] {
        used[place..place + 4].copy_from_slice(&number.to_ne_bytes());
    }
    let usage = Usage { bytes: 7000, packets: 5, replayed: 3, forged: 4 };
    let expected = StateEntry { usage, ..expected };
    assert_eq!(StateEntry::decode(&used), Ok(Some(expected)));
    let larval = StateEntry::decode(payload("allocspi-inbound").split_at(224).0).unwrap().unwrap();
    assert_eq!((larval.path, larval.spi, larval.aes_gcm), (IN, None, false));
    let expected = PolicyEntry {
        path: Some(OUT),
        direction: PolicyDirection::Out,
        udp: true,
        mark: Some(MARK),
        template: Some(Template { spi: Some(spi(0xc89a_bcde)), reqid: NOBODY }),
    };
    assert_eq!(PolicyEntry::decode(payload("update-outbound-policy")), Ok(Some(expected)));
}

#[test]
fn truncated_messages_are_errors_with_an_offset() {
    let requests = requests();
    let (state, policy) =
        (&requests["add-outbound-sa"][16..], &requests["update-outbound-policy"][16..]);
    for length in (0..state.len()).filter(|length| ![224, 336].contains(length)) {
        StateEntry::decode(&state[..length]).unwrap_err();
    }
    for length in (0..policy.len()).filter(|length| ![168, 236].contains(length)) {
        PolicyEntry::decode(&policy[..length]).unwrap_err();
    }
    let error = StateEntry::decode(&state[..223]).unwrap_err().to_string();
    assert_eq!(error, "a state at offset 0 needs 224 bytes, but 223 are left");
    let error = PolicyEntry::decode(&policy[..200]).unwrap_err().to_string();
    assert_eq!(error, "an attribute at offset 168 claims 68 bytes, but 32 are left");
    let mut short = policy.to_vec();
    short[168] = 8;
    short.truncate(176);
    let error = PolicyEntry::decode(&short).unwrap_err().to_string();
    assert_eq!(error, "a template at offset 172 needs 64 bytes, but 4 are left");
}

#[test]
fn states_of_other_programs_are_distinguished() {
    let requests = requests();
    let mut other = requests["add-outbound-sa"][16..].to_vec();
    // Reqid, mode and flags of the structure, then the name of the algorithm.
    other[208..212].copy_from_slice(&16389_u32.to_ne_bytes());
    other[214] = 1;
    other[216] = 0;
    other[228 + 7] = b'X';
    let other = StateEntry::decode(&other).unwrap().unwrap();
    assert_eq!(other.reqid, Reqid(16389));
    assert_eq!(other.mode, Mode::Tunnel);
    assert!(!other.aes_gcm && !other.extended_sequence);
    let mut ah = requests["add-outbound-sa"][16..].to_vec();
    ah[76] = 51;
    assert_eq!(StateEntry::decode(&ah), Ok(None));
}
