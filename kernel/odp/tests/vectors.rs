//! The bytes of requests, and the decoding of answers: `tests/vectors/odp.json`.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::net::Ipv4Addr;

use serde_json::Value;
use weave_netlink::{Body, Messages};
use weave_odp::request::{Request, look_up_family};
use weave_odp::{
    Action, Datapath, DatapathId, DumpedFlow, Ethernet, Families, FamilyId, Flow, FlowMatch,
    Generic, Masked, PortNumber, Tunnel, Upcall, VportKind,
};

const FAMILIES: Families = Families {
    datapath: FamilyId(32),
    vport: FamilyId(33),
    flow: FamilyId(34),
    packet: FamilyId(35),
    vport_group: 9,
};
const DATAPATH: DatapathId = DatapathId(7);
const A: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];
const HERE: Ipv4Addr = Ipv4Addr::new(192, 168, 48, 11);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 168, 48, 12);

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/odp.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn entry(list: &str, name: &str) -> Value {
    let vectors = vectors();
    let entries = vectors[list].as_array().unwrap();
    entries.iter().find(|entry| entry["name"] == name).expect(name).clone()
}

/// The original omits the padding behind the last attribute; the kernel accepts both.
fn bytes(name: &str) -> Vec<u8> {
    let mut bytes = hex::decode(entry("requests", name)["hex"].as_str().unwrap()).unwrap();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let length = u32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

#[track_caller]
fn check(name: &str, request: &Request<'_>) {
    let mut encoded = Vec::new();
    request.encode(&FAMILIES, 1, &mut encoded).unwrap();
    assert_eq!(hex::encode(encoded), hex::encode(bytes(name)), "{name}");
}

fn addresses(source: [u8; 6], destination: [u8; 6]) -> Masked<Ethernet> {
    Masked::exact(Ethernet { source, destination })
}

fn to_there() -> Vec<Action> {
    let tunnel = Tunnel {
        id: 0x0084_104d,
        source: HERE,
        destination: THERE,
        ttl: 64,
        dont_fragment: true,
        ..Tunnel::ZERO
    };
    vec![Action::SetTunnel(tunnel), Action::Output(PortNumber(2))]
}

fn local_to_remote() -> Flow {
    let matches = FlowMatch::new(PortNumber(1), addresses(A, B));
    Flow { matches, actions: to_there() }
}

#[test]
fn datapaths_and_vports() {
    let mut encoded = Vec::new();
    look_up_family("ovs_datapath", 1, &mut encoded).unwrap();
    assert_eq!(hex::encode(encoded), hex::encode(bytes("lookup-family")));

    let (datapath, name, port) = (DATAPATH, "datapath", PortNumber(3));
    check("create-datapath", &Request::CreateDatapath { name });
    check("lookup-datapath", &Request::Datapath { name });
    check("delete-datapath", &Request::DeleteDatapath(datapath));
    let kind = VportKind::Vxlan { udp_port: Some(6784) };
    let create = Request::CreateVport { datapath, name: "vxlan-6784", kind };
    check("create-vxlan-vport", &create);
    let (name, kind) = ("vethwe-datapath", VportKind::Netdev);
    check("create-netdev-vport", &Request::CreateVport { datapath, name, kind });
    check("get-vport-by-number", &Request::Vport { datapath, port });
    check("dump-vports", &Request::Vports(datapath));
    check("delete-vport", &Request::DeleteVport { datapath, port: PortNumber(3) });
    let set = Request::SetUpcalls { datapath, port: PortNumber(2), sockets: &[0x1234_5678] };
    check("set-vport-upcall-pid", &set);
}

#[test]
fn flows() {
    let datapath = DATAPATH;
    check("dump-flows", &Request::Flows(datapath));
    let flow = &local_to_remote();
    check("create-flow-local-to-remote", &Request::PutFlow { datapath, flow });
    check("delete-flow", &Request::DeleteFlow { datapath, matches: &flow.matches });
    check("clear-flow", &Request::ClearFlow { datapath, flow });

    let from = Tunnel { id: 0x0004_d841, source: THERE, destination: HERE, ..Tunnel::ZERO };
    let mut matches = FlowMatch::new(PortNumber(2), addresses(A, B));
    matches.tunnel = Some(Masked::ends(from));
    let flow = Flow { matches, actions: vec![Action::Output(PortNumber(1))] };
    check("create-flow-remote-to-local", &Request::PutFlow { datapath, flow: &flow });

    let matches = FlowMatch::new(PortNumber(1), addresses(A, [0xff; 6]));
    let actions = [vec![Action::Output(PortNumber(0))], to_there()].concat();
    let flow = Flow { matches, actions };
    check("create-flow-broadcast", &Request::PutFlow { datapath, flow: &flow });

    let matches = FlowMatch::new(PortNumber(5), addresses([0; 6], [0; 6]));
    let flow = Flow { matches, actions: Vec::new() };
    check("create-flow-drop", &Request::PutFlow { datapath, flow: &flow });
}

/// Requests that the kernel answers by an acknowledgement.
#[test]
fn all_flows_at_once() {
    let mut encoded = Vec::new();
    Request::DeleteFlows(DATAPATH).encode(&FAMILIES, 1, &mut encoded).unwrap();
    assert_eq!(hex::encode(encoded), "180000002200050001000000000000000201000007000000");
}

#[test]
fn packets() {
    let packet = [&B[..], &A, &[8, 0], &[0; 46]].concat();
    let actions = &to_there();
    check("execute", &Request::Execute { datapath: DATAPATH, packet: &packet, actions });
}

/// Every request of the vectors is checked above.
#[test]
fn no_request_is_forgotten() {
    let source = include_str!("vectors.rs");
    for request in vectors()["requests"].as_array().unwrap() {
        let name = request["name"].as_str().unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// The payload of a message with these attributes.
fn payload(list: &str) -> Vec<u8> {
    let attributes = entry("parsed", list)["attributes_hex"].as_str().unwrap().to_owned();
    [&DATAPATH.0.to_ne_bytes()[..], &hex::decode(attributes).unwrap()].concat()
}

#[test]
fn a_miss() {
    let mut payload = payload("miss-keys");
    payload.extend_from_slice(&[8, 0, 1, 0, 1, 2, 3, 4]);
    let upcall = Upcall::decode(1, &payload).unwrap().unwrap();
    assert_eq!(upcall.datapath, DATAPATH);
    assert_eq!(upcall.packet, [1, 2, 3, 4]);
    assert_eq!(upcall.key.in_port, PortNumber(2));
    assert_eq!(upcall.key.ethernet, Ethernet { source: B, destination: A });
    assert_eq!(upcall.key.tag, None);
    let tunnel = Tunnel {
        id: 0x0004_d841,
        source: THERE,
        destination: HERE,
        tos: 0,
        ttl: 64,
        dont_fragment: true,
        checksum: false,
        source_port: 54321,
        destination_port: 6784,
    };
    assert_eq!(upcall.key.tunnel, Some(tunnel));
    assert_eq!(Upcall::decode(2, &payload), Ok(None), "sent up by an action");
}

#[test]
fn an_entry_of_a_dump() {
    let dumped = DumpedFlow::decode(&payload("flow-dump-entry")).unwrap();
    let mut expected = local_to_remote();
    expected.matches.ethernet = addresses(B, A);
    assert_eq!(dumped.flow, expected);
    let stats = dumped.stats;
    assert_eq!((stats.packets, stats.bytes, stats.used), (5, 200, Some(77)));
    assert_eq!(
        dumped.flow.matches.to_string(),
        "in_port=1 eth=02:00:00:00:00:0b->02:00:00:00:00:0a"
    );
}

#[test]
fn a_request_reads_like_an_answer() {
    let bytes = bytes("create-datapath");
    let message = Messages::new(&bytes).next().unwrap().unwrap();
    let Body::Entry { kind: 32, payload } = message.body else { panic!("{message:?}") };
    let generic = Generic::decode(payload).unwrap();
    assert_eq!(generic.command, 1);
    let datapath = Datapath::decode(generic.payload).unwrap();
    assert_eq!((datapath.id, &datapath.name[..]), (DatapathId(0), "datapath"));
}
