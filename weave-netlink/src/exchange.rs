//! Asking the kernel, and waiting for the answer.

use std::fmt;
use std::io;

use nix::errno::Errno;
use zeroize::Zeroize as _;

use crate::error::{DecodeError, Error, TooLong};
use crate::message::{Body, Message, Messages};

/// How often a list is begun again because it changed meanwhile. Changes are rare next to the
/// microseconds that reading takes.
pub const LIST_ATTEMPTS: u32 = 10;

/// Carries datagrams to the kernel and back.
pub trait Transport {
    /// Sends a datagram to the kernel.
    ///
    /// # Errors
    /// As the socket has them.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// Waits for the next datagram of the kernel and puts it into `buffer`.
    ///
    /// # Errors
    /// As the socket has them; `ENOBUFS` if datagrams were lost.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()>;
}

/// A message in answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// The request was carried out.
    Acknowledged,
    /// What the protocol says to it.
    Entry {
        /// The type of the message.
        kind: u16,
        /// What follows the netlink header.
        payload: &'a [u8],
    },
}

/// Requests, one after the other, and their answers. Each call names its request, for errors:
/// `cannot {request}: ...`.
pub struct Exchange<T> {
    transport: T,
    sequence: u32,
    request: Vec<u8>,
    answer: Vec<u8>,
    strays: u64,
}

impl<T> fmt::Debug for Exchange<T> {
    /// Not the buffers: there may be keys in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl<T: Transport> Exchange<T> {
    /// One that uses this transport.
    pub const fn new(transport: T) -> Self {
        Self { transport, sequence: 0, request: Vec::new(), answer: Vec::new(), strays: 0 }
    }

    /// What it uses.
    pub const fn transport(&self) -> &T {
        &self.transport
    }

    /// Refusals so far of requests whose answer was not waited for.
    pub const fn strays(&self) -> u64 {
        self.strays
    }

    /// Overwrites what was sent and received: there may be keys in it.
    pub fn wipe(&mut self) {
        self.request.zeroize();
        self.answer.zeroize();
    }

    /// Sends a request: `encode` appends its bytes, with the sequence number that it is given.
    ///
    /// # Errors
    /// The request is too long, or the transport fails.
    pub fn send(
        &mut self,
        request: &'static str,
        encode: impl FnOnce(u32, &mut Vec<u8>) -> Result<(), TooLong>,
    ) -> Result<(), Error> {
        // Zero is what the kernel says unasked.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.request.clear();
        encode(self.sequence, &mut self.request)
            .map_err(|source| Error::TooLong { request, source })?;
        self.transport.send(&self.request).map_err(|source| Error::Socket { request, source })
    }

