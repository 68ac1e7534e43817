//! Errors, divided by whose fault they are.

/// Reasons why a firewall does not have the rules that it should have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirewallError {
    /// A program of the host is missing.
    #[error("there is no program {program} on this host")]
    NoProgram {
        /// Its name.
        program: &'static str,
    },
    /// A program of the host failed.
    #[error("`{line}`: {complaint}")]
    Program {
        /// What was run.
        line: String,
        /// What it said.
        complaint: String,
    },
    /// Rules are not found after they were made.
    #[error(
        "rules of the firewall are shown in another form than they were made, or somebody removes \
         them at once: {rules}"
    )]
    Rules {
        /// What is not found.
        rules: String,
    },
    /// A program printed what cannot be read.
    #[error("`{program}` printed {text:?} instead of {expected}")]
    Output {
        /// The program.
        program: &'static str,
        /// What it printed.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The caller uses a name, an element or a rule that would be read as something else.
    #[error("{text:?} cannot be {what}")]
    Misuse {
        /// What it was to be.
        what: &'static str,
        /// The text.
        text: String,
    },
}
