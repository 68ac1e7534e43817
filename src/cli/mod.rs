//! The commands (spec cli-http.md, sections 1 to 3).
//!
//! Exit codes: 0; 1 when something failed; 2 for a wrong use, which changes nothing.

mod accept;
mod address_spec;
mod attach;
mod bridge_name;
mod connect;
mod container;
mod detach;
mod expose;
mod failure;
mod forget;
mod hide;
mod host_address;
mod in_use;
mod launch;
mod npc;
mod output;
mod prime;
mod ps;
mod remote;
mod report;
mod reset;
mod rmpeer;
mod rollback;
mod router;
mod setup_cni;
mod state_args;
mod status;
mod stop;
mod targets;
mod unsupported;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::secret::{self, HideError};
use failure::Failure;
use router::Router;

/// A virtual Ethernet switch stretched over many hosts.
#[derive(Debug, Parser)]
#[command(name = "weave", version, disable_help_subcommand = false, args_override_self = true)]
#[command(after_help = "`weave help COMMAND` tells what a command takes.")]
struct Cli {
    /// Accepted for scripts of Weave Net 2.x, which ran in a container without it.
    #[arg(long, global = true, hide = true)]
    local: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the router in the background.
    Launch(launch::Launch),
    /// Run the router in the foreground.
    Router(Router),
    /// Stop the router that was launched.
    Stop(stop::Stop),
    /// Stop the router and remove its bridge, all container interfaces and its stored state.
    Reset(reset::Reset),
    /// Give the stopped router's state back to Weave Net 2.x, which is to run here next.
    Rollback(rollback::Rollback),
    /// Give a container an interface on the switch.
    Attach(attach::Attach),
    /// Take addresses, or the interface, from a container.
    Detach(detach::Detach),
    /// Give the host itself an address on the switch.
    Expose(expose::Expose),
    /// Take addresses on the switch from the host itself.
    Hide(hide::Hide),
    /// List the containers on the switch, and their addresses.
    Ps(ps::Ps),
    /// Wait until addresses can be allocated.
    Prime(prime::Prime),
    /// Take over the addresses of peers that will never come back.
    Rmpeer(rmpeer::Rmpeer),
    /// Give in to peers whose division of the addresses conflicts with ours.
    Accept(accept::Accept),
    /// Connect to further peers.
    Connect(connect::Connect),
    /// Stop connecting to peers.
    Forget(forget::Forget),
    /// Run the router as the pod network of a Kubernetes node.
    Kube(weave_kube::Kube),
    /// Install the CNI plugin, so that container runtimes use the switch.
    SetupCni(setup_cni::SetupCni),
    Npc(weave_npc::Npc),
    /// Show router status.
    Status(status::Status),
    /// Print the full report.
    Report(report::Report),
    /// Tell the version of this program and of the running router.
    Version(version::Version),
    /// One of the original that is not there, or a mistake.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Does what the arguments say; the first is the name of the program.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let arguments = modern_spelling(arguments);
    if let Err(error) = secret::hide_password(&arguments) {
        let text = error.to_string();
        let failure = match error {
            HideError::Empty(_) => Failure::usage(text),
            HideError::Io(_) => Failure::failed(text),
        };
        return failure.exit();
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let result = match cli.command {
        Command::Launch(command) => command.run(&arguments),
        Command::Router(command) => command.run(),
        Command::Stop(command) => command.run(),
        Command::Reset(command) => command.run(),
        Command::Rollback(command) => command.run(),
        Command::Attach(command) => command.run(),
        Command::Detach(command) => command.run(),
        Command::Expose(command) => command.run(),
        Command::Hide(command) => command.run(),
        Command::Ps(command) => command.run(),
        Command::Prime(command) => command.run(),
        Command::Rmpeer(command) => command.run(),
        Command::Accept(command) => command.run(),
        Command::Connect(command) => command.run(),
        Command::Forget(command) => command.run(),
        Command::Kube(command) => command.run(Router::run_in_cluster),
        Command::SetupCni(command) => command.run(),
        Command::Npc(command) => npc::run(command),
        Command::Status(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Version(command) => command.run(),
        Command::Other(words) => {
            unsupported::run(&words.first().map(|word| word.to_string_lossy()).unwrap_or_default())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

/// The script of the original took a few options with one dash.
fn modern_spelling(arguments: Vec<OsString>) -> Vec<OsString> {
    let modern = |argument: OsString| match argument.to_str() {
        Some("-port") => "--port".into(),
        Some("-iprange" | "--iprange") => "--ipalloc-range".into(),
        Some(text) => match text.strip_prefix("-port=") {
            Some(value) => format!("--port={value}").into(),
            None => argument,
        },
        None => argument,
    };
    arguments.into_iter().map(modern).collect()
}

/// Help and version are what was asked for; everything else is one line.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(&error.to_string());
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Failure::usage("say what to do; `weave help` lists the commands").exit()
        }
        _ => Failure::of_arguments(error).exit(),
    }
}

#[cfg(test)]
mod tests;
