//! How a command ends when it does not succeed: one line, and a code.

use std::process::ExitCode;

use crate::cli::output;

/// Why a command ends.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was used in a wrong way; nothing was changed.
    Usage(String),
    /// It did not work.
    Failed(String),
}

impl Failure {
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// Tells, and gives the code.
    pub(super) fn exit(self) -> ExitCode {
        let (text, code) = match self {
            Self::Usage(text) => (text, 2),
            Self::Failed(text) => (text, 1),
        };
        output::complain(&format!("weave: {}", text.trim_end()));
        ExitCode::from(code)
    }
}

/// With all its causes on one line.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

impl From<weave_host::HostError> for Failure {
    fn from(error: weave_host::HostError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<crate::http::ClientError> for Failure {
    fn from(error: crate::http::ClientError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<crate::daemon::InstanceError> for Failure {
    fn from(error: crate::daemon::InstanceError) -> Self {
        Self::Failed(error.to_string())
    }
}
