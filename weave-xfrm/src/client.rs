//! Asking the kernel, and waiting for the answer.

use weave_netlink::{
    Answer, DecodeError, Errno, Error, Exchange, Protocol, Socket, TooLong, Transport,
};

use crate::names::{Mark, Path, Reqid, Spi};
use crate::policy::{Policy, PolicyEntry};
use crate::request::Request;
use crate::state::{State, StateEntry};

/// Makes, lists and deletes states and policies. Each call waits for the kernel, which answers
/// at once.
#[derive(Debug)]
pub struct Client<T: Transport> {
    /// Requests have keys in them, and so have answers: lists of states, and errors, which quote.
    exchange: Exchange<T>,
}

impl<T: Transport> Drop for Client<T> {
    fn drop(&mut self) {
        self.exchange.wipe();
    }
}

impl Client<Socket> {
    /// Opens a socket, for the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel has no IPsec, or no socket to give.
    pub fn open() -> Result<Self, Error> {
        match Socket::open(Protocol::Xfrm) {
            Ok(socket) => Ok(Self::new(socket)),
            Err(error) if error.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32) => {
                Err(Error::NoSupport { what: "IPsec (xfrm_user)" })
            }
            Err(source) => Err(Error::Socket { request: "open a socket for IPsec", source }),
        }
    }
}

impl<T: Transport> Client<T> {
    /// A client that uses this transport.
    pub const fn new(transport: T) -> Self {
        Self { exchange: Exchange::new(transport) }
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

    fn tell(&mut self, request: &Request<'_>) -> Result<(), Error> {
        self.one(request, |_| Ok(None::<()>)).map(drop)
    }

    /// Sends a request and waits for its acknowledgement, which comes after the answer.
    fn one<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl Fn(&[u8]) -> Result<Option<A>, DecodeError>,
    ) -> Result<Option<A>, Error> {
        let (expected, name) = (request.answer(), request.name());
        let mut found = None;
        let told = self.exchange.send(name, encode(request));
        let concluded = told.and_then(|()| {
            self.exchange.conclude(name, |answer| match answer {
                Answer::Acknowledged => Ok(Some(found.take())),
                Answer::Entry { kind, payload } if kind == expected => {
                    found = decode(payload)?;
                    Ok(None)
                }
                Answer::Entry { .. } => Ok(None),
            })
        });
        self.exchange.wipe();
        concluded
    }

    /// Sends a request that is answered by a list.
    fn list<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl Fn(&[u8]) -> Result<Option<A>, DecodeError>,
    ) -> Result<Vec<A>, Error> {
        let expected = request.answer();
        let list = self.exchange.list(request.name(), encode(request), |kind, payload| {
            if kind == expected { decode(payload) } else { Ok(None) }
        });
        self.exchange.wipe();
        list
    }
}

fn encode(request: &Request<'_>) -> impl Fn(u32, &mut Vec<u8>) -> Result<(), TooLong> {
    |sequence, to| {
        request.encode(sequence, to);
        Ok(())
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
