//! What a caller of `cargo xtask cluster` can choose.

use std::path::PathBuf;

use weave_testbed::cluster::{ProxyMode, check_name};

use super::programs::Containerd;
use crate::usage::Usage;

/// What `up` and `down` call a cluster that is given no name.
pub const DEFAULT_NAME: &str = "main";

/// The network of pods that a cluster starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Network {
    /// None: nodes are not ready before one is applied.
    #[default]
    None,
    /// That of the stock plugins, to compare with, and to tell a fault of the cluster from ours.
    Bridge,
}

/// Options of all uses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Which of several clusters.
    pub name: Option<String>,
    /// How many nodes it has.
    pub nodes: Option<u8>,
    /// How kube-proxy works.
    pub proxy: ProxyMode,
    /// The container runtime.
    pub containerd: Containerd,
    /// The network of pods.
    pub network: Network,
    /// A folder with programs that are used instead of ours.
    pub binaries: Option<PathBuf>,
    /// A folder with `weave` and `weave-plugin`, of which the image under test is made.
    pub weave: Option<PathBuf>,
    /// A cluster that is not ours.
    pub kubeconfig: Option<PathBuf>,
}

/// Splits the arguments into options and the rest, which begins at `--` or at the first word that
/// is no option.
pub fn parse<'a>(arguments: &[&'a str]) -> Result<(Options, Vec<&'a str>), Usage> {
    let mut options = Options::default();
    let mut words = arguments.iter().peekable();
    while let Some(word) = words.next_if(|word| word.starts_with("--")) {
        if *word == "--" {
            break;
        }
        let value = *words.next().ok_or_else(|| Usage(format!("{word} wants a value")))?;
        match *word {
            "--name" => {
                check_name(value).map_err(|error| Usage(error.to_string()))?;
                options.name = Some(value.to_owned());
            }
            "--nodes" => {
                let nodes = value.parse().ok().filter(|nodes| (1..=9).contains(nodes));
                let wrong = || Usage(format!("--nodes {value}: a number from 1 to 9 is wanted"));
                options.nodes = Some(nodes.ok_or_else(wrong)?);
            }
            "--proxy" => {
                options.proxy = match value {
                    "iptables" => ProxyMode::Iptables,
                    "nftables" => ProxyMode::Nftables,
                    _ => return Err(Usage(format!("--proxy {value}: iptables or nftables"))),
                }
            }
            "--containerd" => {
                options.containerd = match value {
                    "debian" => Containerd::Debian,
                    "2" => Containerd::Two,
                    _ => return Err(Usage(format!("--containerd {value}: debian or 2"))),
                }
            }
            "--network" => {
                options.network = match value {
                    "none" => Network::None,
                    "bridge" => Network::Bridge,
                    _ => return Err(Usage(format!("--network {value}: none or bridge"))),
                }
            }
            "--binaries" => options.binaries = Some(folder(word, value)?),
            "--weave" => options.weave = Some(folder(word, value)?),
            "--kubeconfig" => options.kubeconfig = Some(file(value)?),
            _ => return Err(Usage(format!("no option `{word}`; {}", super::USAGE))),
        }
    }
    Ok((options, words.copied().collect()))
}

fn folder(option: &str, value: &str) -> Result<PathBuf, Usage> {
    let path = PathBuf::from(value);
    let path = path.canonicalize().ok().filter(|path| path.is_dir());
    path.ok_or_else(|| Usage(format!("{option} {value}: no such folder")))
}

fn file(value: &str) -> Result<PathBuf, Usage> {
    let path = PathBuf::from(value);
    let path = path.canonicalize().ok().filter(|path| path.is_file());
    path.ok_or_else(|| Usage(format!("--kubeconfig {value}: no such file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_where_the_command_begins() {
        let words = ["--nodes", "3", "--proxy", "nftables", "--", "kubectl", "--nodes", "x"];
        let (options, rest) = parse(&words).unwrap();
        let wanted = Options { nodes: Some(3), proxy: ProxyMode::Nftables, ..Options::default() };
        assert_eq!(options, wanted);
        assert_eq!(rest, ["kubectl", "--nodes", "x"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for words in [
            &["--nodes", "10"][..],
            &["--nodes"],
            &["--proxy", "ipvs"],
            &["--containerd", "3"],
            &["--network", "ours"],
            &["--name"],
            &["--kubeconfig", "/nowhere"],
            &["--binaries", "/nowhere"],
            &["--weave", "/nowhere"],
            &["--node", "1"],
        ] {
            let error = parse(words).unwrap_err().0;
            assert!(error.contains(words[0]), "{error}");
        }
    }
}
