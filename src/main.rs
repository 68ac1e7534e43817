//! The `weave` command: the router of a virtual Ethernet switch, and the commands to run it.

mod cli;
mod log;
mod secret;
mod serve;

use std::process::ExitCode;

use nix::sys::stat::{Mode, umask};

fn main() -> ExitCode {
    keep_files_from_others();
    keep_expected_panics_quiet();
    cli::main(std::env::args_os().collect())
}

/// Whatever starts this program: nobody else writes to its state, its log or the file with its
/// process id.
fn keep_files_from_others() {
    let others = Mode::S_IWGRP | Mode::S_IWOTH;
    let before = umask(others);
    umask(before | others);
}

/// Damage in the state file is found by a panic of the database that is caught, and told of in
/// better words.
fn keep_expected_panics_quiet() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !weave_node::is_expected_panic() {
            hook(info);
        }
    }));
}
