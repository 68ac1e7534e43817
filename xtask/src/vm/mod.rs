//! `cargo xtask vm`: a machine with a full Debian kernel, for what the kernel of this machine may
//! lack.
//!
//! ```text
//!  this machine                        the machine (qemu)
//!  /            --- 9p, read only ---> /           under a layer in memory: what is written there is lost
//!  target/vm/out <------- 9p --------> target/vm/out
//!  stdout, stderr <---- virtio ------- of COMMAND, which has the same folder, environment and paths
//!  exit status  <------ virtio ------- of COMMAND
//! ```
//!
//! It starts in seconds also where there is no hardware virtualisation, and has no network of its
//! own: hosts are namespaces inside.

mod initrd;
mod kernel;
mod machine;
mod options;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

pub use options::{Options, Processors};
pub use test::test;

use crate::tools::{self, root};
use crate::usage::Usage;
use kernel::Kernel;
use machine::Machine;

/// Debian packages without which there is no machine, and one program of each.
const PACKAGES: [(&str, &str); 6] = [
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("busybox-static", "busybox"),
    ("kmod", "modprobe"),
    ("xz-utils", "xz"),
    ("util-linux", "setpriv"),
    ("iproute2", "ip"),
];

/// Why there can be no machine here, if so.
pub const UNSUPPORTED: Option<&str> = if cfg!(target_arch = "x86_64") {
    None
} else {
    Some("the virtual machine has a kernel for x86-64 and this is another architecture")
};

const USAGE: &str = "usage: cargo xtask vm run [--limit SECONDS] [--memory MIB] [--kvm|--counted] -- COMMAND...\n       \
                     cargo xtask vm test [NEXTEST-ARG...]\n       \
                     cargo xtask vm soak [--minutes MINUTES]";

/// Dispatches to the uses of the machine.
pub fn vm(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        ["run", rest @ ..] => {
            let (options, command) = options::parse(rest)?;
            let status = run(&options, &command)?;
            Ok(ExitCode::from(status))
        }
        ["soak", rest @ ..] => test::soak(rest).map(|()| ExitCode::SUCCESS),
        ["test", rest @ ..] => test(rest).map(|()| ExitCode::SUCCESS),
        _ => Err(Usage(USAGE.to_owned()).into()),
    }
}

/// Runs a command in a machine of its own and returns its exit status.
pub fn run(options: &Options, command: &[String]) -> Result<u8> {
    if let Some(reason) = UNSUPPORTED {
        bail!(reason);
    }
    tools::install(&PACKAGES)?;
    let kernel = Kernel::fetched()?;
    Machine::new(&kernel, options, command)?.run()
}

/// Where everything of the machine is kept; `cargo clean` removes it.
fn folder() -> PathBuf {
    root().join("target/vm")
}

/// The one folder in which the machine and this one see what the other writes.
pub fn shared_folder() -> PathBuf {
    folder().join("out")
}
