//! The `weave` command: the router of a virtual Ethernet switch, and the commands to run it.

mod cli;
mod log;
mod secret;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect())
}
