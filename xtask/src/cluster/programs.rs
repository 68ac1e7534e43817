//! The programs of a cluster, built from the Go modules in `tests/cluster`.
//!
//! Each module has a folder with what it requires (`go.mod`, `go.sum`) and at most a few lines of its
//! own. What is built is kept in `target/cluster`; Go keeps what it compiled in its own cache, so that
//! another clone on the same machine only links.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::tools::{self, find, output, root, run};

/// Debian packages of a node and the machine it is on, and one program of each.
const PACKAGES: [(&str, &str); 12] = [
    ("etcd-server", "etcd"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("containernetworking-plugins", "/usr/lib/cni/portmap"),
    ("conntrack", "conntrack"),
    ("iptables", "iptables"),
    ("nftables", "nft"),
    ("busybox-static", "busybox"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("iproute2", "ip"),
    ("util-linux", "unshare"),
];

/// The oldest Go that fetches the version a module asks for.
const OLDEST_GO: u32 = 21;

/// The daemons that `hyperkube` is, by the name it is called.
const DAEMONS: [&str; 5] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

/// A Go module in `tests/cluster`.
struct Module {
    folder: &'static str,
    /// The module that its version is that of.
    of: &'static str,
    packages: &'static [&'static str],
}

const KUBERNETES: Module = Module {
    folder: "kubernetes",
    of: "k8s.io/kubernetes",
    packages: &[
        "./hyperkube",
        "k8s.io/kubernetes/cmd/kubectl",
        "k8s.io/kubernetes/test/images/agnhost",
    ],
};
const COREDNS: Module =
    Module { folder: "coredns", of: "github.com/coredns/coredns", packages: &["./coredns"] };
const CONTAINERD: Module = Module {
    folder: "containerd",
    of: "github.com/containerd/containerd/v2",
    packages: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
};

/// The container runtime of the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Containerd {
    /// That of this machine's Debian.
    #[default]
    Debian,
    /// The newest, from its Go module.
    Two,
}

/// Installs what Debian has.
pub fn install() -> Result<()> {
    tools::install(&PACKAGES)
}

/// Why nothing can be built here, if so.
pub fn unsupported() -> Option<String> {
    let version = find("go").and_then(|go| output(Command::new(go).arg("version")).ok());
    let minor = version.as_deref().and_then(minor);
    match (version, minor) {
        (None, _) => Some("there is no Go on this machine".to_owned()),
        (Some(_), Some(minor)) if minor >= OLDEST_GO => None,
        (Some(version), _) => Some(format!("{} is older than 1.{OLDEST_GO}", version.trim())),
    }
}

/// The second number of the version in what `go version` prints.
fn minor(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find_map(|word| word.strip_prefix("go1."))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Builds what has changed since it was built, and returns the folders of the programs.
pub fn build(containerd: Containerd) -> Result<Vec<PathBuf>> {
    if let Some(reason) = unsupported() {
        bail!("{reason}: name a folder with the programs of Kubernetes by --binaries DIR");
    }
    let mut folders = vec![build_module(&KUBERNETES)?, build_module(&COREDNS)?];
    for daemon in DAEMONS {
        let link = folders[0].join(daemon);
        if !link.is_symlink() {
            symlink("hyperkube", &link).with_context(|| format!("making {}", link.display()))?;
        }
    }
    if containerd == Containerd::Two {
        folders.push(build_module(&CONTAINERD)?);
    }
    Ok(folders)
}

fn build_module(module: &Module) -> Result<PathBuf> {
    let source = root().join("tests/cluster").join(module.folder);
    let folder = root().join("target/cluster").join(module.folder);
    let (stamp, wanted) = (folder.join("stamp"), fingerprint(&source)?);
    if fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
        return Ok(folder);
    }
    fs::create_dir_all(&folder)?;
    println!("building {} from its Go module", module.folder);
    let mut command = Command::new(find("go").context("no Go")?);
    command.current_dir(&source).env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "auto");
    command.args(["build", "-trimpath", "-ldflags", &linker_flags(module, &source)?]);
    run(command.arg("-o").arg(&folder).args(module.packages))?;
    fs::write(stamp, wanted)?;
    Ok(folder)
}

/// Programs tell their version: kubelet refuses an API server that tells none.
fn linker_flags(module: &Module, source: &Path) -> Result<String> {
    let version = required(&fs::read_to_string(source.join("go.mod"))?, module.of)?;
    let mut flags = "-s -w".to_owned();
    if module.of == KUBERNETES.of {
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
        for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
            for (name, value) in [("Version", version.as_str()), ("Major", major), ("Minor", minor)]
            {
                flags.push_str(&format!(" -X {package}.git{name}={value}"));
            }
        }
    } else {
        flags.push_str(&format!(" -X {}/version.Version={version}", module.of));
    }
    Ok(flags)
}

/// The version of a module that this `go.mod` requires.
fn required(go_mod: &str, module: &str) -> Result<String> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut lines = go_mod.lines().map(words).filter(|words| !words.contains(&"=>".to_owned()));
    let position = |words: &Vec<String>| words.iter().position(|word| word == module);
    let version = lines.find_map(|words| words.get(position(&words)? + 1).cloned());
    version.with_context(|| format!("{module} is not required"))
}

/// All that is built from: the names and texts of the files of a module.
fn fingerprint(source: &Path) -> Result<String> {
    let mut files = Vec::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", source.display());
    let mut text = format!("for {}\n", std::env::consts::ARCH);
    for file in files {
        let name = file.strip_prefix(source)?.display().to_string();
        text.push_str(&format!("--- {name}\n{}", fs::read_to_string(&file)?));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_that_required_and_not_that_of_a_replacement() {
        let text = "module x\n\nrequire k8s.io/api v0.0.0\nrequire (\n\tk8s.io/kubernetes v1.37.2\n)\n\
            replace k8s.io/kubernetes => k8s.io/kubernetes v9.9.9\n";
        assert_eq!(required(text, "k8s.io/kubernetes").unwrap(), "v1.37.2");
        assert_eq!(required(text, "k8s.io/api").unwrap(), "v0.0.0");
        assert!(required(text, "k8s.io/kubectl").is_err());
    }

    #[test]
    fn the_version_of_go_is_read() {
        assert_eq!(minor("go version go1.26.8 linux/amd64"), Some(26));
        assert_eq!(minor("go version go1.19 linux/arm64"), Some(19));
        assert_eq!(minor("go version devel +abc"), None);
    }
}
