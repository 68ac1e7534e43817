//! `cargo xtask bench fastdp`: the lab in the virtual machine, whose kernel has all that can carry
//! frames: VXLAN by hand, Open vSwitch with its own daemons, and both engines of ours.
//!
//! Emulated processors are as fast as what else this machine does lets them be, within a factor of
//! two. So the machine's one processor counts its instructions as nanoseconds: rounds differ by a
//! few per cent.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::options::Options;
use super::vswitch;
use crate::demo::release_binary;
use crate::tools::{install, install_packages};
use crate::vm;

/// In the order of the table.
const CONTENDERS: &str =
    "vxlan,openvswitch,weave-datapath-flat,openvswitch-bridged,weave-datapath,weave-fastdp";

/// What a round of a contender takes besides its loads, on an emulated processor.
const SURROUNDINGS: u64 = 480;

/// Loads of a contender in a round, each of which also begins and ends.
const LOADS: u64 = 8;

/// Measures in the machine. Takes the arguments of the lab; what matters there is `--rounds`,
/// `--seconds`, `--only`, `--weave`, `--out`, and `--from` for records of earlier pieces.
pub fn bench(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    if !options.from.is_empty() {
        return super::bench(arguments);
    }
    install_packages()?;
    install(&[vswitch::PACKAGE])?;
    let weave = match &options.weave {
        Some(path) => path.clone(),
        None => release_binary()?,
    };
    let out = vm::shared_folder().join("fastdp");
    std::fs::create_dir_all(&out)?;
    let mut command = vec![text(std::env::current_exe()?)?, "bench".to_owned(), "lab".to_owned()];
    if !arguments.contains(&"--only") {
        command.extend(["--only", CONTENDERS].map(str::to_owned));
    }
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    // Of several the last one counts.
    command.extend(["--weave".to_owned(), text(weave)?, "--out".to_owned(), text(out.clone())?]);
    let contenders = match arguments.contains(&"--only") {
        true => options.contenders.len(),
        false => CONTENDERS.split(',').count(),
    };
    let contenders = u64::try_from(contenders)?;
    let each = SURROUNDINGS + LOADS * (u64::from(options.seconds) + 3);
    let limit = Duration::from_secs(60 + u64::try_from(options.rounds)? * contenders * each);
    let processors = vm::Processors::Counted;
    let status = vm::run(&vm::Options { limit, processors, ..vm::Options::default() }, &command)?;
    ensure!(status == 0, "the lab in the virtual machine: exit status {status}");
    std::fs::create_dir_all(&options.out)?;
    for name in ["lab.json", "lab.md", "lab.svg"] {
        let to = options.out.join(name);
        std::fs::copy(out.join(name), &to).with_context(|| format!("writing {}", to.display()))?;
    }
    println!("these are in {}", options.out.display());
    Ok(())
}

fn text(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{path:?} is no text"))
}
