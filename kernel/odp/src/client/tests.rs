//! Clients of a scripted kernel.

use weave_netlink::script::{Reply, Script};

use super::*;
use crate::attribute::{Attribute, append};

fn message(kind: u16, attributes: &[Attribute<'_>]) -> Reply {
    let mut payload = vec![1, 1, 0, 0];
    if kind != FamilyId::CONTROL.0 {
        payload.extend_from_slice(&7_i32.to_ne_bytes());
    }
    append(attributes, &mut payload).unwrap();
    Reply::message(kind, &payload)
}

fn family(id: u16) -> Vec<Reply> {
    let group = vec![Attribute::text(1, "ovs_vport"), Attribute::u32(2, 9)];
    let groups = Attribute::nest(7, vec![Attribute::nest(1, group)]);
    vec![message(16, &[Attribute::u16(1, id), groups])]
}

fn vport(number: u32, name: &str) -> Reply {
    message(33, &[Attribute::u32(1, number), Attribute::u32(2, 1), Attribute::text(3, name)])
}

fn client(answers: impl IntoIterator<Item = Vec<Reply>>) -> Client<Script> {
    let families = [32, 33, 34, 35].map(family);
    let answers = families.into_iter().chain(answers);
    Client::new(Script::new(answers)).unwrap()
}

const DATAPATH: DatapathId = DatapathId(7);

#[test]
fn families_are_looked_up() {
    let client = client([]);
    let families = client.families();
    assert_eq!(families.id(Family::Packet), FamilyId(35));
    assert_eq!(families.vport_group, 9);

    let answers = [vec![Reply::refused(Errno::ENOENT)]];
    let error = Client::new(Script::new(answers)).unwrap_err();
    let expected = "this kernel has no ovs_datapath: the module openvswitch is missing";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn features_of_a_datapath_are_read_and_changed() {
    let datapath = |features: &[Attribute<'_>]| {
        let list = [&[Attribute::text(1, "datapath")][..], features].concat();
        vec![message(32, &list)]
    };
    let mut client = client([
        datapath(&[Attribute::u32(5, 11)]),
        vec![message(32, &[])],
        datapath(&[Attribute::u32(5, crate::FEATURES)]),
        datapath(&[]),
    ]);
    assert_eq!(client.datapath("datapath").unwrap().features, Some(11));
    client.set_features(DATAPATH, crate::FEATURES).unwrap();
    let mut expected = vec![4, 2, 0, 0];
    expected.extend_from_slice(&DATAPATH.0.to_ne_bytes());
    append(&[Attribute::u32(5, 3)], &mut expected).unwrap();
    assert_eq!(client.exchange.transport().last_request()[16..], expected);
    assert_eq!(client.datapath("datapath").unwrap().features, Some(crate::FEATURES));
    assert_eq!(client.datapath("datapath").unwrap().features, None, "a kernel that does not say");
}

#[test]
fn lists_and_refusals() {
    let mut client = client([
        vec![Reply::refused(Errno::EEXIST)],
        vec![vport(1, "a"), vport(3, "c"), Reply::done()],
        vec![],
        vec![Reply::refused(Errno::EINVAL).to_earlier(1), vport(2, "b")],
    ]);
    let error = client.create_datapath("datapath").unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EEXIST));
    let vports = client.vports(DATAPATH).unwrap();
    let names: Vec<_> = vports.iter().map(|vport| &vport.name[..]).collect();
    assert_eq!(names, ["a", "c"]);
    client.execute(DATAPATH, &[0; 14], &[]).unwrap();
    assert_eq!(client.vport(DATAPATH, PortNumber(2)).unwrap().name, "b");
    assert_eq!(client.strays(), 1, "a packet that the kernel refused");
}

#[test]
fn a_flow_and_the_packet_that_missed_go_together() {
    let flow = {
        let matches = FlowMatch::new(PortNumber(1), crate::Masked::<crate::Ethernet>::ANY);
        Flow { matches, actions: vec![Action::Output(PortNumber(5))] }
    };
    let mut client = client([
        vec![Reply::refused(Errno::EINVAL).to_earlier(1), message(34, &[])],
        vec![Reply::refused(Errno::EINVAL)],
    ]);
    // The length is not a multiple of four.
    client.put_flow_and_execute(DATAPATH, &flow, &[7; 15]).unwrap();
    assert_eq!(client.strays(), 1, "the flow exists although the packet was refused");
    let sent = client.exchange.transport().last_request().to_vec();
    let messages: Vec<_> = weave_netlink::Messages::new(&sent).map(Result::unwrap).collect();
    let kinds: Vec<_> = messages
        .iter()
        .map(|message| match message.body {
            weave_netlink::Body::Entry { kind, .. } => kind,
            _ => 0,
        })
        .collect();
    assert_eq!(kinds, [34, 35], "the flow, then the packet");
    let (mut put, mut execute) = (Vec::new(), Vec::new());
    let [first, second] = [messages[0].sequence, messages[1].sequence];
    let request = Request::PutFlow { datapath: DATAPATH, flow: &flow };
    request.encode(client.families(), first, &mut put).unwrap();
    let actions = &flow.actions[..];
    let request = Request::Execute { datapath: DATAPATH, packet: &[7; 15], actions };
    request.encode(client.families(), second, &mut execute).unwrap();
    assert_eq!(sent, [put, execute].concat());
    let error = client.put_flow_and_execute(DATAPATH, &flow, &[7; 15]).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
}

#[test]
fn an_unknown_action_skips_that_entry_only() {
    let flow = |port, action| {
        let keys = vec![Attribute::u32(3, port)];
        let masks = vec![Attribute::u32(3, u32::MAX)];
        let actions = vec![Attribute::u32(action, 5)];
        message(
            34,
            &[Attribute::nest(1, keys), Attribute::nest(7, masks), Attribute::nest(2, actions)],
        )
    };
    let mut client = client([vec![flow(1, 1), flow(2, 12), flow(3, 1), Reply::done()]]);
    let dump = client.flows(DATAPATH).unwrap();
    let ports: Vec<_> = dump.flows.iter().map(|dumped| dumped.flow.matches.in_port).collect();
    assert_eq!(ports, [Some(PortNumber(1)), Some(PortNumber(3))]);
    let [error] = &dump.skipped[..] else { panic!("{:?}", dump.skipped) };
    assert!(matches!(error, DecodeError::Unknown { kind: 12, .. }), "{error}");
}
