//! Why a node does not start, or ended.

use std::error::Error;
use std::{fmt, io};

use crate::store::StateError;

/// Why a node does not start, or ended by itself. Its text is one line for an operator; the causes
/// follow by [`Error::source`].
pub struct NodeError {
    kind: NodeErrorKind,
    error: anyhow::Error,
}

/// Whose fault an error is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NodeErrorKind {
    /// The program that embeds the node asked for what cannot be: it has to ask for something else.
    Misuse,
    /// An address is taken, most likely by another node.
    InUse,
    /// The stored state is damaged, of a newer version, or cannot be written.
    State,
    /// The host lacks something, or refuses it.
    Host,
    /// The node is stopping, or has stopped.
    Stopped,
}

impl NodeError {
    pub(crate) fn misuse(text: impl Into<String>) -> Self {
        Self { kind: NodeErrorKind::Misuse, error: anyhow::Error::msg(text.into()) }
    }

    pub(crate) fn stopped(error: impl Error + Send + Sync + 'static) -> Self {
        Self { kind: NodeErrorKind::Stopped, error: error.into() }
    }

    /// Returns whose fault it is.
    pub const fn kind(&self) -> NodeErrorKind {
        self.kind
    }
}

impl fmt::Debug for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:#}", self.kind, self.error)
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for NodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl From<anyhow::Error> for NodeError {
    fn from(error: anyhow::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(error) => return error,
            Err(error) => error,
        };
        let is_taken = |cause: &io::Error| cause.kind() == io::ErrorKind::AddrInUse;
        let kind = if error.chain().any(|cause| cause.is::<StateError>()) {
            NodeErrorKind::State
        } else if error.chain().filter_map(|cause| cause.downcast_ref()).any(is_taken) {
            NodeErrorKind::InUse
        } else {
            NodeErrorKind::Host
        };
        Self { kind, error }
    }
}

impl From<StateError> for NodeError {
    fn from(error: StateError) -> Self {
        anyhow::Error::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn errors_are_told_apart_by_whose_fault_they_are() {
        let taken = Err::<(), _>(io::Error::from(io::ErrorKind::AddrInUse));
        let taken = taken.context("cannot listen on UDP 127.0.0.1:6783").unwrap_err();
        assert_eq!(NodeError::from(taken).kind(), NodeErrorKind::InUse);
        let kernel = anyhow!("no module tun");
        assert_eq!(NodeError::from(kernel).kind(), NodeErrorKind::Host);
        let misuse = NodeError::misuse("two bridges");
        assert_eq!(NodeError::from(anyhow::Error::from(misuse)).kind(), NodeErrorKind::Misuse);
    }
}
