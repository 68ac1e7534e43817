//! What can be wrong with bytes, and why requests bring no answer.

use std::io;

use nix::errno::Errno;

use crate::exchange::LIST_ATTEMPTS;

/// Why bytes from the kernel are not what they should be. Offsets count from the first byte of
/// what was being decoded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is not enough for a fixed part.
    #[error("{what} at offset {offset} needs {needed} bytes, but {left} are left")]
    Short {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        offset: usize,
        /// Its length in bytes.
        needed: usize,
        /// How many bytes there are.
        left: usize,
    },
    /// An attribute that says it is longer than what is left, or shorter than its own header.
    #[error("an attribute at offset {offset} says it has {length} bytes, of {left}")]
    Attribute {
        /// Where it starts.
        offset: usize,
        /// Its length in bytes, as it says.
        length: usize,
        /// How many bytes there are.
        left: usize,
    },
    /// A value of the wrong length.
    #[error("{what} at offset {offset} has {length} bytes instead of {expected}")]
    Length {
        /// Which value.
        what: &'static str,
        /// Where it starts.
        offset: usize,
        /// The length it must have, in bytes.
        expected: usize,
        /// The length it has.
        length: usize,
    },
    /// A name that is not UTF-8.
    #[error("{what} at offset {offset} is no text")]
    Text {
        /// Which name.
        what: &'static str,
        /// Where it starts.
        offset: usize,
    },
    /// An attribute without which the rest makes no sense.
    #[error("there is no {what}")]
    Missing {
        /// Which.
        what: &'static str,
    },
    /// Something of a kind that the decoder does not know.
    #[error("an unknown {what} of type {kind} at offset {offset}")]
    Unknown {
        /// What it is one of.
        what: &'static str,
        /// Its type.
        kind: u16,
        /// Where its value starts.
        offset: usize,
    },
}

/// A value does not fit into an attribute, whose length is a 16-bit number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{length} bytes do not fit into an attribute")]
pub struct TooLong {
    /// How long it is, in bytes.
    pub length: usize,
}

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel does not speak the protocol, or a module of it is missing.
    #[error("this kernel has no {what}")]
    NoSupport {
        /// What it lacks.
        what: &'static str,
    },
    /// The kernel refused.
    #[error("cannot {request}: {} ({errno:?})", errno.desc())]
    Refused {
        /// What was tried.
        request: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The socket failed.
    #[error("cannot {request}: the netlink socket: {source}")]
    Socket {
        /// What was tried.
        request: &'static str,
        /// How.
        source: io::Error,
    },
    /// The answer makes no sense.
    #[error("cannot {request}: the answer: {source}")]
    Answer {
        /// What was asked.
        request: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The request does not fit into a message.
    #[error("cannot {request}: {source}")]
    TooLong {
        /// What was tried.
        request: &'static str,
        /// What does not fit.
        source: TooLong,
    },
    /// What was to be listed changed each time while it was read.
    #[error("cannot {request}: it still changes after {LIST_ATTEMPTS} attempts")]
    Unsteady {
        /// What was asked.
        request: &'static str,
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
