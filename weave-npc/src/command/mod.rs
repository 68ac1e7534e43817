//! `weave npc` and its commands, as the command line has them.

mod check;
mod objects;
mod run;
mod show;
mod target;
mod why;

use clap::{Args, Subcommand};

use run::Run;

/// Enforces NetworkPolicies for the pods of this node, in the foreground.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(
    after_help = "Needs the API server (in a pod, or by KUBECONFIG) and nft. See docs/policy.md."
)]
pub struct Npc {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

/// Questions about policies. None changes anything.
#[derive(Debug, Subcommand)]
enum Command {
    /// Tell what becomes of a connection, and which policy and rule decides.
    Why(why::Why),
    /// Show which policies isolate a pod, and what they allow.
    Show(show::Show),
    /// Tell what policies in files would change, before they are applied.
    Check(check::Check),
}

/// Why a command ends.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// It was used in a wrong way; nothing was changed.
    #[error("{0}")]
    Usage(String),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> CommandError {
    CommandError::Failed(format!("{what}: {error}"))
}

impl Npc {
    /// Returns the level of the log that is asked for; none if there is nothing to log.
    pub fn log_level(&self) -> Option<&str> {
        self.command.is_none().then_some(self.run.log_level.as_str())
    }

    /// Does what it says, and hands out what is to be printed.
    ///
    /// # Errors
    /// The arguments make no sense, or something failed.
    pub fn run(self, version: &str, print: impl FnOnce(&str)) -> Result<(), CommandError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed("cannot start", &error))?;
        let text = match self.command {
            None => return runtime.block_on(self.run.run(version)),
            Some(Command::Why(command)) => runtime.block_on(command.run()),
            Some(Command::Show(command)) => runtime.block_on(command.run()),
            Some(Command::Check(command)) => runtime.block_on(command.run()),
        };
        print(&text?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command as Line, FromArgMatches as _};

    use super::*;

    fn parse(line: &str) -> Result<Npc, clap::Error> {
        let command = Npc::augment_args(Line::new("npc"));
        Npc::from_arg_matches(&command.try_get_matches_from(line.split(' '))?)
    }

    #[test]
    fn flags_of_the_original_are_taken() {
        Npc::augment_args(Line::new("npc")).debug_assert();
        let npc = parse(
            "npc --metrics-addr=127.0.0.1:1 --log-level=info --allow-mcast=false \
                         --node-name=a --max-list-size=2048 --bridge-port-name=x",
        );
        let npc = npc.unwrap();
        assert_eq!(npc.log_level(), Some("info"));
        assert!(!npc.run.allow_mcast);
        assert!(parse("npc --allow-mcast").unwrap().run.allow_mcast);
        assert!(parse("npc why a/b c/d 80/TCP").unwrap().log_level().is_none());
        for line in
            ["npc --allow-mcast=perhaps", "npc why a/b", "npc --metrics-addr=x", "npc check"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
