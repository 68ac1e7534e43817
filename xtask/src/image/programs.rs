//! The programs that change a firewall, from a Debian system: that of this machine, or one of
//! another architecture in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::options::Target;
use super::tree::Tree;
use super::{inside, read};
use crate::tools::output;

/// Each is many programs, which go by the names they are called by.
const XTABLES: [(&str, &str); 2] =
    [("xtables-nft-multi", "nft"), ("xtables-legacy-multi", "legacy")];

/// A Debian package whose files are in the image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A Debian system.
pub struct Root {
    path: PathBuf,
    libraries: [PathBuf; 2],
}

impl Root {
    /// The one at this path.
    pub fn at(path: &Path, target: &Target) -> Result<Self> {
        let libraries =
            ["usr/lib", "lib"].map(|top| Path::new("/").join(top).join(target.libraries()));
        let root = Self { path: path.to_owned(), libraries };
        for (program, package) in [("xtables-nft-multi", "iptables"), ("nft", "nftables")] {
            let file = root.on_disk(&Path::new("/usr/sbin").join(program));
            let file = file.display();
            ensure!(
                fs::exists(file.to_string())?,
                "no {file}: install the Debian package {package}"
            );
        }
        Ok(root)
    }

    /// Adds the programs with all they need, and what these other files need of the C library.
    /// Returns the packages that they are of.
    pub fn add_programs(&self, tree: &mut Tree, others: &[PathBuf]) -> Result<BTreeSet<Package>> {
        let mut files = vec![PathBuf::from("/usr/sbin/nft"), "/etc/protocols".into()];
        for (program, kind) in XTABLES {
            files.push(Path::new("/usr/sbin").join(program));
            for family in ["iptables", "ip6tables"] {
                for what in ["", "-save", "-restore"] {
                    tree.link(format!("usr/sbin/{family}-{kind}{what}"), program);
                }
            }
        }
        for what in ["", "-save", "-restore"] {
            tree.link(format!("usr/sbin/iptables{what}"), XTABLES[0].0);
            tree.link(format!("usr/sbin/ip6tables{what}"), XTABLES[0].0);
        }
        files.extend(self.extensions()?);
        let mut packages = BTreeMap::new();
        let needed = others.iter().map(|path| self.needed(path)).collect::<Result<Vec<_>>>()?;
        let mut waiting: Vec<_> = files.into_iter().chain(needed.into_iter().flatten()).collect();
        while let Some(path) = waiting.pop() {
            if tree.has(&inside(&path)) {
                continue;
            }
            let content = read(&self.on_disk(&path))?;
            if content.starts_with(b"\x7fELF") {
                waiting.extend(self.needed(&self.on_disk(&path))?);
                tree.program(inside(&path), content);
            } else {
                tree.file(inside(&path), content);
            }
            let package = self.owner(&path)?;
            packages.entry(package.name.clone()).or_insert(package);
        }
        for name in packages.keys() {
            let copyright = Path::new("/usr/share/doc").join(name).join("copyright");
            tree.file(inside(&copyright), read(&self.on_disk(&copyright))?);
        }
        Ok(packages.into_values().collect())
    }

    /// What iptables loads as it comes across it.
    fn extensions(&self) -> Result<Vec<PathBuf>> {
        let folder = self.libraries[0].join("xtables");
        let mut files = Vec::new();
        for entry in fs::read_dir(self.on_disk(&folder)).context("the extensions of iptables")? {
            let name = entry?.file_name();
            // Those of bridges and of ARP are for programs that are not in the image.
            let name = name.to_str().context("a file name that is no text")?;
            if ["libxt_", "libipt_", "libip6t_"].iter().any(|start| name.starts_with(start)) {
                files.push(folder.join(name));
            }
        }
        ensure!(!files.is_empty(), "no extension of iptables in {}", folder.display());
        Ok(files)
    }

    /// The libraries of a program or library, and what loads them.
    fn needed(&self, file: &Path) -> Result<Vec<PathBuf>> {
        let text = output(Command::new("readelf").args(["--wide", "-l", "-d"]).arg(file))?;
        let mut files = Vec::new();
        for line in text.lines() {
            let inside = |start: &str| {
                let (_, rest) = line.split_once(start)?;
                Some(rest.trim_end_matches(']'))
            };
            if let Some(loader) = inside("[Requesting program interpreter: ") {
                files.push(PathBuf::from(loader));
            } else if line.contains("(NEEDED)")
                && let Some(name) = inside("[")
            {
                files.push(self.library(name)?);
            }
        }
        Ok(files)
    }

    fn library(&self, name: &str) -> Result<PathBuf> {
        let places = self.libraries.iter().map(|folder| folder.join(name));
        let mut there = places.filter(|path| self.on_disk(path).exists());
        // The loader is a library, too.
        there.next().with_context(|| format!("no library {name} in {}", self.path.display()))
    }

    /// The package that a file is of. Debian moves `/lib` to `/usr/lib`, and names either.
    fn owner(&self, path: &Path) -> Result<Package> {
        let real = fs::canonicalize(self.on_disk(path))?;
        let real = Path::new("/").join(real.strip_prefix(fs::canonicalize(&self.path)?)?);
        let bare = |path: &Path| path.strip_prefix("/usr").map(|path| Path::new("/").join(path));
        for candidate in [Ok(path.to_owned()), Ok(real.clone()), bare(path), bare(&real)] {
            let Ok(candidate) = candidate else { continue };
            let Ok(text) = output(self.dpkg().arg("-S").arg(&candidate)) else { continue };
            let Some((name, _)) = text.split_once(": ") else { continue };
            let full = name.split(", ").next().unwrap_or(name);
            let version = output(self.dpkg().args(["-W", "-f", "${Version}", full]))?;
            let name = full.split(':').next().unwrap_or(full).to_owned();
            return Ok(Package { name, version });
        }
        bail!("{} is of no Debian package", path.display())
    }

    fn dpkg(&self) -> Command {
        let mut command = Command::new("dpkg-query");
        command.arg("--admindir").arg(self.path.join("var/lib/dpkg"));
        command
    }

    fn on_disk(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }
}
