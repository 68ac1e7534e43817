//! The binaries: linked statically against the C library of this machine, since the plugin runs on
//! hosts that have another one, or none.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::options::Target;
use crate::tools::{cargo, output, root, run};

/// Builds them and returns their folder.
pub fn build(target: &Target) -> Result<PathBuf> {
    let sysroot = output(std::process::Command::new("rustc").args(["--print", "sysroot"]))?;
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let home = home.context("neither CARGO_HOME nor a home directory")?;
    // Where it is built is not in the binaries.
    let paths = [
        (root().display().to_string(), "/weave"),
        (home.display().to_string(), "/cargo"),
        (sysroot.trim().to_owned(), "/rust"),
    ];
    let remap = paths.iter().map(|(path, name)| format!("--remap-path-prefix={path}={name}"));
    let flags: Vec<_> =
        ["-C", "target-feature=+crt-static"].map(str::to_owned).into_iter().chain(remap).collect();
    let maps: Vec<_> =
        paths.iter().map(|(path, name)| format!("-ffile-prefix-map={path}={name}")).collect();
    let triple = target.triple();
    let mut command = cargo("build --locked --profile image -p weave --bins --target");
    command
        .arg(triple)
        .env_remove("RUSTFLAGS")
        // A separator that may not be in a path.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CFLAGS", maps.join(" "));
    run(&mut command)?;
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join(triple).join("image"))
}
