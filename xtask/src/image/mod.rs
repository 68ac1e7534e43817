//! `cargo xtask image`: the image for a cluster, made without a daemon, a registry or root.
//!
//! ```text
//!  cargo build ──▶ weave, weave-plugin ─┐
//!  a Debian root ──▶ nft, iptables, ────┼─▶ Tree ──▶ layer ──▶ archive (OCI layout in a tar)
//!                    their libraries    │    ▲
//!  cargo metadata, dpkg ──▶ SBOM ───────┴────┘
//! ```
//!
//! The same sources, toolchain and packages are the same bytes, wherever and whenever it is made.

mod archive;
mod binaries;
mod options;
mod programs;
mod proof;
mod sbom;
mod source;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use archive::Labels;
use options::Options;
use programs::Root;
use source::Source;
use tree::Tree;

use crate::tools::root;

/// How it is called.
const USAGE: &str =
    "usage: cargo xtask image [--target TRIPLE] [--root DIR] [--binaries DIR] [-o FILE]";

/// What nobody wants to pull onto each node is refused.
const LARGEST: usize = 40 * 1024 * 1024;

/// Makes the image, proves what can be proven here, and tells where it is.
pub fn image(arguments: &[&str]) -> Result<()> {
    make(&options::parse(arguments)?)
}

/// Makes the image of this machine's architecture, from these binaries or those that are built for
/// it, and returns the program that is in it.
pub fn make_here(binaries: Option<&Path>, file: &Path) -> Result<PathBuf> {
    let mut options = options::parse(&[])?;
    let binaries =
        binaries.map_or_else(|| binaries::build(&options.target), |b| Ok(b.to_owned()))?;
    options.binaries = Some(binaries.clone());
    options.output = Some(file.to_owned());
    make(&options)?;
    Ok(binaries.join("weave"))
}

fn make(options: &Options) -> Result<()> {
    let file = options.output.clone().unwrap_or_else(|| {
        root().join("target").join(format!("weave-{}.tar", options.target.architecture()))
    });
    let (tree, labels) = content(options)?;
    let archive = archive::pack(&tree, &labels)?;
    ensure!(archive == archive::pack(&tree, &labels)?, "packed twice, it is not the same");
    ensure!(
        archive.len() <= LARGEST,
        "the image has {} bytes, more than the {LARGEST} that it may have",
        archive.len()
    );
    proof::is_sound(&archive)?;
    if options.target.is_native() {
        proof::runs(&tree)?;
    }
    fs::write(&file, &archive).with_context(|| format!("writing {}", file.display()))?;
    let name = labels.reference();
    println!(
        "{}: {name}, {} bytes, sha256:{}",
        file.display(),
        archive.len(),
        archive::hex(&archive)
    );
    Ok(())
}

/// All files, and what is said of them.
fn content(options: &Options) -> Result<(Tree, Labels)> {
    let binaries = match &options.binaries {
        Some(folder) => folder.clone(),
        None => binaries::build(&options.target)?,
    };
    let metadata = source::metadata(&options.target)?;
    let source = Source::here(&metadata)?;
    let debian = Root::at(&options.root, &options.target)?;
    let mut tree = base();
    let mut needed = Vec::new();
    for name in ["weave", "weave-plugin"] {
        let content = fs::read(binaries.join(name))
            .with_context(|| format!("no {name} in {}", binaries.display()))?;
        tree.program(format!("usr/bin/{name}"), content);
        needed.push(binaries.join(name));
    }
    let packages = debian.add_programs(&mut tree, &needed)?;
    let labels = Labels::new(&options.target, &source);
    let sbom = sbom::document(&metadata, &labels, &packages, &options.target, &source)?;
    tree.file("usr/share/doc/weave/sbom.spdx.json", sbom.into_bytes());
    let licence = root().join("LICENSE");
    tree.file("usr/share/doc/weave/copyright", read(&licence)?);
    Ok((tree, labels))
}

/// What programs expect to be there.
fn base() -> Tree {
    let mut tree = Tree::default();
    for (link, target) in
        [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    {
        tree.folder(target);
        tree.link(link, target);
    }
    for folder in ["dev", "host", "proc", "root", "run", "sys", "tmp", "var/lib/weave", "weavedb"] {
        tree.folder(folder);
    }
    tree.file("etc/passwd", b"root:x:0:0:root:/root:/sbin/nologin\n".to_vec());
    tree.file("etc/group", b"root:x:0:\n".to_vec());
    // The resolver of the C library: nothing else of it is in the image.
    tree.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n".to_vec());
    // Where the scripts of Weave Net 2.x look for it.
    tree.link("home/weave/weave", "/usr/bin/weave");
    tree
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// A path inside the image; what Debian has in `/lib` is in `/usr/lib`.
fn inside(path: &Path) -> PathBuf {
    let path = path.strip_prefix("/").unwrap_or(path);
    let merged = ["bin", "sbin", "lib", "lib64"].iter().any(|folder| path.starts_with(folder));
    if merged { Path::new("usr").join(path) } else { path.to_owned() }
}
