//! Messages of the kernel's Open vSwitch datapath. What is understood of a flow, a port or a
//! datapath is encoded again and then read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_netlink::{Body, Messages};
use weave_odp::request::Request;
use weave_odp::{Datapath, DumpedFlow, Families, FamilyId, Generic, Upcall, Vport};

const FAMILIES: Families = Families {
    datapath: FamilyId(32),
    vport: FamilyId(33),
    flow: FamilyId(34),
    packet: FamilyId(35),
    vport_group: 9,
};

fuzz_target!(|input: &[u8]| {
    for message in Messages::new(input) {
        match message.map(|message| message.body) {
            Ok(Body::Entry { kind, payload }) => {
                assert!(payload.len() < input.len());
                if let Ok(Generic { command, payload }) = Generic::decode(payload) {
                    generic(FamilyId(kind), command, payload);
                }
            }
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});

fn generic(family: FamilyId, command: u8, payload: &[u8]) {
    match family.0 {
        32 => drop(Datapath::decode(payload)),
        33 => drop(Vport::decode(payload)),
        34 => {
            if let Ok(dumped) = DumpedFlow::decode(payload) {
                again(&dumped);
            }
        }
        35 => {
            if let Ok(Some(upcall)) = Upcall::decode(command, payload) {
                assert!(upcall.packet.len() < payload.len());
            }
        }
        _ => {}
    }
}

fn again(dumped: &DumpedFlow) {
    let DumpedFlow { datapath, flow, .. } = dumped;
    let mut bytes = Vec::new();
    let request = Request::PutFlow { datapath: *datapath, flow };
    // Actions can be longer when all of their attributes are written out.
    if request.encode(&FAMILIES, 1, &mut bytes).is_err() {
        return;
    }
    let message = Messages::new(&bytes).next().and_then(Result::ok).expect("a message");
    let Body::Entry { payload, .. } = message.body else { panic!("{message:?}") };
    let payload = Generic::decode(payload).expect("a generic header").payload;
    assert_eq!(DumpedFlow::decode(payload).map(|again| again.flow).as_ref(), Ok(flow));
}
