//! Why a node does not start, or ended.

use std::error::Error;
use std::fmt;

use crate::store::StateError;

/// Why a node does not start, or ended by itself. Its text is one line for an operator; the causes
/// follow by [`Error::source`].
pub struct NodeError(anyhow::Error);

impl fmt::Debug for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for NodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl From<anyhow::Error> for NodeError {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

impl From<StateError> for NodeError {
    fn from(error: StateError) -> Self {
        Self(error.into())
    }
}
