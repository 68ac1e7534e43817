//! What the project does to itself. `cargo xtask` lists the tasks.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

mod bench;
mod check;
mod circles;
mod cluster;
mod demo;
mod fuzz;
mod image;
mod no_io;
mod public_api;
mod retried;
mod soak;
mod steps;
mod tools;
mod usage;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use usage::Usage;

const USAGE: &str = "\
usage: cargo xtask TASK

  test                       everything a change has to pass; needs root, less than an hour
  demo                       three hosts and two containers on this machine, with traffic; needs root
  image [ARG...]             the image for Kubernetes, an OCI archive in target/ (docs/kubernetes.md)
  bench lab [ARG...]         this and other overlays side by side (benches/lab/README.md); needs root
  bench fastdp [ARG...]      the same in a virtual machine, for all that the kernel carries by itself
  bench peers [ARG...]       one router with 50 neighbours, frames carried by the kernel; needs root
  bench rollout [--weave PATH]  how long a stream stands still while a router is replaced; needs root
  bench cni [ARG...]         how long a container waits for its network; needs root
  bench ipam [ARG...]        addresses from a router, and from its peer; needs root
  bench limits               what the system calls of a path through user space cost; needs root
  bench micro [ARG...]       the benchmarks of the crates
  api [--write]              fails when docs/api is not what the crates offer (a part of test), or writes it
  circles                    fails when modules of a crate import each other (a part of test)
  no-io                      proves that weave-core alone does no I/O (a part of test)
  vm run [ARG...] -- COMMAND a command in a virtual machine with a full Debian kernel (CONTRIBUTING.md)
  vm test [ARG...]           the tests that need such a kernel (a part of test)
  vm soak [--minutes N]      streams over a path that loses and reorders, in that machine (10 minutes)
  cluster up [ARG...]        a real Kubernetes whose nodes are namespaces (CONTRIBUTING.md); needs root
  cluster down [--name NAME] the end of it
  cluster run [ARG...] -- COMMAND
                             a command that finds it by KUBECONFIG; starts one for it if none is up
  soak [--seeds N] [--from S] many routers in virtual time, some of which lie: a story for each of N seeds
                             (2000) from S (0) on, those that break an invariant with their last lies
  soak --seed K              one of the stories again
  fuzz [TARGET [SECONDS]]    fuzzes one target, or each in turn (20 seconds)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        ["test"] => check::all().map(code),
        ["demo"] => demo::demo().map(|()| ExitCode::SUCCESS),
        ["image", rest @ ..] => image::image(rest).map(|()| ExitCode::SUCCESS),
        ["bench", rest @ ..] => bench::bench(rest).map(|()| ExitCode::SUCCESS),
        ["api"] => public_api::check(false).map(|_| ExitCode::SUCCESS),
        ["api", "--write"] => public_api::check(true).map(|_| ExitCode::SUCCESS),
        ["circles"] => circles::check().map(|()| ExitCode::SUCCESS),
        ["no-io"] => no_io::prove().map(|()| ExitCode::SUCCESS),
        ["vm", rest @ ..] => vm::vm(rest),
        ["cluster", rest @ ..] => cluster::cluster(rest),
        ["soak", rest @ ..] => soak::run_arguments(rest),
        ["fuzz", rest @ ..] => fuzz::run_arguments(rest).map(code),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            let task = arguments.join(" ");
            Err(Usage(format!("no task `{task}`; cargo xtask lists what there is")).into())
        }
    }
}

fn code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
