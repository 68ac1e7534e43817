//! Asking the kernel, and waiting for the answer.

use std::fmt;
use std::io;

use nix::errno::Errno;
use zeroize::{Zeroize, Zeroizing};

use crate::error::DecodeError;
use crate::message::{Body, Messages};
use crate::names::{Mark, Path, Reqid, Spi};
use crate::policy::{Policy, PolicyEntry};
use crate::request::Request;
use crate::socket::Socket;
use crate::state::{State, StateEntry};

/// How often a list is begun again because it changed meanwhile. Changes are rare next to the
/// microseconds that reading takes.
const LIST_ATTEMPTS: u32 = 10;

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

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel has no IPsec.
    #[error("this kernel has no IPsec (xfrm_user)")]
    NoXfrm,
    /// The kernel refused.
    #[error("cannot {request}: {}", errno.desc())]
    Refused {
        /// What was tried.
        request: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The answer cannot be read.
    #[error("cannot {request}: {source}")]
    Answer {
        /// What was asked.
        request: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// What was to be listed changed each time while it was read.
    #[error("cannot {request}: they change all the time")]
    Unsteady {
        /// What was asked.
        request: &'static str,
    },
    /// The socket failed.
    #[error("cannot {request}: {source}")]
    Socket {
        /// What was tried.
        request: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The kernel's reason, if it refused.
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// Makes, lists and deletes states and policies. Each call waits for the kernel, which answers
/// at once.
pub struct Client<T> {
    transport: T,
    sequence: u32,
    /// Requests have keys in them, and so have answers: lists of states, and errors, which quote.
    request: Zeroizing<Vec<u8>>,
    answer: Zeroizing<Vec<u8>>,
}

impl<T> fmt::Debug for Client<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Client<Socket> {
    /// Opens a socket, for the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel has no IPsec, or no socket to give.
    pub fn open() -> Result<Self, Error> {
        match Socket::open() {
            Ok(socket) => Ok(Self::new(socket)),
            Err(error) if error.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32) => {
                Err(Error::NoXfrm)
            }
            Err(source) => Err(Error::Socket { request: "open a socket for IPsec", source }),
        }
    }
}

impl<T: Transport> Client<T> {
    /// A client that uses this transport.
    pub fn new(transport: T) -> Self {
        Self { transport, sequence: 0, request: Zeroizing::default(), answer: Zeroizing::default() }
    }

    /// Makes a state without a key and returns its number; see [`Request::AllocateSpi`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn allocate_spi(&mut self, path: Path, reqid: Reqid) -> Result<Spi, Error> {
        let request = Request::AllocateSpi { path, reqid };
        let missing =
            |what| Error::Answer { request: request.name(), source: DecodeError::Missing { what } };
        let state = self.one(&request, StateEntry::decode)?.ok_or_else(|| missing("state"))?;
        state.spi.ok_or_else(|| missing("number of the state"))
    }

    /// Gives a state that [`Self::allocate_spi`] made its key; it receives from now on.
    ///
    /// # Errors
    /// `ESRCH` if it is gone.
    pub fn update_state(&mut self, state: &State) -> Result<(), Error> {
        self.tell(&Request::UpdateState(state))
    }

    /// Makes a state.
    ///
    /// # Errors
    /// See [`Request::AddState`].
    pub fn add_state(&mut self, state: &State) -> Result<(), Error> {
        self.tell(&Request::AddState(state))
    }

    /// Deletes a state; `false` if there is none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete_state(&mut self, path: Path, spi: Spi) -> Result<bool, Error> {
        there_was(self.tell(&Request::DeleteState { path, spi }), Errno::ESRCH)
    }

    /// The states of ESP between IPv4 hosts.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn states(&mut self) -> Result<Vec<StateEntry>, Error> {
        self.list(&Request::States, StateEntry::decode)
    }

    /// Makes a policy, or replaces the one of the same path and mark.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn put_policy(&mut self, policy: &Policy) -> Result<(), Error> {
        self.tell(&Request::PutPolicy(policy))
    }

    /// Looks a policy for what leaves up.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn policy(&mut self, path: Path, mark: Mark) -> Result<Option<PolicyEntry>, Error> {
        match self.one(&Request::Policy { path, mark }, PolicyEntry::decode) {
            Err(Error::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            answer => answer,
        }
    }

    /// Deletes a policy for what leaves; `false` if there is none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete_policy(&mut self, path: Path, mark: Mark) -> Result<bool, Error> {
        there_was(self.tell(&Request::DeletePolicy { path, mark }), Errno::ENOENT)
    }

    /// The policies between IPv4 addresses.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn policies(&mut self) -> Result<Vec<PolicyEntry>, Error> {
        self.list(&Request::Policies, PolicyEntry::decode)
    }

    fn send(&mut self, request: &Request<'_>) -> Result<(), Error> {
        // Zero is what the kernel says unasked.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.request.clear();
        request.encode(self.sequence, &mut self.request);
        let sent = self.transport.send(&self.request);
        self.request.zeroize();
        sent.map_err(|source| Error::Socket { request: request.name(), source })
    }

    fn tell(&mut self, request: &Request<'_>) -> Result<(), Error> {
        self.one(request, |_| Ok(None::<()>)).map(drop)
    }

    /// Sends a request and waits for its acknowledgement, which comes after the answer.
    fn one<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl Fn(&[u8]) -> Result<Option<A>, DecodeError>,
    ) -> Result<Option<A>, Error> {
        self.send(request)?;
        let (expected, request) = (request.answer(), request.name());
        let mut found = None;
        loop {
            self.receive().map_err(|source| Error::Socket { request, source })?;
            for message in Messages::new(&self.answer) {
                let message = message.map_err(|source| Error::Answer { request, source })?;
                if message.sequence != self.sequence {
                    continue;
                }
                match message.body {
                    Body::Acknowledged => return Ok(found),
                    Body::Failed(errno) => return Err(Error::Refused { request, errno }),
                    Body::Entry { kind, payload } if kind == expected => {
                        found =
                            decode(payload).map_err(|source| Error::Answer { request, source })?;
                    }
                    Body::Entry { .. } | Body::Done | Body::Noop | Body::Overrun => {}
                }
            }
        }
    }

    /// Sends a request that is answered by a list, until it did not change while it was read.
    fn list<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl Fn(&[u8]) -> Result<Option<A>, DecodeError>,
    ) -> Result<Vec<A>, Error> {
        for _ in 0..LIST_ATTEMPTS {
            self.send(request)?;
            if let Some(list) = self.read_list(request, &decode)? {
                return Ok(list);
            }
        }
        Err(Error::Unsteady { request: request.name() })
    }

    /// Reads a list; `None` if it changed meanwhile, or a part of it was lost.
    fn read_list<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl Fn(&[u8]) -> Result<Option<A>, DecodeError>,
    ) -> Result<Option<Vec<A>>, Error> {
        let (expected, request) = (request.answer(), request.name());
        let (mut list, mut whole) = (Vec::new(), true);
        loop {
            match self.receive() {
                Ok(()) => {}
                // What is left of this list is told from the next one by its sequence number.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Ok(None);
                }
                Err(source) => return Err(Error::Socket { request, source }),
            }
            for message in Messages::new(&self.answer) {
                let message = message.map_err(|source| Error::Answer { request, source })?;
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= !message.interrupted;
                match message.body {
                    Body::Entry { kind, payload } if kind == expected => {
                        let entry =
                            decode(payload).map_err(|source| Error::Answer { request, source })?;
                        list.extend(entry);
                    }
                    Body::Done | Body::Acknowledged => return Ok(whole.then_some(list)),
                    Body::Failed(errno) => return Err(Error::Refused { request, errno }),
                    Body::Overrun => whole = false,
                    Body::Entry { .. } | Body::Noop => {}
                }
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        self.answer.zeroize();
        self.transport.receive(&mut self.answer)
    }
}

/// Deleting what is not there is no failure.
fn there_was(deleted: Result<(), Error>, none: Errno) -> Result<bool, Error> {
    match deleted {
        Ok(()) => Ok(true),
        Err(Error::Refused { errno, .. }) if errno == none => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
