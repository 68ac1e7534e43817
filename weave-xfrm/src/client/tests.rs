//! A kernel that says what it was told to say.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use netlink_packet_core::NLM_F_DUMP_INTR;

use super::*;
use crate::key::AeadKey;
use crate::message::{NEW_POLICY, NEW_STATE};

const PATH: Path =
    Path { source: Ipv4Addr::new(192, 0, 2, 1), destination: Ipv4Addr::new(192, 0, 2, 2) };
const MARK: Mark = Mark { value: 0x20000, mask: 0x20000 };

/// Answers each request with the next of these lists of datagrams.
struct Script {
    answers: VecDeque<Vec<Reply>>,
    waiting: VecDeque<Reply>,
    /// Sequence number of the last request.
    sequence: u32,
}

enum Reply {
    /// A message in answer to the request or to the one that was so many before it.
    Message {
        kind: u16,
        flags: u16,
        back: u32,
        payload: Vec<u8>,
    },
    Lost,
}

impl Transport for Script {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.sequence = u32::from_ne_bytes(datagram[8..12].try_into().unwrap());
        self.waiting.extend(self.answers.pop_front().unwrap());
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        match self.waiting.pop_front().expect("the client waits for nothing") {
            Reply::Lost => Err(Errno::ENOBUFS.into()),
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

/// What a request looks like after its header is what the kernel answers with.
fn entry(kind: u16, like: &Request<'_>) -> Reply {
    let mut bytes = Vec::new();
    like.encode(1, &mut bytes);
    Reply::Message { kind, flags: 0, back: 0, payload: bytes[16..].to_vec() }
}

fn state(spi: u32) -> Reply {
    let spi = Spi::new(spi).unwrap();
    let key = AeadKey::new([7; 36]);
    entry(NEW_STATE, &Request::AddState(&State { path: PATH, spi, reqid: Reqid(5), key }))
}

fn ended(kind: u16, code: i32) -> Reply {
    Reply::Message { kind, flags: 0, back: 0, payload: code.to_ne_bytes().to_vec() }
}

fn acknowledged() -> Reply {
    ended(2, 0)
}

fn refused(errno: Errno) -> Reply {
    ended(2, -(errno as i32))
}

fn done() -> Reply {
    ended(3, 0)
}

fn with(mut reply: Reply, set: u16, before: u32) -> Reply {
    if let Reply::Message { flags, back, .. } = &mut reply {
        *flags |= set;
        *back = before;
    }
    reply
}

fn client(answers: impl IntoIterator<Item = Vec<Reply>>) -> Client<Script> {
    let answers = answers.into_iter().collect();
    Client::new(Script { answers, waiting: VecDeque::new(), sequence: 0 })
}

#[test]
fn the_number_of_a_state_comes_before_the_acknowledgement() {
    let mut client = client([
        vec![state(0xc123_4567), acknowledged()],
        vec![acknowledged()],
        vec![with(refused(Errno::EINVAL), 0, 1), acknowledged()],
    ]);
    assert_eq!(client.allocate_spi(PATH, Reqid(5)).unwrap().get(), 0xc123_4567);
    let error = client.allocate_spi(PATH, Reqid(5)).unwrap_err().to_string();
    assert_eq!(error, "cannot allocate a number for an IPsec state: there is no state");
    // What answers an earlier request is passed over.
    assert!(client.delete_policy(PATH, MARK).unwrap());
}

#[test]
fn what_is_not_there_can_be_deleted() {
    let refusals = [Errno::ESRCH, Errno::ENOENT, Errno::ENOENT, Errno::EPERM];
    let mut client = client(refusals.map(|errno| vec![refused(errno)]));
    let spi = Spi::new(1).unwrap();
    assert!(!client.delete_state(PATH, spi).unwrap());
    assert!(!client.delete_policy(PATH, MARK).unwrap());
    assert_eq!(client.policy(PATH, MARK).unwrap(), None);
    let error = client.delete_state(PATH, spi).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EPERM));
    assert_eq!(error.to_string(), "cannot delete an IPsec state: Operation not permitted");
}

#[test]
fn a_list_that_changed_or_was_lost_is_begun_again() {
    let mut client = client([
        vec![state(1), with(state(2), NLM_F_DUMP_INTR, 0), done()],
        vec![state(1), Reply::Lost],
        vec![with(done(), 0, 1), state(1), state(3), done()],
    ]);
    let numbers: Vec<_> = client.states().unwrap().iter().map(|state| state.spi).collect();
    assert_eq!(numbers, [Spi::new(1), Spi::new(3)]);
}

#[test]
fn a_list_that_never_rests_is_given_up() {
    let restless = || vec![with(done(), NLM_F_DUMP_INTR, 0)];
    let mut client = client((0..LIST_ATTEMPTS).map(|_| restless()));
    assert!(matches!(client.policies(), Err(Error::Unsteady { .. })));
}

#[test]
fn policies_tell_their_state() {
    let policy = Policy { path: PATH, mark: MARK, spi: Spi::new(9).unwrap(), reqid: Reqid(5) };
    let told = entry(NEW_POLICY, &Request::PutPolicy(&policy));
    let mut client = client([vec![told, acknowledged()]]);
    let found = client.policy(PATH, MARK).unwrap().unwrap();
    assert_eq!((found.path, found.mark, found.udp), (Some(PATH), Some(MARK), true));
    let template = found.template.unwrap();
    assert_eq!((template.spi, template.reqid), (Spi::new(9), Reqid(5)));
}

#[test]
fn keys_do_not_stay_in_the_buffers() {
    let key = AeadKey::new([0xa5; 36]);
    let state = State { path: PATH, spi: Spi::new(9).unwrap(), reqid: Reqid(5), key };
    let mut client = client([vec![acknowledged()]]);
    client.add_state(&state).unwrap();
    let capacity = client.request.capacity();
    assert!(client.request.is_empty() && capacity >= 380);
    assert_eq!(format!("{state:?}").matches("165").count(), 0);
}
