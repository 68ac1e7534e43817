//! The command line of the lab.

use std::path::PathBuf;

use super::contender::{CONTENDERS, Contender, Way, named};
use crate::tools::root;
use crate::usage::Usage;

/// How much is measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Measurements of each contender.
    pub rounds: usize,
    /// Length of one load.
    pub seconds: u32,
    /// Per cent of the underlay's packets that are dropped.
    pub loss: f64,
    /// In the order of the table.
    pub contenders: Vec<Contender>,
    /// Another router that takes the flags of ours.
    pub router: Option<PathBuf>,
    /// Our router, instead of building it.
    pub weave: Option<PathBuf>,
    /// Whether missing rivals are installed.
    pub rivals: bool,
    /// Where the results go.
    pub out: PathBuf,
    /// Earlier records to put together and draw again, instead of measuring.
    pub from: Vec<PathBuf>,
}

impl Options {
    /// Reads the arguments.
    pub fn parse(arguments: &[&str]) -> Result<Self, Usage> {
        let mut options = Self {
            rounds: 5,
            seconds: 5,
            loss: 0.0,
            contenders: Vec::new(),
            router: None,
            weave: None,
            rivals: false,
            out: root().join("target/lab"),
            from: Vec::new(),
        };
        let mut only = None;
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments.next().copied().ok_or_else(|| Usage(format!("{argument} needs a value")))
            };
            match *argument {
                "--rounds" => options.rounds = number(argument, value()?, 1, 100)?,
                "--seconds" => options.seconds = number(argument, value()?, 1, 600)?,
                "--loss" => options.loss = percent(value()?)?,
                "--only" => only = Some(value()?),
                "--router" => options.router = Some(file(argument, value()?)?),
                "--weave" => options.weave = Some(file(argument, value()?)?),
                "--rivals" => options.rivals = true,
                "--out" => options.out = value()?.into(),
                "--from" => options.from.push(file(argument, value()?)?),
                other => {
                    return Err(Usage(format!(
                        "unknown argument {other} of bench lab; see benches/lab/README.md"
                    )));
                }
            }
        }
        options.contenders = match only {
            Some(names) => chosen(names)?,
            None => CONTENDERS.to_vec(),
        };
        if options.router.is_none() {
            if only.is_some() && options.contenders.iter().any(|one| one.way == Way::Other) {
                return Err(Usage("other and other-sealed need --router PATH".to_owned()));
            }
            options.contenders.retain(|one| one.way != Way::Other);
        }
        Ok(options)
    }
}

fn chosen(names: &str) -> Result<Vec<Contender>, Usage> {
    let unknown = |name: &str| {
        let known: Vec<_> = CONTENDERS.iter().map(|one| one.name).collect();
        Usage(format!("no contender `{name}`; there are {}", known.join(" ")))
    };
    names.split(',').map(|name| named(name).ok_or_else(|| unknown(name))).collect()
}

fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    argument: &str,
    text: &str,
    least: T,
    most: T,
) -> Result<T, Usage> {
    match text.parse() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(Usage(format!("{argument} takes a number from {least} to {most}, not `{text}`"))),
    }
}

fn percent(text: &str) -> Result<f64, Usage> {
    match text.parse() {
        Ok(percent) if (0.0..=50.0).contains(&percent) => Ok(percent),
        _ => Err(Usage(format!("--loss takes per cent from 0 to 50, not `{text}`"))),
    }
}

fn file(argument: &str, text: &str) -> Result<PathBuf, Usage> {
    // Routers are started in other directories.
    match std::path::absolute(text) {
        Ok(path) if path.is_file() => Ok(path),
        _ => Err(Usage(format!("{argument}: there is no file {text}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_contenders_but_other_routers_by_default() {
        let options = Options::parse(&[]).expect("nothing is needed");
        assert!(options.contenders.iter().all(|one| one.way != Way::Other));
        assert_eq!(options.contenders.len(), CONTENDERS.len() - 2);
        let options = Options::parse(&["--router", "Cargo.toml"]).expect("a file");
        assert_eq!(options.contenders, CONTENDERS);
    }

    #[test]
    fn options_are_read() {
        let arguments =
            ["--rounds", "2", "--seconds", "9", "--loss", "0.1", "--only", "tinc,bridge"];
        let options = Options::parse(&arguments).expect("good usage");
        assert_eq!((options.rounds, options.seconds, options.loss), (2, 9, 0.1));
        let names: Vec<_> = options.contenders.iter().map(|one| one.name).collect();
        assert_eq!(names, ["tinc", "bridge"]);
    }

    #[test]
    fn bad_usage_is_one_line() {
        for arguments in [
            &["--rounds"][..],
            &["--rounds", "0"],
            &["--seconds", "x"],
            &["--loss", "-1"],
            &["--loss", "NaN"],
            &["--only", "nobody"],
            &["--only", ""],
            &["--only", "other"],
            &["--router", "/does/not/exist"],
            &["--frobnicate"],
            &["bridge"],
        ] {
            let Usage(text) = Options::parse(arguments).expect_err("bad usage");
            assert!(!text.is_empty() && !text.contains('\n'), "{arguments:?}: {text}");
        }
    }
}
