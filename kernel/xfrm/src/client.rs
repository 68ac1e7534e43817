//! A client of the kernel's IPsec.

use weave_netlink::{
    Answer, DecodeError, Errno, Error, Exchange, Protocol, Socket, TooLong, Transport,
};

use crate::identifiers::{Mark, Path, Reqid, Spi};
use crate::policy::{Policy, PolicyEntry};
use crate::request::Request;
use crate::state::{State, StateEntry};

/// A client adds, lists and deletes states and policies. Each call waits for the kernel, which
/// answers at once.
#[derive(Debug)]
pub struct Client<T: Transport> {
    /// Requests contain keys, and so do answers: lists of states, and errors, which quote requests.
    exchange: Exchange<T>,
}

impl<T: Transport> Drop for Client<T> {
    fn drop(&mut self) {
        self.exchange.wipe();
    }
}

impl Client<Socket> {
    /// Opens a client for the network namespace of the calling thread.
    ///
    /// # Errors
    /// Fails if the kernel has no IPsec, or if no socket can be opened.
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
    /// Creates a client over this transport.
    pub const fn new(transport: T) -> Self {
        Self { exchange: Exchange::new(transport) }
    }

    /// Adds a state without a key and returns its SPI; see [`Request::AllocateSpi`].
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn allocate_spi(&mut self, path: Path, reqid: Reqid) -> Result<Spi, Error> {
        let request = Request::AllocateSpi { path, reqid };
        let missing =
            |what| Error::Answer { request: request.name(), source: DecodeError::Missing { what } };
        let state = self.request(&request, StateEntry::decode)?.ok_or_else(|| missing("state"))?;
        state.spi.ok_or_else(|| missing("number of the state"))
    }

    /// Gives its key to a state that [`Self::allocate_spi`] has added; it receives from now on.
    ///
    /// # Errors
    /// Fails with `ESRCH` if the state has expired.
    pub fn update_state(&mut self, state: &State) -> Result<(), Error> {
        self.execute(&Request::UpdateState(state))
    }

    /// Adds a state with a key.
    ///
    /// # Errors
    /// Fails for the reasons given at [`Request::AddState`].
    pub fn add_state(&mut self, state: &State) -> Result<(), Error> {
        self.execute(&Request::AddState(state))
    }

    /// Deletes a state. Returns `false` if there is none.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn delete_state(&mut self, path: Path, spi: Spi) -> Result<bool, Error> {
        existed(self.execute(&Request::DeleteState { path, spi }), Errno::ESRCH)
    }

    /// Lists the states of ESP between IPv4 hosts.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn states(&mut self) -> Result<Vec<StateEntry>, Error> {
        self.list(&Request::States, StateEntry::decode)
    }

    /// Adds a policy, or replaces the one with the same path and mark.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn put_policy(&mut self, policy: &Policy) -> Result<(), Error> {
        self.execute(&Request::PutPolicy(policy))
    }

    /// Looks up a policy for outbound packets.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn policy(&mut self, path: Path, mark: Mark) -> Result<Option<PolicyEntry>, Error> {
        match self.request(&Request::Policy { path, mark }, PolicyEntry::decode) {
            Err(Error::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            answer => answer,
        }
    }

    /// Deletes a policy for outbound packets. Returns `false` if there is none.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn delete_policy(&mut self, path: Path, mark: Mark) -> Result<bool, Error> {
        existed(self.execute(&Request::DeletePolicy { path, mark }), Errno::ENOENT)
    }

    /// Lists the policies between IPv4 addresses.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn policies(&mut self) -> Result<Vec<PolicyEntry>, Error> {
        self.list(&Request::Policies, PolicyEntry::decode)
    }

    fn execute(&mut self, request: &Request<'_>) -> Result<(), Error> {
        self.request(request, |_| Ok(None::<()>)).map(drop)
    }

    /// Sends a request and waits for its acknowledgement, which comes after the answer.
    fn request<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl Fn(&[u8]) -> Result<Option<A>, DecodeError>,
    ) -> Result<Option<A>, Error> {
        let (expected, name) = (request.answer(), request.name());
        let mut found = None;
        let sent = self.exchange.send(name, encode(request));
        let answer = sent.and_then(|()| {
            self.exchange.wait_for(name, |answer| match answer {
                Answer::Acknowledged => Ok(Some(found.take())),
                Answer::Entry { kind, payload } if kind == expected => {
                    found = decode(payload)?;
                    Ok(None)
                }
                Answer::Entry { .. } => Ok(None),
            })
        });
        self.exchange.wipe();
        answer
    }

    /// Sends a request that is answered by a list of entries.
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

/// Maps the error for a missing object to `false`: deleting it is not a failure.
fn existed(deleted: Result<(), Error>, missing: Errno) -> Result<bool, Error> {
    match deleted {
        Ok(()) => Ok(true),
        Err(Error::Refused { errno, .. }) if errno == missing => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
