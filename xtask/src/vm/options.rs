//! What a caller of `cargo xtask vm run` can choose.

use std::time::Duration;

use crate::usage::Usage;

/// What its processors are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Processors {
    /// Emulated, as many as this machine has.
    #[default]
    Emulated,
    /// One emulated processor, whose clock goes on by a nanosecond an instruction and skips idle
    /// time: what is measured by that clock is what it costs in instructions, whatever else this
    /// machine does meanwhile.
    Counted,
    /// Hardware virtualisation instead of emulation. Not found out by trying: there are machines
    /// where `/dev/kvm` can be opened and the first instruction hangs.
    Kvm,
}

/// Size and speed of the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The machine is ended after this.
    pub limit: Duration,
    /// Its memory in MiB; half of it is for files that are written.
    pub memory: u32,
    /// What its processors are.
    pub processors: Processors,
}

impl Default for Options {
    fn default() -> Self {
        Self { limit: Duration::from_secs(300), memory: 4096, processors: Processors::default() }
    }
}

/// Splits the arguments into options and the command.
pub fn parse(arguments: &[&str]) -> Result<(Options, Vec<String>), Usage> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match *word {
            "--limit" => {
                let seconds: u32 = number(word, words.next())?;
                options.limit = Duration::from_secs(seconds.into());
            }
            "--memory" => options.memory = number(word, words.next())?,
            "--kvm" => options.processors = Processors::Kvm,
            "--counted" => options.processors = Processors::Counted,
            "--" => break,
            _ => return Err(Usage(format!("no option `{word}`; {}", super::USAGE))),
        }
    }
    let command: Vec<String> = words.map(|word| (*word).to_owned()).collect();
    if command.is_empty() {
        return Err(Usage(format!("no command; {}", super::USAGE)));
    }
    Ok((options, command))
}

fn number(option: &str, value: Option<&&str>) -> Result<u32, Usage> {
    let value = value.and_then(|value| value.parse().ok()).filter(|value| *value > 0);
    value.ok_or_else(|| Usage(format!("{option} wants a number above 0; {}", super::USAGE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_where_the_command_begins() {
        let (options, command) =
            parse(&["--limit", "20", "--memory", "512", "--", "ip", "--limit"]).unwrap();
        let limit = Duration::from_secs(20);
        let expected = Options { limit, memory: 512, processors: Processors::Emulated };
        assert_eq!(options, expected);
        assert_eq!(command, ["ip", "--limit"]);
        for (word, processors) in [("--kvm", Processors::Kvm), ("--counted", Processors::Counted)] {
            assert_eq!(parse(&[word, "--", "true"]).unwrap().0.processors, processors);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, what) in [
            (&["--limit", "soon", "--", "true"][..], "--limit wants a number"),
            (&["--memory"], "--memory wants a number"),
            (&["true"], "no option `true`"),
            (&["--kvm", "--"], "no command"),
        ] {
            let Usage(text) = parse(arguments).unwrap_err();
            assert!(text.starts_with(what), "{text}");
        }
    }
}
