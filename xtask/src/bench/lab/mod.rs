//! The lab: containers on two hosts, several ways to join them, the same measurements on each.
//!
//! ```text
//!  c1 --- h1 ===(veth, MTU 1500)=== h2 --- c2           with --loss:  h1 === switch that drops === h2
//! ```
//!
//! Rounds are interleaved, so that a disturbance of the machine hits every contender; the table
//! shows medians, and ratios to VXLAN and to another router. Load generator, containers and routers
//! share the processors: the numbers of two real hosts are higher.

mod contender;
mod cost;
mod ends;
mod figure;
mod health;
mod iperf;
mod join;
mod machine;
mod measure;
mod miss;
mod options;
mod picture;
mod ping;
mod proof;
mod record;
mod rival;
mod table;
mod underlay;
mod vswitch;

use std::path::Path;

use anyhow::{Context, Result};
use weave_testbed::{Lab, clean_up_on_signals};

use crate::demo::release_binary;
use crate::tools::{install, install_packages};
use contender::Contender;
use join::Routers;
use options::Options;
use record::{Record, Row};
use underlay::Underlay;

pub use machine::bench as bench_in_machine;

/// Measures all contenders and prints the tables.
pub fn bench(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let record = match options.from.as_slice() {
        [] => measure(&options)?,
        files => Record::read_all(files)?,
    };
    print!("\n{}\n{}\n{}", table::results(&record), table::health(&record), table::misses(&record));
    for problem in record.problems() {
        println!("{problem}");
    }
    write(&options.out, &record)
}

fn measure(options: &Options) -> Result<Record> {
    clean_up_on_signals()?;
    install_packages()?;
    if options.loss > 0.0 {
        install(&[("nftables", "nft")])?;
    }
    if options.rivals {
        rival::install()?;
    }
    let weave = match &options.weave {
        Some(path) => path.clone(),
        None => release_binary()?,
    };
    let routers = Routers { weave: &weave, other: options.router.as_deref() };
    let mut record = Record::new(options.seconds, options.loss);
    let contenders = record.admit(&options.contenders, &weave);
    for round in 1..=options.rounds {
        for contender in &contenders {
            println!("round {round} of {}: {}", options.rounds, contender.name);
            let row = one(contender, routers, options).unwrap_or_else(|error| {
                let mut row = Row::new(contender.name);
                row.problems.push(format!("{error:#}"));
                row
            });
            println!("  {}", table::line(&row));
            record.rows.push(row);
        }
    }
    Ok(record)
}

/// Builds the two hosts, joins them, measures, removes everything.
fn one(contender: &Contender, routers: Routers<'_>, options: &Options) -> Result<Row> {
    let lab = Lab::new(routers.weave)?;
    let hosts = lab.hosts()?;
    let underlay = Underlay::new(&lab, &hosts, options.loss)?;
    let joined = join::join(contender, &lab, &hosts, &underlay, routers)?;
    let row = measure::row(contender, &lab, &hosts, &underlay, &joined, options.seconds)?;
    drop(joined);
    lab.finish()?;
    Ok(row)
}

fn write(directory: &Path, record: &Record) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("making {}", directory.display()))?;
    for (name, text) in [
        ("lab.json", record.to_json()),
        ("lab.md", table::document(record)),
        ("lab.svg", picture::draw(record)),
    ] {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("written: lab.json, lab.md, lab.svg in {}", directory.display());
    Ok(())
}
