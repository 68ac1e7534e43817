//! A kernel that says what it was told to say.

use std::collections::VecDeque;

use netlink_packet_core::NLM_F_DUMP_INTR;

use super::*;
use crate::attribute::{Attribute, append};

/// Answers each request with the next of these lists of datagrams.
#[derive(Default, Debug)]
struct Script {
    answers: VecDeque<Vec<Reply>>,
    waiting: VecDeque<Reply>,
    /// Sequence number of the last request.
    sequence: u32,
    requests: u32,
}

#[derive(Debug)]
enum Reply {
    /// A message of this type, with these flags, in answer to the request or to the one that
    /// was so many before it.
    Message {
        kind: u16,
        flags: u16,
        back: u32,
        payload: Vec<u8>,
    },
    Error(Errno),
}

impl Transport for Script {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.sequence = u32::from_ne_bytes(datagram[8..12].try_into().unwrap());
        self.requests += 1;
        self.waiting.extend(self.answers.pop_front().unwrap_or_default());
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        match self.waiting.pop_front().expect("the client waits for nothing") {
            Reply::Error(errno) => Err(errno.into()),
            Reply::Message { kind, flags, back, payload } => {
                let length = u32::try_from(16 + payload.len()).unwrap();
                buffer.extend_from_slice(&length.to_ne_bytes());
                buffer.extend_from_slice(&kind.to_ne_bytes());
                buffer.extend_from_slice(&flags.to_ne_bytes());
                buffer.extend_from_slice(&(self.sequence - back).to_ne_bytes());
                buffer.extend_from_slice(&[0; 4]);
                buffer.extend_from_slice(&payload);
                Ok(())
            }
        }
    }
}

fn message(kind: u16, attributes: &[Attribute<'_>]) -> Reply {
    let mut payload = vec![1, 1, 0, 0];
    if kind != 16 {
        payload.extend_from_slice(&7_i32.to_ne_bytes());
    }
    append(attributes, &mut payload).unwrap();
    Reply::Message { kind, flags: 0, back: 0, payload }
}

fn failure(errno: Errno) -> Reply {
    let payload = (-(errno as i32)).to_ne_bytes().to_vec();
    Reply::Message { kind: 2, flags: 0, back: 0, payload }
}

fn done() -> Reply {
    Reply::Message { kind: 3, flags: 2, back: 0, payload: vec![0; 4] }
}

fn family(id: u16) -> Vec<Reply> {
    let group = vec![Attribute::text(1, "ovs_vport"), Attribute::u32(2, 9)];
    let groups = Attribute::nest(7, vec![Attribute::nest(1, group)]);
    vec![message(16, &[Attribute::u16(1, id), groups])]
}

fn vport(number: u32, name: &str) -> Reply {
    message(33, &[Attribute::u32(1, number), Attribute::u32(2, 1), Attribute::text(3, name)])
}

fn with(mut reply: Reply, set: u16, before: u32) -> Reply {
    if let Reply::Message { flags, back, .. } = &mut reply {
        *flags |= set;
        *back = before;
    }
    reply
}

fn client(answers: impl IntoIterator<Item = Vec<Reply>>) -> Client<Script> {
    let families = [32, 33, 34, 35].map(family);
    let answers = families.into_iter().chain(answers).collect();
    Client::new(Script { answers, ..Script::default() }).unwrap()
}

const DATAPATH: DatapathId = DatapathId(7);

#[test]
fn families_are_looked_up() {
    let client = client([]);
    let families = client.families();
    assert_eq!(families.id(Family::Packet), FamilyId(35));
    assert_eq!(families.vport_group, 9);

    let answers = [vec![failure(Errno::ENOENT)]].into();
    let error = Client::new(Script { answers, ..Script::default() }).unwrap_err();
    let expected = "this kernel has no ovs_datapath: the module openvswitch is missing";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_refusal_names_the_request_and_the_reason() {
    let mut client = client([vec![failure(Errno::EEXIST)], vec![failure(Errno::ENODEV)]]);
    let error = client.create_datapath("datapath").unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EEXIST));
    assert!(error.to_string().starts_with("create datapath: EEXIST"), "{error}");
    let error = client.delete_vport(DATAPATH, PortNumber(3)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENODEV));
}

#[test]
fn answers_to_other_requests_are_passed_over_and_their_errors_counted() {
    let late = with(failure(Errno::EINVAL), 0, 1);
    let mut client = client([vec![], vec![late, with(vport(1, "a"), 0, 1), vport(2, "b")]]);
    client.execute(DATAPATH, &[0; 14], &[]).unwrap();
    assert_eq!(client.vport(DATAPATH, PortNumber(2)).unwrap().name, "b");
    assert_eq!(client.strays(), 1);
}

#[test]
fn a_dump_that_changed_or_was_lost_is_begun_again() {
    let mut client = client([
        vec![vport(1, "a"), with(vport(2, "b"), NLM_F_DUMP_INTR, 0), done()],
        vec![vport(1, "a"), Reply::Error(Errno::ENOBUFS)],
        vec![with(done(), 0, 1), vport(1, "a"), vport(3, "c"), done()],
    ]);
    let vports = client.vports(DATAPATH).unwrap();
    let names: Vec<_> = vports.iter().map(|vport| &vport.name[..]).collect();
    assert_eq!(names, ["a", "c"]);

    let interrupted = || vec![with(done(), NLM_F_DUMP_INTR, 0)];
    let mut client = self::client((0..DUMP_ATTEMPTS).map(|_| interrupted()));
    assert!(matches!(client.vports(DATAPATH), Err(Error::Unsteady { .. })));
    assert_eq!(client.transport.requests, 4 + DUMP_ATTEMPTS);
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
    let mut client = client([vec![flow(1, 1), flow(2, 12), flow(3, 1), done()]]);
    let dump = client.flows(DATAPATH).unwrap();
    let ports: Vec<_> = dump.flows.iter().map(|dumped| dumped.flow.matches.in_port).collect();
    assert_eq!(ports, [Some(PortNumber(1)), Some(PortNumber(3))]);
    let [error] = &dump.skipped[..] else { panic!("{:?}", dump.skipped) };
    assert!(matches!(error, DecodeError::UnknownAction { kind: 12, .. }), "{error}");
}
