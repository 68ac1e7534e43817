//! Errors: the operation, and whose fault it was.

use std::io;

use weave_netlink::{DecodeError, Errno};

use crate::operation::Operation;

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}: {cause}")]
pub struct Error {
    /// What was asked for.
    pub operation: Operation,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// Reasons why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The kernel refused it.
    #[error("{} ({_0:?})", _0.desc())]
    Refused(Errno),
    /// The caller asked for what cannot be said, such as a gateway of another family than the
    /// destination.
    #[error("{0}")]
    Misuse(&'static str),
    /// The socket failed.
    #[error("the netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// The answer cannot be decoded.
    #[error("the answer: {0}")]
    Answer(#[source] DecodeError),
    /// The list changed during each attempt to read it.
    #[error("the list changed during each of {attempts} attempts")]
    Interrupted {
        /// Number of attempts.
        attempts: u32,
    },
    /// Another failure of the exchange with the kernel.
    #[error(transparent)]
    Exchange(weave_netlink::Error),
}

impl Error {
    pub(crate) fn new(operation: Operation, error: weave_netlink::Error) -> Self {
        let cause = match error {
            weave_netlink::Error::Refused { errno, .. } => Cause::Refused(errno),
            weave_netlink::Error::Socket { source, .. } => Cause::Socket(source),
            weave_netlink::Error::Answer { source, .. } => Cause::Answer(source),
            weave_netlink::Error::Interrupted { attempts, .. } => Cause::Interrupted { attempts },
            other => Cause::Exchange(other),
        };
        Self { operation, cause }
    }

    /// Returns the kernel's reason if the kernel refused the operation.
    pub const fn errno(&self) -> Option<Errno> {
        match self.cause {
            Cause::Refused(errno) => Some(errno),
            _ => None,
        }
    }
}

impl From<Cause> for io::Error {
    /// Keeps the kernel's own reason, which callers compare.
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Refused(errno) => errno.into(),
            Cause::Socket(source) => source,
            other => Self::other(other),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        error.cause.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_operation_and_interface() {
        let operation =
            Operation::CreateVeth { name: "vethwepl1".to_owned(), peer: "vethwepg1".to_owned() };
        let refused = weave_netlink::Error::Refused { request: "", errno: Errno::EEXIST };
        let error = Error::new(operation, refused);
        assert_eq!(
            error.to_string(),
            "cannot create veth pair vethwepl1, vethwepg1: File exists (EEXIST)"
        );
        assert_eq!(error.errno(), Some(Errno::EEXIST));
        assert_eq!(io::Error::from(error).raw_os_error(), Some(Errno::EEXIST as i32));
    }
}