    /// Hands the answers to the last request over, until one of them makes `each` conclude.
    ///
    /// # Errors
    /// The kernel refuses the request, the answer makes no sense, or the transport fails.
    pub fn conclude<A>(
        &mut self,
        request: &'static str,
        mut each: impl FnMut(Answer<'_>) -> Result<Option<A>, DecodeError>,
    ) -> Result<A, Error> {
        let Self { transport, sequence, answer, strays, .. } = self;
        loop {
            transport.receive(answer).map_err(|source| Error::Socket { request, source })?;
            for message in Messages::new(answer) {
                let message = message.map_err(|source| Error::Answer { request, source })?;
                if message.sequence != *sequence {
                    note_stray(&message, strays);
                    continue;
                }
                let answer = match message.body {
                    Body::Acknowledged => Answer::Acknowledged,
                    Body::Entry { kind, payload } => Answer::Entry { kind, payload },
                    Body::Failed(errno) => return Err(Error::Refused { request, errno }),
                    Body::Done | Body::Noop | Body::Overrun => continue,
                };
                if let Some(conclusion) =
                    each(answer).map_err(|source| Error::Answer { request, source })?
                {
                    return Ok(conclusion);
                }
            }
        }
    }

    /// Sends a request that is answered by a list, again and again until the list did not change
    /// while it was read. `decode` gets the type and the payload of each entry, and leaves out
    /// what does not belong there.
    ///
    /// # Errors
    /// The kernel refuses the request, an entry makes no sense, or the transport fails.
    pub fn list<A>(
        &mut self,
        request: &'static str,
        encode: impl Fn(u32, &mut Vec<u8>) -> Result<(), TooLong>,
        decode: impl Fn(u16, &[u8]) -> Result<Option<A>, DecodeError>,
    ) -> Result<Vec<A>, Error> {
        for _ in 0..LIST_ATTEMPTS {
            self.send(request, &encode)?;
            if let Some(list) = self.read_list(request, &decode)? {
                return Ok(list);
            }
        }
        Err(Error::Unsteady { request })
    }

    /// Reads a list; `None` if it changed meanwhile, or a part of it was lost.
    fn read_list<A>(
        &mut self,
        request: &'static str,
        decode: impl Fn(u16, &[u8]) -> Result<Option<A>, DecodeError>,
    ) -> Result<Option<Vec<A>>, Error> {
        let Self { transport, sequence, answer, strays, .. } = self;
        let (mut list, mut whole) = (Vec::new(), true);
        loop {
            match transport.receive(answer) {
                Ok(()) => {}
                // What is left of this list is told from the next one by its sequence number.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Ok(None);
                }
                Err(source) => return Err(Error::Socket { request, source }),
            }
            for message in Messages::new(answer) {
                let message = message.map_err(|source| Error::Answer { request, source })?;
                if message.sequence != *sequence {
                    note_stray(&message, strays);
                    continue;
                }
                whole &= !message.interrupted;
                match message.body {
                    Body::Entry { kind, payload } => list.extend(
                        decode(kind, payload)
                            .map_err(|source| Error::Answer { request, source })?,
                    ),
                    Body::Done | Body::Acknowledged => return Ok(whole.then_some(list)),
                    Body::Failed(errno) => return Err(Error::Refused { request, errno }),
                    Body::Overrun => whole = false,
                    Body::Noop => {}
                }
            }
        }
    }
}

fn note_stray(message: &Message<'_>, strays: &mut u64) {
    if matches!(message.body, Body::Failed(_)) {
        *strays += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::finish;
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
        finish(to, KIND, 0, sequence)
    }

    fn list(exchange: &mut Exchange<Script>) -> Result<Vec<u8>, Error> {
        exchange.list("list them", encode, |kind, payload| {
            Ok((kind == KIND).then_some(payload).and_then(|bytes| bytes.first().copied()))
        })
    }

    #[test]
    fn a_list_that_changed_or_was_lost_is_begun_again() {
        let mut exchange = exchange([
            vec![entry(1), entry(2).interrupted(), Reply::done()],
            vec![entry(1), Reply::lost()],
            vec![Reply::done().to_earlier(1), entry(1), entry(3), Reply::done()],
        ]);
        assert_eq!(list(&mut exchange).unwrap(), [1, 3]);
        assert_eq!(exchange.transport().requests(), 3);
    }

    #[test]
    fn a_list_that_never_rests_is_given_up() {
        let restless = || vec![Reply::done().interrupted()];
        let mut exchange = exchange((0..LIST_ATTEMPTS).map(|_| restless()));
        let error = list(&mut exchange).unwrap_err().to_string();
        assert_eq!(error, "cannot list them: it still changes after 10 attempts");
        assert_eq!(exchange.transport().requests(), LIST_ATTEMPTS);
    }

    #[test]
    fn answers_to_other_requests_are_passed_over_and_their_refusals_counted() {
        let late = Reply::refused(Errno::EINVAL).to_earlier(1);
        let mut exchange =
            exchange([vec![], vec![late, entry(1).to_earlier(1), entry(2), entry(3)]]);
        exchange.send("do it", encode).unwrap();
        exchange.send("ask", encode).unwrap();
        let number = exchange.conclude("ask", |answer| match answer {
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
        let error = exchange.conclude("delete it", |_| Ok(Some(()))).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENODEV));
        assert_eq!(error.to_string(), "cannot delete it: No such device (ENODEV)");
    }

    #[test]
    fn nothing_stays_after_wiping() {
        let mut exchange = exchange([vec![entry(0xa5)]]);
        exchange.send("ask", encode).unwrap();
        exchange.conclude("ask", |_| Ok(Some(()))).unwrap();
        assert!(!exchange.request.is_empty() && !exchange.answer.is_empty());
        exchange.wipe();
        assert!(exchange.request.is_empty() && exchange.answer.is_empty());
    }
}
