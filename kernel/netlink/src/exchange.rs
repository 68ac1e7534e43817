//! Requests to the kernel, and their answers.

use std::fmt;

use nix::errno::Errno;
use zeroize::Zeroize as _;

use crate::error::{DecodeError, Error, TooLong};
use crate::message::{Body, Message, Messages};
use crate::transport::Transport;

/// How often a list is read that changes while it is being read. Reading takes microseconds, and
/// changes are rare in comparison.
pub const LIST_ATTEMPTS: u32 = 10;

/// A message that answers a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// The request was carried out.
    Acknowledged,
    /// A message of the protocol.
    Entry {
        /// Type of the message.
        kind: u16,
        /// Bytes behind the netlink header.
        payload: &'a [u8],
    },
}

/// An exchange sends requests one after the other and matches answers to them by sequence number.
/// Each call names its request for error messages: `cannot {request}: ...`.
pub struct Exchange<T> {
    transport: T,
    sequence: u32,
    request: Vec<u8>,
    answer: Vec<u8>,
    strays: u64,
}

impl<T> fmt::Debug for Exchange<T> {
    /// Omits the buffers, which may contain keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl<T: Transport> Exchange<T> {
    /// Creates an exchange over this transport.
    pub const fn new(transport: T) -> Self {
        Self { transport, sequence: 0, request: Vec::new(), answer: Vec::new(), strays: 0 }
    }

    /// Returns the transport.
    pub const fn transport(&self) -> &T {
        &self.transport
    }

    /// Returns how many requests were refused so far whose answer no call waited for.
    pub const fn strays(&self) -> u64 {
        self.strays
    }

    /// Overwrites the last request and answer, which may contain keys.
    pub fn wipe(&mut self) {
        self.request.zeroize();
        self.answer.zeroize();
    }

    /// Sends a request. `encode` appends the bytes of the request, with the given sequence number.
    ///
    /// # Errors
    /// Fails if the request is too long, or if the transport fails.
    pub fn send(
        &mut self,
        request: &'static str,
        encode: impl FnOnce(u32, &mut Vec<u8>) -> Result<(), TooLong>,
    ) -> Result<(), Error> {
        // Zero is the sequence number of notifications.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.request.clear();
        encode(self.sequence, &mut self.request)
            .map_err(|source| Error::TooLong { request, source })?;
        self.transport.send(&self.request).map_err(|source| Error::Socket { request, source })
    }

    /// Passes the answers to the last request to `each` until it returns a result.
    ///
    /// # Errors
    /// Fails if the kernel refuses the request, if an answer cannot be decoded, or if the
    /// transport fails.
    pub fn wait_for<A>(
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
                    count_stray(&message, strays);
                    continue;
                }
                let answer = match message.body {
                    Body::Acknowledged => Answer::Acknowledged,
                    Body::Entry { kind, payload } => Answer::Entry { kind, payload },
                    Body::Failed(errno) => return Err(Error::Refused { request, errno }),
                    Body::Done | Body::Noop | Body::Overrun => continue,
                };
                if let Some(result) =
                    each(answer).map_err(|source| Error::Answer { request, source })?
                {
                    return Ok(result);
                }
            }
        }
    }

    /// Sends a request that is answered by a list, and repeats it until the list does not change
    /// while it is being read. `decode` gets the type and payload of each entry and returns `None`
    /// for entries that do not belong to the list.
    ///
    /// # Errors
    /// Fails if the kernel refuses the request, if an entry cannot be decoded, if the list changes
    /// during each attempt, or if the transport fails.
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
        Err(Error::Interrupted { request, attempts: LIST_ATTEMPTS })
    }

    /// Reads a list. Returns `None` if the list changed meanwhile or a part of it was lost.
    fn read_list<A>(
        &mut self,
        request: &'static str,
        decode: impl Fn(u16, &[u8]) -> Result<Option<A>, DecodeError>,
    ) -> Result<Option<Vec<A>>, Error> {
        let Self { transport, sequence, answer, strays, .. } = self;
        let (mut list, mut complete) = (Vec::new(), true);
        loop {
            match transport.receive(answer) {
                Ok(()) => {}
                // The rest of this list differs from the next one by its sequence number.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Ok(None);
                }
                Err(source) => return Err(Error::Socket { request, source }),
            }
            for message in Messages::new(answer) {
                let message = message.map_err(|source| Error::Answer { request, source })?;
                if message.sequence != *sequence {
                    count_stray(&message, strays);
                    continue;
                }
                complete &= !message.interrupted;
                match message.body {
                    Body::Entry { kind, payload } => list.extend(
                        decode(kind, payload)
                            .map_err(|source| Error::Answer { request, source })?,
                    ),
                    Body::Done | Body::Acknowledged => return Ok(complete.then_some(list)),
                    Body::Failed(errno) => return Err(Error::Refused { request, errno }),
                    Body::Overrun => complete = false,
                    Body::Noop => {}
                }
            }
        }
    }
}

fn count_stray(message: &Message<'_>, strays: &mut u64) {
    if matches!(message.body, Body::Failed(_)) {
        *strays += 1;
    }
}

#[cfg(test)]
mod tests;
