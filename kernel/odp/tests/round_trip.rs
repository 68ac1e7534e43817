//! Decoding what was encoded yields the same values.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use proptest::prelude::*;
use weave_netlink::{Body, Messages};
use weave_odp::request::Request;
use weave_odp::{
    Action, DatapathId, DumpedFlow, Ethernet, Families, FamilyId, Flow, FlowMatch, Generic, Masked,
    PortNumber, Tunnel, Upcall, Vport, VportKind,
};

const FAMILIES: Families = Families {
    datapath: FamilyId(32),
    vport: FamilyId(33),
    flow: FamilyId(34),
    packet: FamilyId(35),
    vport_group: 9,
};

fn payload(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(&FAMILIES, 1, &mut bytes).unwrap();
    let messages: Vec<_> = Messages::new(&bytes).map(Result::unwrap).collect();
    let [message] = messages[..] else { panic!("{messages:?}") };
    let Body::Entry { kind, payload } = message.body else { panic!("{message:?}") };
    assert_eq!(FamilyId(kind), FAMILIES.id(request.family()));
    Generic::decode(payload).unwrap().payload.to_vec()
}

fn ethernet() -> impl Strategy<Value = Ethernet> {
    any::<([u8; 6], [u8; 6])>().prop_map(|(source, destination)| Ethernet { source, destination })
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    any::<(u64, u32, u32, u8, u8, bool, bool, u16, u16)>().prop_map(
        |(id, source, destination, tos, ttl, dont_fragment, checksum, from, to)| Tunnel {
            id,
            source: source.into(),
            destination: destination.into(),
            tos,
            ttl,
            dont_fragment,
            checksum,
            source_port: from,
            destination_port: to,
        },
    )
}

fn matches() -> impl Strategy<Value = FlowMatch> {
    let port = proptest::option::of(any::<u32>().prop_map(PortNumber));
    let ethernet =
        (ethernet(), ethernet()).prop_map(|(key, mask)| Masked::<Ethernet>::new(key, mask));
    let tunnels = (tunnel(), tunnel())
        .prop_map(|(key, mask)| Masked::<Tunnel>::new(key, mask))
        .prop_filter("matches something", |masked| masked.mask() != Tunnel::ZERO);
    let tag = proptest::option::of(any::<u16>());
    (port, ethernet, tag, proptest::option::of(tunnels)).prop_map(
        |(in_port, ethernet, tag, tunnel)| FlowMatch {
            in_port,
            ethernet,
            tag,
            tunnel,
            other: Vec::new(),
        },
    )
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        any::<u32>().prop_map(|port| Action::Output(PortNumber(port))),
        tunnel().prop_map(Action::SetTunnel),
    ];
    proptest::collection::vec(action, 0..20)
}

fn kind() -> impl Strategy<Value = VportKind> {
    prop_oneof![
        Just(VportKind::Netdev),
        Just(VportKind::Internal),
        any::<Option<u16>>().prop_map(|udp_port| VportKind::Vxlan { udp_port }),
        (5..99_u32).prop_map(VportKind::Other),
    ]
}

proptest! {
    #[test]
    fn flows(matches in matches(), actions in actions(), datapath: i32) {
        let flow = Flow { matches, actions };
        let datapath = DatapathId(datapath);
        let dumped = DumpedFlow::decode(&payload(&Request::PutFlow { datapath, flow: &flow }));
        prop_assert_eq!(&dumped.as_ref().unwrap().flow, &flow);
        prop_assert_eq!(dumped.unwrap().datapath, datapath);
    }

    #[test]
    fn vports(name in "[a-z0-9-]{1,15}", kind in kind(), number: u32, datapath: i32) {
        let datapath = DatapathId(datapath);
        let mut bytes = payload(&Request::CreateVport { datapath, name: &name, kind });
        let port = PortNumber(number);
        bytes.extend_from_slice(&payload(&Request::Vport { datapath, port })[4..]);
        let vport = Vport::decode(&bytes).unwrap();
        prop_assert_eq!(vport, Vport { datapath, number: port, name, kind, stats: None });
    }

    #[test]
    fn an_executed_packet_has_no_key(
        packet in proptest::collection::vec(any::<u8>(), 0..2000),
        actions in actions(),
    ) {
        let datapath = DatapathId(1);
        let bytes = payload(&Request::Execute { datapath, packet: &packet, actions: &actions });
        let error = Upcall::decode(1, &bytes).unwrap_err();
        prop_assert_eq!(error.to_string(), "there is no input port");
    }

    /// Decoding any bytes ends with a value or an error that can be printed.
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), command: u8) {
        prop_assert!(Messages::new(&bytes).count() <= 1 + bytes.len() / 16);
        for error in [
            DumpedFlow::decode(&bytes).err(),
            Vport::decode(&bytes).err(),
            Upcall::decode(command, &bytes).err(),
        ] {
            prop_assert!(error.is_none_or(|error| !error.to_string().is_empty()));
        }
    }
}
