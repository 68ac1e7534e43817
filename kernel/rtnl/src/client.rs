//! One socket, and the ways in which requests are answered.

use std::fmt;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::RouteNetlinkMessage;
use weave_netlink::{Answer, DecodeError, Exchange, Protocol, Socket, Transport};

use crate::error::{Cause, Error};
use crate::message::{decode, encode};
use crate::operation::Operation;

/// The name of requests in errors of the exchange, which are replaced by the operation.
const REQUEST: &str = "ask the routing socket";

/// A routing socket in the network namespace of the thread that opened it.
pub struct Client<T = Socket>(Exchange<T>);

impl<T> fmt::Debug for Client<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// Fails if the kernel has no sockets left, or no netlink.
    pub fn open() -> Result<Self, Error> {
        Socket::open(Protocol::Route)
            .map(Self::new)
            .map_err(|error| Error { operation: Operation::Open, cause: Cause::Socket(error) })
    }
}

impl Client {
    /// The same, on a socket on which the kernel reads all of a request for a list, which
    /// [`Client::addresses_in`] needs; `None` if it cannot do that (before Linux 4.20).
    ///
    /// # Errors
    /// Fails if the kernel has no sockets left, or no netlink.
    pub fn open_strict() -> Result<Option<Self>, Error> {
        let failed = |error| Error { operation: Operation::Open, cause: Cause::Socket(error) };
        let socket = Socket::open(Protocol::Route).map_err(failed)?;
        Ok(socket.check_strictly().is_ok().then(|| Self::new(socket)))
    }
}

impl<T: Transport> Client<T> {
    /// Creates a client over a transport, such as a scripted kernel.
    pub const fn new(transport: T) -> Self {
        Self(Exchange::new(transport))
    }

    /// Sends a request and waits for its acknowledgement.
    pub(crate) fn execute(
        &mut self,
        operation: impl FnOnce() -> Operation,
        message: &RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), Error> {
        self.query(operation, message, flags).map(drop)
    }

    /// Sends a request and returns the message before its acknowledgement.
    pub(crate) fn query(
        &mut self,
        operation: impl FnOnce() -> Operation,
        message: &RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Option<RouteNetlinkMessage>, Error> {
        let mut found = None;
        let sent = self.0.send(REQUEST, encode(message, flags | NLM_F_ACK));
        sent.and_then(|()| {
            self.0.wait_for(REQUEST, |answer| match answer {
                Answer::Acknowledged => Ok(Some(found.take())),
                Answer::Entry { kind, payload } => {
                    let what = "answer of the routing socket";
                    let unknown = DecodeError::Unknown { what, kind, offset: 0 };
                    found = Some(decode(kind, payload).ok_or(unknown)?);
                    Ok(None)
                }
            })
        })
        .map_err(|error| Error::new(operation(), error))
    }

    /// Sends a request for a list and returns the entries that `each` converts. Entries that
    /// cannot be decoded, as newer kernels may have them, are left out.
    pub(crate) fn list<A>(
        &mut self,
        operation: Operation,
        message: &RouteNetlinkMessage,
        each: impl Fn(RouteNetlinkMessage) -> Option<A>,
    ) -> Result<Vec<A>, Error> {
        let entry = |kind, payload: &[u8]| Ok(decode(kind, payload).and_then(&each));
        let list = self.0.list(REQUEST, encode(message, NLM_F_DUMP), entry);
        list.map_err(|error| Error::new(operation, error))
    }
}

/// Turns one of the kernel's refusals into `false`: what was asked for is so already.
pub(crate) fn unless(
    errno: weave_netlink::Errno,
    result: Result<(), Error>,
) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(errno) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use weave_netlink::Errno;
    use weave_netlink::script::{Reply, Script};

    use super::*;

    #[test]
    fn a_missing_interface_is_none_and_a_refusal_names_the_operation() {
        let mut client = Client::new(Script::new([
            vec![Reply::refused(Errno::ENODEV)],
            vec![Reply::refused(Errno::EPERM)],
            vec![Reply::refused(Errno::EPERM)],
        ]));
        assert_eq!(client.link_by_name("eth7").unwrap(), None);
        let error = client.link_by_name("eth7").unwrap_err().to_string();
        assert_eq!(error, "cannot look for interface eth7: Operation not permitted (EPERM)");
        let error = client.create_bridge("br0").unwrap_err().to_string();
        assert_eq!(error, "cannot create bridge br0: Operation not permitted (EPERM)");
    }

    #[test]
    fn an_answer_that_cannot_be_decoded_is_an_error_and_an_entry_is_left_out() {
        let short = || Reply::message(16, &[0; 3]);
        let mut client = Client::new(Script::new([
            vec![short(), Reply::acknowledged()],
            vec![short(), Reply::done()],
        ]));
        let error = client.link_by_name("eth7").unwrap_err();
        assert!(matches!(error.cause, Cause::Answer(_)), "{error}");
        assert_eq!(client.links().unwrap(), []);
    }
}
