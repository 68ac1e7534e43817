//! Exchanges with a scripted kernel.

use super::*;
use crate::message::write_header;
use crate::script::{Reply, Script};

const KIND: u16 = 33;

fn entry(number: u8) -> Reply {
    Reply::message(KIND, &[number])
}

fn exchange(answers: impl IntoIterator<Item = Vec<Reply>>) -> Exchange<Script> {
    Exchange::new(Script::new(answers))
}

fn encode(sequence: u32, to: &mut Vec<u8>) -> Result<(), TooLong> {
    to.resize(crate::HEADER_LEN, 0);
    write_header(to, KIND, 0, sequence)
}

fn list(exchange: &mut Exchange<Script>) -> Result<Vec<u8>, Error> {
    exchange.list("list them", encode, |kind, payload| {
        Ok((kind == KIND).then_some(payload).and_then(|bytes| bytes.first().copied()))
    })
}

#[test]
fn a_list_that_changed_or_was_lost_is_read_again() {
    let mut exchange = exchange([
        vec![entry(1), entry(2).interrupted(), Reply::done()],
        vec![entry(1), Reply::lost()],
        vec![Reply::done().to_earlier(1), entry(1), entry(3), Reply::done()],
    ]);
    assert_eq!(list(&mut exchange).unwrap(), [1, 3]);
    assert_eq!(exchange.transport().requests(), 3);
}

#[test]
fn a_list_that_keeps_changing_is_an_error() {
    let changing = || vec![Reply::done().interrupted()];
    let mut exchange = exchange((0..LIST_ATTEMPTS).map(|_| changing()));
    let error = list(&mut exchange).unwrap_err().to_string();
    assert_eq!(error, "cannot list them: the list changed during each of 10 attempts");
    assert_eq!(exchange.transport().requests(), LIST_ATTEMPTS);
}

#[test]
fn answers_to_earlier_requests_are_ignored_and_their_refusals_counted() {
    let late = Reply::refused(Errno::EINVAL).to_earlier(1);
    let mut exchange = exchange([vec![], vec![late, entry(1).to_earlier(1), entry(2), entry(3)]]);
    exchange.send("do it", encode).unwrap();
    exchange.send("ask", encode).unwrap();
    let number = exchange.wait_for("ask", |answer| match answer {
        Answer::Entry { payload, .. } => Ok(payload.first().copied()),
        Answer::Acknowledged => Ok(None),
    });
    assert_eq!(number.unwrap(), 2);
    assert_eq!(exchange.strays(), 1);
}

#[test]
fn a_refusal_names_the_request_and_the_reason() {
    let mut exchange = exchange([vec![Reply::refused(Errno::ENODEV)]]);
    exchange.send("delete it", encode).unwrap();
    let error = exchange.wait_for("delete it", |_| Ok(Some(()))).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENODEV));
    assert_eq!(error.to_string(), "cannot delete it: No such device (ENODEV)");
}

#[test]
fn wiping_empties_both_buffers() {
    let mut exchange = exchange([vec![entry(0xa5)]]);
    exchange.send("ask", encode).unwrap();
    exchange.wait_for("ask", |_| Ok(Some(()))).unwrap();
    assert!(!exchange.request.is_empty() && !exchange.answer.is_empty());
    exchange.wipe();
    assert!(exchange.request.is_empty() && exchange.answer.is_empty());
}
