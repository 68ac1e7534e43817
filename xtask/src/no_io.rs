//! The proof that `weave-core` without default features does no I/O, reads no clock and draws no
//! random number, in three parts that each see what the others cannot:
//!
//! 1. its dependencies contain no crate whose purpose is I/O;
//! 2. the object code of the library refers to no symbol of the standard library that does I/O
//!    (this sees through macros and whatever a lint was told to allow);
//! 3. a lint with a list of forbidden functions and types of its own finds nothing (this sees
//!    generic functions, which are in no object code before somebody uses them).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tools::{cargo, output, root, run};

/// Crates that open sockets or files, ask the clock, or draw random numbers.
const CRATES: [&str; 12] = [
    "async-io",
    "chrono",
    "getrandom",
    "libc",
    "mio",
    "nix",
    "polling",
    "rand",
    "rustix",
    "socket2",
    "time",
    "tokio",
];

/// Beginnings of demangled names that no symbol the library refers to may contain. The data types
/// of `std::net`, such as socket addresses, are in `core` and not concerned.
const SYMBOLS: [&str; 14] = [
    "std::env::",
    "std::fs::",
    "std::hash::random::",
    "std::io::stdio::",
    "std::net::",
    "std::os::",
    "std::process::",
    "std::random::",
    "std::sys::fs::",
    "std::sys::net::",
    "std::sys::random::",
    "std::thread::",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// What the list above catches though it is no I/O: thread-local storage and the abort on overflow
/// of a reference count, both from the shared pointers that publish a snapshot.
const HARMLESS: [&str; 2] = ["std::process::abort", "std::thread::local::"];

/// Makes the proof; the error says what was found.
pub fn prove() -> Result<()> {
    dependencies()?;
    let library = build()?;
    let symbols = symbols(&library)?;
    // Guards against reading nothing and finding nothing.
    ensure!(
        symbols.iter().any(|symbol| symbol.starts_with("weave_core::")),
        "no symbol of weave-core in {}",
        library.display()
    );
    let found = forbidden(&symbols);
    ensure!(
        found.is_empty(),
        "weave-core refers to what does I/O, reads the clock or is random:\n  {}",
        Vec::from_iter(found).join("\n  ")
    );
    lint()?;
    println!("weave-core without default features: no I/O, no clock, no random source");
    Ok(())
}

fn dependencies() -> Result<()> {
    let line = "tree -p weave-core --no-default-features --edges normal --prefix none --format {p}";
    let tree = output(&mut cargo(line))?;
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let found: Vec<&str> = names.filter(|name| CRATES.contains(name)).collect();
    ensure!(found.is_empty(), "weave-core depends on {}", found.join(", "));
    Ok(())
}

/// Builds the library into a directory of its own and returns its path.
fn build() -> Result<PathBuf> {
    let target = root().join("target/no-io");
    let mut command = cargo("build --quiet -p weave-core --lib --no-default-features");
    run(command.env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("debug/libweave_core.rlib"))
}

/// The demangled names that the object code of a library defines or refers to.
fn symbols(library: &Path) -> Result<Vec<String>> {
    // Not `nm`: with a compiler plugin installed it tries to read the library as something else.
    let arguments = ["--symbols", "--wide", "--demangle"];
    let table = output(Command::new("readelf").args(arguments).arg(library))?;
    Ok(table.lines().map(name).map(str::to_owned).collect())
}

fn forbidden(symbols: &[String]) -> BTreeSet<&str> {
    let contains = |symbol: &str, parts: &[&str]| parts.iter().any(|part| symbol.contains(part));
    symbols
        .iter()
        .map(String::as_str)
        .filter(|symbol| contains(symbol, &SYMBOLS) && !contains(symbol, &HARMLESS))
        .collect()
}

/// The name in a line of the symbol table: all after the seventh column.
fn name(line: &str) -> &str {
    let mut rest = line.trim_start();
    for _ in 0..7 {
        rest = rest.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
    }
    rest
}

/// Runs the lint with the list in `xtask/no-io/clippy.toml`. `forbid` makes an `allow` in the
/// source an error.
fn lint() -> Result<()> {
    let mut command = cargo("clippy --quiet -p weave-core --lib --no-default-features --");
    command.args(["-F", "clippy::disallowed_methods", "-F", "clippy::disallowed_types"]);
    command.env("CLIPPY_CONF_DIR", root().join("xtask/no-io"));
    // A directory of its own, because cargo does not notice that the configuration is another.
    command.env("CARGO_TARGET_DIR", root().join("target/no-io"));
    run(&mut command).context("the lint found a forbidden function or type")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles a library from source text and looks for forbidden symbols.
    fn look(source: &str) -> Result<Vec<String>> {
        let directory = tempfile::tempdir()?;
        let (input, library) =
            (directory.path().join("lib.rs"), directory.path().join("libprobe.rlib"));
        std::fs::write(&input, source)?;
        let mut command = Command::new("rustc");
        command.args(["--edition=2024", "--crate-type=rlib", "--crate-name=probe", "-o"]);
        output(command.arg(&library).arg(&input))?;
        Ok(forbidden(&symbols(&library)?).into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn each_kind_of_violation_is_found() {
        for violation in [
            "std::time::Instant::now()",
            "std::time::SystemTime::now()",
            "std::net::UdpSocket::bind(\"[::]:0\")",
            "std::net::TcpStream::connect(\"[::]:0\")",
            "std::fs::read(\"x\")",
            "std::thread::spawn(|| 1)",
            "std::thread::sleep(std::time::Duration::ZERO)",
            "std::process::Command::new(\"x\")",
            "std::env::var_os(\"x\")",
            "std::hash::RandomState::new()",
            "std::collections::HashMap::<u8, u8>::new()",
            "println!()",
        ] {
            let source = format!("pub fn probe() {{ let _ = {violation}; }}");
            let found = look(&source).expect("the probe is built");
            assert!(!found.is_empty(), "{violation} was not found");
        }
    }

    #[test]
    fn innocent_code_passes() {
        let source = "use std::net::SocketAddr;
            pub fn probe(text: &str) -> Option<(SocketAddr, String)> {
                let address: SocketAddr = text.parse().ok()?;
                let mut map = std::collections::BTreeMap::new();
                map.insert(address.port(), std::time::Duration::from_secs(1));
                Some((address, format!(\"{map:?}\")))
            }";
        assert_eq!(look(source).expect("the probe is built"), Vec::<String>::new());
    }
}
