//! The lab: containers on two hosts, several ways to join them, the same measurements on each.
//!
//! ```text
//!  c1 --- h1 ===(veth, MTU 1500)=== h2 --- c2
//! ```
//!
//! Rounds are interleaved, so that a disturbance of the machine hits every contender; the table shows
//! medians, and ratios to the first contender. Load generator, containers and routers share the processors:
//! the numbers of two real hosts are higher.

mod contender;
mod measure;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use weave_testbed::clean_up_on_signals;

use crate::demo::release_binary;
use crate::tools::root;
use contender::Contender;

const USAGE: &str = "\
usage: cargo xtask bench lab [--rounds N] [--seconds N] [--router PATH] [--json FILE] [CONTENDER...]

  contenders: bridge vxlan sleeve sleeve-encrypted, and with --router other other-encrypted
  --router PATH   another router that takes the same flags
  --json FILE     all single measurements; default target/lab.json";

/// How much is measured.
pub struct Options {
    rounds: usize,
    seconds: u32,
    router: Option<PathBuf>,
    json: PathBuf,
    contenders: Vec<Contender>,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self {
            rounds: 3,
            seconds: 5,
            router: None,
            json: root().join("target/lab.json"),
            contenders: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("{argument} needs a value"));
            match *argument {
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--router" => options.router = Some(PathBuf::from(value()?)),
                "--json" => options.json = PathBuf::from(value()?),
                name => options.contenders.push(Contender::named(name).context(USAGE)?),
            }
        }
        ensure!(options.rounds > 0 && options.seconds > 1, "at least 1 round of 2 seconds");
        if options.contenders.is_empty() {
            options.contenders = Contender::ALL.to_vec();
            options.contenders.retain(|one| options.router.is_some() || !one.is_other());
        }
        if options.router.is_none() && options.contenders.iter().any(|one| one.is_other()) {
            bail!("which other router? {USAGE}");
        }
        Ok(options)
    }
}

/// Measures all contenders and prints the table.
pub fn bench(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    clean_up_on_signals()?;
    let binary = release_binary()?;
    let mut rows = Vec::new();
    for round in 1..=options.rounds {
        for contender in &options.contenders {
            print!("round {round}: {}: ", contender.name());
            let row = contender
                .measure(&binary, options.router.as_deref(), options.seconds)
                .with_context(|| format!("measuring {}", contender.name()))?;
            println!("{:.2} Gbit/s", row.tcp_gigabits);
            rows.push(row);
        }
    }
    std::fs::write(&options.json, table::json(&rows))
        .with_context(|| format!("writing {}", options.json.display()))?;
    print!("\n{}", table::text(&options.contenders, &rows));
    println!("all measurements: {}", options.json.display());
    Ok(())
}
