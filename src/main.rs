//! The `weave` command: the router of a virtual Ethernet switch, and the commands to run it.

mod bool_flag;
mod cli;
mod daemon;
mod http;
mod ipam;
mod log;
mod secret;
mod state;
mod status;
mod sys;
mod template;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect())
}
