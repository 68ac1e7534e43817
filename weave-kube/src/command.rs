//! `weave kube` and its commands, as the command line has them.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::companion::Companion;
use crate::error::CommandError;
use crate::manifest::Manifest;
use crate::node::{Init, Stay, Uninstall};
use crate::rollback;
use crate::settings::Settings;

/// Runs the router as the pod network of a Kubernetes node, in the foreground.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(after_help = "What it does follows from the environment of its container: see \
                        docs/kubernetes.md.")]
pub struct Kube {
    #[command(subcommand)]
    command: Option<Command>,
    /// Further arguments of the router, as `weave router` takes them.
    #[arg(value_name = "ROUTER-ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    router: Vec<OsString>,
}

/// What else there is to do for a node. Each has a name in [`NAMES`], too.
#[derive(Debug, Subcommand)]
enum Command {
    /// Print what `kubectl apply` makes the pod network from.
    Manifest(Box<Manifest>),
    /// Prepare this node for a router: kernel modules and settings, and the CNI plugin.
    Init(Init),
    /// Take everything off this node that a router left on it.
    Uninstall(Uninstall),
    /// Give the state of the stopped router back to Weave Net 2.x, which is to run here next.
    Rollback,
    /// Do nothing until told to stop.
    #[command(hide = true)]
    Stay(Stay),
}

/// The names of the commands that do not run a router.
const NAMES: &[&str] = &["manifest", "init", "uninstall", "rollback", "stay"];

/// A router to run, and what goes with it.
#[derive(Debug)]
pub struct Launch {
    /// Arguments, as `weave router` takes them.
    pub arguments: Vec<OsString>,
    /// What is to be done before and beside it.
    pub companion: Companion,
}

/// Whether a command line, from the name of the program on, runs the router of a node.
pub fn runs_router(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().skip(1);
    words.any(|word| word == "kube") && !words.next().is_some_and(is_command)
}

fn is_command(word: &OsString) -> bool {
    NAMES.iter().any(|name| word == name)
}

impl Command {
    fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Manifest(command) => command.run(),
            Self::Init(command) => command.run(),
            Self::Uninstall(command) => command.run(),
            Self::Rollback => rollback::run(),
            Self::Stay(command) => command.run(),
        }
    }
}

impl Kube {
    /// Does what it says; `run_router` runs a router until it is told to stop.
    ///
    /// # Errors
    /// The environment or the arguments make no sense, or something failed.
    pub fn run<E: From<CommandError>>(
        self,
        run_router: impl FnOnce(Launch) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.command {
            Some(command) => Ok(command.run()?),
            None => {
                let settings = Settings::of_process(self.router)?;
                let arguments = settings.arguments().to_vec();
                run_router(Launch { arguments, companion: Companion::new(settings) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};

    use super::*;

    fn router_of(line: &str) -> Vec<OsString> {
        let command = Kube::augment_args(Command::new("kube"));
        let matches = command.try_get_matches_from(line.split(' ')).unwrap();
        Kube::from_arg_matches(&matches).unwrap().router
    }

    #[test]
    fn what_is_no_command_is_for_the_router() {
        Kube::augment_args(Command::new("kube")).debug_assert();
        assert_eq!(router_of("kube"), Vec::<OsString>::new());
        assert_eq!(
            router_of("kube --log-level=debug 192.0.2.1"),
            ["--log-level=debug", "192.0.2.1"]
        );
        let line =
            |line: &str| runs_router(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(line("weave kube") && line("weave --local kube --log-level=debug"));
        assert!(!line("weave router host"));
        let command = Kube::augment_args(Command::new("kube"));
        let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(names, NAMES);
        assert!(names.iter().all(|name| !line(&format!("weave kube {name}"))));
    }
}
