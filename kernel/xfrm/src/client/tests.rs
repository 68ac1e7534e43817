//! Clients of a scripted kernel.

use std::net::Ipv4Addr;

use weave_netlink::HEADER_LEN;
use weave_netlink::script::{Reply, Script};

use super::*;
use crate::key::AeadKey;
use crate::request::{NEW_POLICY, NEW_STATE};

const PATH: Path =
    Path { source: Ipv4Addr::new(192, 0, 2, 1), destination: Ipv4Addr::new(192, 0, 2, 2) };
const MARK: Mark = Mark { value: 0x20000, mask: 0x20000 };

/// An answer with the same bytes behind the header as a request.
fn entry(kind: u16, like: &Request<'_>) -> Reply {
    let mut bytes = Vec::new();
    like.encode(1, &mut bytes);
    Reply::message(kind, &bytes[HEADER_LEN..])
}

fn state(spi: u32) -> Reply {
    let spi = Spi::new(spi).unwrap();
    let key = AeadKey::new([7; 36]);
    entry(NEW_STATE, &Request::AddState(&State { path: PATH, spi, reqid: Reqid(5), key }))
}

fn client(answers: impl IntoIterator<Item = Vec<Reply>>) -> Client<Script> {
    Client::new(Script::new(answers))
}

#[test]
fn the_number_of_a_state_comes_before_the_acknowledgement() {
    let mut client = client([
        vec![state(0xc123_4567), Reply::acknowledged()],
        vec![Reply::acknowledged()],
        vec![Reply::refused(Errno::EINVAL).to_earlier(1), Reply::acknowledged()],
    ]);
    assert_eq!(client.allocate_spi(PATH, Reqid(5)).unwrap().get(), 0xc123_4567);
    let error = client.allocate_spi(PATH, Reqid(5)).unwrap_err().to_string();
    assert_eq!(error, "cannot allocate an SPI for an IPsec state: the answer: there is no state");
    // Answers to earlier requests are ignored.
    assert!(client.delete_policy(PATH, MARK).unwrap());
}

#[test]
fn deleting_what_is_missing_is_no_error() {
    let refusals = [Errno::ESRCH, Errno::ENOENT, Errno::ENOENT, Errno::EPERM];
    let mut client = client(refusals.map(|errno| vec![Reply::refused(errno)]));
    let spi = Spi::new(1).unwrap();
    assert!(!client.delete_state(PATH, spi).unwrap());
    assert!(!client.delete_policy(PATH, MARK).unwrap());
    assert_eq!(client.policy(PATH, MARK).unwrap(), None);
    let error = client.delete_state(PATH, spi).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EPERM));
    assert_eq!(error.to_string(), "cannot delete an IPsec state: Operation not permitted (EPERM)");
}

#[test]
fn states_are_listed() {
    let policy = entry(NEW_POLICY, &Request::Policies);
    let mut client = client([vec![state(1), policy, state(3), Reply::done()]]);
    let numbers: Vec<_> = client.states().unwrap().iter().map(|state| state.spi).collect();
    assert_eq!(numbers, [Spi::new(1), Spi::new(3)]);
}

#[test]
fn policies_name_their_state() {
    let policy = Policy { path: PATH, mark: MARK, spi: Spi::new(9).unwrap(), reqid: Reqid(5) };
    let answer = entry(NEW_POLICY, &Request::PutPolicy(&policy));
    let mut client = client([vec![answer, Reply::acknowledged()]]);
    let found = client.policy(PATH, MARK).unwrap().unwrap();
    assert_eq!((found.path, found.mark, found.udp), (Some(PATH), Some(MARK), true));
    let template = found.template.unwrap();
    assert_eq!((template.spi, template.reqid), (Spi::new(9), Reqid(5)));
}
