//! Errors, divided by whose fault they are: bytes that cannot be decoded, requests that cannot be
//! encoded, and requests that failed.

use std::io;

use nix::errno::Errno;

/// Reasons why bytes from the kernel cannot be decoded. Offsets count from the first byte of the
/// message or structure that was being decoded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Too few bytes are left for a part of fixed length.
    #[error("{what} at offset {offset} needs {needed} bytes, but {left} are left")]
    Short {
        /// The part that was being read.
        what: &'static str,
        /// Offset at which the part starts.
        offset: usize,
        /// Length of the part in bytes.
        needed: usize,
        /// Number of bytes that are left.
        left: usize,
    },
    /// An attribute claims to be longer than the bytes that are left, or shorter than its header.
    #[error("an attribute at offset {offset} claims {length} bytes, but {left} are left")]
    Attribute {
        /// Offset at which the attribute starts.
        offset: usize,
        /// Length that the attribute claims, in bytes.
        length: usize,
        /// Number of bytes that are left.
        left: usize,
    },
    /// A value has the wrong length.
    #[error("{what} at offset {offset} has {length} bytes instead of {expected}")]
    Length {
        /// Name of the value.
        what: &'static str,
        /// Offset at which the value starts.
        offset: usize,
        /// Length that the value must have, in bytes.
        expected: usize,
        /// Length that the value has.
        length: usize,
    },
    /// A text is not UTF-8.
    #[error("{what} at offset {offset} is not UTF-8")]
    Text {
        /// Name of the text.
        what: &'static str,
        /// Offset at which the text starts.
        offset: usize,
    },
    /// A mandatory attribute is missing.
    #[error("there is no {what}")]
    Missing {
        /// Name of the attribute.
        what: &'static str,
    },
    /// The decoder does not know the type of an element.
    #[error("an unknown {what} of type {kind} at offset {offset}")]
    Unknown {
        /// The kind of element.
        what: &'static str,
        /// Type of the element.
        kind: u16,
        /// Offset at which the value of the element starts.
        offset: usize,
    },
}

/// A value is too long for an attribute, whose length is a 16-bit number, or a request is too long
/// for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{length} bytes do not fit into an attribute")]
pub struct TooLong {
    /// Length of the value in bytes.
    pub length: usize,
}

/// Reasons why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel does not support the protocol, or a module is missing.
    #[error("this kernel has no {what}")]
    NoSupport {
        /// The missing protocol or module.
        what: &'static str,
    },
    /// The kernel refused the request.
    #[error("cannot {request}: {} ({errno:?})", errno.desc())]
    Refused {
        /// Name of the request.
        request: &'static str,
        /// Reason given by the kernel.
        errno: Errno,
    },
    /// The socket failed.
    #[error("cannot {request}: the netlink socket: {source}")]
    Socket {
        /// Name of the request.
        request: &'static str,
        /// Error of the socket.
        source: io::Error,
    },
    /// The answer cannot be decoded.
    #[error("cannot {request}: the answer: {source}")]
    Answer {
        /// Name of the request.
        request: &'static str,
        /// Reason why the answer cannot be decoded.
        source: DecodeError,
    },
    /// The request does not fit into a message.
    #[error("cannot {request}: {source}")]
    TooLong {
        /// Name of the request.
        request: &'static str,
        /// The value that does not fit.
        source: TooLong,
    },
    /// The listed objects changed during each attempt to read the list.
    #[error("cannot {request}: the list changed during each of {attempts} attempts")]
    Interrupted {
        /// Name of the request.
        request: &'static str,
        /// Number of attempts to read the list.
        attempts: u32,
    },
}

impl Error {
    /// Returns the kernel's reason if the kernel refused the request.
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}
