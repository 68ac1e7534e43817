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

    /// What is wrong with a command line: the first paragraph says it; usage and hints follow.
    pub(super) fn of_arguments(error: &clap::Error) -> Self {
        let text = error.to_string();
        let first: Vec<_> = text
            .lines()
            .take_while(|line| !line.is_empty())
            .map(|line| line.trim().trim_start_matches("error: "))
            .collect();
        Self::Usage(first.join(" "))
    }

    /// The code of a wrong use.
    pub(super) const USAGE: u8 = 2;

    /// Why, on one line.
    pub(super) fn text(&self) -> String {
        let (Self::Usage(text) | Self::Failed(text)) = self;
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// Tells, and gives the code.
    pub(super) fn exit(self) -> ExitCode {
        output::complain(&format!("weave: {}", self.text()));
        ExitCode::from(match self {
            Self::Usage(_) => Self::USAGE,
            Self::Failed(_) => 1,
        })
    }
}

/// With all its causes, but for those that an error before names already.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let mut text = String::new();
        for cause in error.chain().map(ToString::to_string) {
            if text.is_empty() {
                text = cause;
            } else if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        Self::Failed(text)
    }
}

impl From<weave_host::HostError> for Failure {
    fn from(error: weave_host::HostError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<weave_api::client::ClientError> for Failure {
    fn from(error: weave_api::client::ClientError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<weave_kube::CommandError> for Failure {
    fn from(error: weave_kube::CommandError) -> Self {
        match error {
            weave_kube::CommandError::Usage(text) => Self::Usage(text),
            weave_kube::CommandError::Failed(text) => Self::Failed(text),
        }
    }
}

impl From<weave_node::InstanceError> for Failure {
    fn from(error: weave_node::InstanceError) -> Self {
        Self::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn causes_are_told_once_and_on_one_line() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open x: {source}")]
        struct Both {
            source: std::io::Error,
        }
        let source = std::io::Error::other("no\n");
        let error = Err::<(), _>(Both { source }).context("cannot start").unwrap_err();
        assert_eq!(Failure::from(error).text(), "cannot start: cannot open x: no");
        assert_eq!(Failure::failed("a\n\nb\n").text(), "a; b");
    }
}
