//! What a caller of `cargo xtask image` can choose.

use std::path::PathBuf;

use super::USAGE;
use crate::usage::Usage;

/// A machine that the image is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// `amd64`.
    X86_64,
    /// `arm64`.
    Aarch64,
}

impl Target {
    const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// Returns the target of rustc.
    pub const fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Returns the name that OCI and Debian have for it.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Returns Debian's folder of libraries, in `/usr/lib`.
    pub const fn libraries(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Aarch64 => "aarch64-linux-gnu",
        }
    }

    /// Whether its programs run here.
    pub fn is_native(self) -> bool {
        Self::native() == Some(self)
    }

    fn native() -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.triple().starts_with(std::env::consts::ARCH))
    }
}

/// What to make from what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The machine.
    pub target: Target,
    /// The Debian system of that machine whose nft and iptables go into the image.
    pub root: PathBuf,
    /// Where the binaries are, if they are not to be built.
    pub binaries: Option<PathBuf>,
    /// Where the archive goes.
    pub output: Option<PathBuf>,
}

/// Reads the arguments.
pub fn parse(arguments: &[&str]) -> Result<Options, Usage> {
    let usage = |text: String| Usage(format!("{text}; {USAGE}"));
    let (mut target, mut root, mut binaries, mut output) = (Target::native(), None, None, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            let value = words.next().filter(|value| !value.is_empty());
            value.copied().ok_or_else(|| usage(format!("{word} wants a value")))
        };
        match *word {
            "--target" => {
                let triple = value()?;
                let known = Target::ALL.into_iter().find(|known| known.triple() == triple);
                let targets = Target::ALL.map(Target::triple).join(" and ");
                target =
                    Some(known.ok_or_else(|| {
                        usage(format!("no target {triple}: there are {targets}"))
                    })?);
            }
            "--root" => root = Some(PathBuf::from(value()?)),
            "--binaries" => binaries = Some(PathBuf::from(value()?)),
            "-o" | "--output" => output = Some(PathBuf::from(value()?)),
            _ => return Err(usage(format!("no option `{word}`"))),
        }
    }
    let target = target.ok_or_else(|| usage("say for which machine with --target".to_owned()))?;
    if root.is_none() && !target.is_native() {
        return Err(usage(format!(
            "nft and iptables of {} are not on this machine: name a Debian root of it with --root",
            target.architecture()
        )));
    }
    Ok(Options { target, root: root.unwrap_or_else(|| "/".into()), binaries, output })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_of_this_machine() {
        let options = parse(&["-o", "/tmp/x.tar", "--binaries", "/b"]).unwrap();
        assert!(options.target.is_native());
        assert_eq!(options.root, PathBuf::from("/"));
        assert_eq!(options.output, Some("/tmp/x.tar".into()));
        let other = Target::ALL.into_iter().find(|target| !target.is_native()).unwrap();
        for (arguments, reason) in [
            (&["--target", "riscv"][..], "no target riscv"),
            (&["--target", other.triple()], "--root"),
            (&["-o"], "-o wants a value"),
            (&["--push"], "no option `--push`"),
        ] {
            let Usage(text) = parse(arguments).unwrap_err();
            assert!(text.contains(reason) && text.contains(USAGE), "{text}");
        }
        let options = parse(&["--target", other.triple(), "--root", "/arm"]).unwrap();
        assert_eq!((options.target, options.root), (other, "/arm".into()));
    }
}
