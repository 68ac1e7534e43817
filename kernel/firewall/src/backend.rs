//! Which firewall a host uses.
//!
//! The kernel has three doors to its filter: nftables itself, iptables on top of it, and the
//! iptables of old. What one of them says, the others neither show nor change, so that rules in
//! another than the rest of the host uses have an effect that nobody finds.

use std::cmp::Reverse;
use std::fmt;
use std::fs;
use std::str::FromStr;

use crate::program::Program;

/// Where a host keeps its rules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Backend {
    /// iptables on top of nftables.
    IptablesNft,
    /// The iptables of old.
    IptablesLegacy,
    /// A table of our own in nftables.
    Nftables,
    /// Nowhere.
    None,
}

impl Backend {
    const ALL: [Self; 4] = [Self::IptablesNft, Self::IptablesLegacy, Self::Nftables, Self::None];
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
            Self::Nftables => "nftables",
            Self::None => "none",
        })
    }
}

/// A text that names no back end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("neither iptables-nft, iptables-legacy, nftables nor none")]
pub struct BackendError;

impl FromStr for Backend {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        Self::ALL.into_iter().find(|backend| backend.to_string() == text).ok_or(BackendError)
    }
}

/// The programs of one kind of iptables.
pub(crate) struct IptablesPrograms {
    pub(crate) list: Program,
    pub(crate) save: Program,
    pub(crate) restore: Program,
}

/// Which packets a program of iptables rules over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    const fn program(self) -> &'static str {
        match self {
            Self::Ipv4 => "iptables",
            Self::Ipv6 => "ip6tables",
        }
    }
}

impl IptablesPrograms {
    /// Returns the programs of this back end, under their own names or as the iptables of the host.
    pub(crate) fn find(backend: Backend, family: Family) -> Option<Self> {
        let kind = match backend {
            Backend::IptablesNft => "-nft",
            Backend::IptablesLegacy => "-legacy",
            Backend::Nftables | Backend::None => return None,
        };
        Self::named(family, kind).or_else(|| {
            let plain = Self::named(family, "")?;
            (plain.kind() == Some(backend)).then_some(plain)
        })
    }

    fn named(family: Family, kind: &str) -> Option<Self> {
        let name = format!("{}{kind}", family.program());
        Some(Self {
            list: Program::find(&name)?,
            save: Program::find(&format!("{name}-save"))?,
            restore: Program::find(&format!("{name}-restore"))?,
        })
    }

    /// Returns which kind it is: since 1.8 it says so, before there was one.
    fn kind(&self) -> Option<Backend> {
        let version = self.list.run(&["--version"], "").ok()?;
        Some(if version.contains("nf_tables") {
            Backend::IptablesNft
        } else {
            Backend::IptablesLegacy
        })
    }

    /// Returns how much it is used. A back end that nobody uses is not asked: the question would
    /// load it.
    fn usage(&self, backend: Backend) -> Usage {
        if backend == Backend::IptablesLegacy && !legacy_is_loaded() {
            return Usage::default();
        }
        self.save.run(&[], "").map_or(Usage::default(), |text| Usage::of(&text))
    }
}

/// Returns whether somebody in this network namespace has tables of the iptables of old.
fn legacy_is_loaded() -> bool {
    fs::read_to_string("/proc/thread-self/net/ip_tables_names")
        .is_ok_and(|names| !names.trim().is_empty())
}

/// How much a kind of iptables is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Usage {
    /// By Kubernetes, which says so by an empty chain.
    kubernetes: bool,
    /// Rules, and chains that drop what no rule accepts.
    rules: usize,
}

impl Usage {
    fn of(saved: &str) -> Self {
        // https://github.com/kubernetes-sigs/iptables-wrappers: hints of the kubelet since 1.17.
        let hint = |line: &str| {
            line.starts_with(":KUBE-IPTABLES-HINT") || line.starts_with(":KUBE-KUBELET-CANARY")
        };
        let says_something = |line: &str| {
            line.starts_with("-A ") || line.starts_with(':') && line.contains(" DROP ")
        };
        Self {
            kubernetes: saved.lines().any(hint),
            rules: saved.lines().filter(|line| says_something(line)).count(),
        }
    }
}

/// What is known of a host's firewalls.
#[derive(Clone, Default, Debug)]
struct Found {
    nft: Option<Usage>,
    legacy: Option<Usage>,
    /// What `iptables` is.
    usual: Option<Backend>,
    nftables: bool,
}

impl Found {
    fn here() -> Self {
        let usage = |backend| {
            IptablesPrograms::find(backend, Family::Ipv4).map(|programs| programs.usage(backend))
        };
        Self {
            nft: usage(Backend::IptablesNft),
            legacy: usage(Backend::IptablesLegacy),
            usual: IptablesPrograms::named(Family::Ipv4, "").and_then(|programs| programs.kind()),
            nftables: Program::find("nft").is_some(),
        }
    }

    /// Returns the back ends to try, the best first: where Kubernetes is, where most rules are,
    /// what the host calls iptables.
    fn preferred(&self) -> Vec<Backend> {
        let iptables = [(Backend::IptablesNft, self.nft), (Backend::IptablesLegacy, self.legacy)];
        let mut iptables: Vec<_> = iptables
            .into_iter()
            .filter_map(|(backend, usage)| Some((usage?, self.usual == Some(backend), backend)))
            .collect();
        iptables.sort_by_key(|(usage, usual, _)| Reverse((*usage, *usual)));
        let nftables = self.nftables.then_some(Backend::Nftables);
        iptables.into_iter().map(|(.., backend)| backend).chain(nftables).collect()
    }
}

/// Returns the back ends of this host, the best first.
pub(crate) fn preferred() -> Vec<Backend> {
    let found = Found::here();
    tracing::debug!(?found, "firewalls of this host");
    found.preferred()
}

/// Returns the back ends in which there can be rules.
pub fn in_use() -> Vec<Backend> {
    let there = |backend: &Backend| match backend {
        Backend::IptablesNft => IptablesPrograms::find(*backend, Family::Ipv4).is_some(),
        Backend::IptablesLegacy => {
            legacy_is_loaded() && IptablesPrograms::find(*backend, Family::Ipv4).is_some()
        }
        Backend::Nftables => Program::find("nft").is_some(),
        Backend::None => false,
    };
    Backend::ALL.into_iter().filter(there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -j DOCKER-USER\n\
                          -A FORWARD -j DOCKER-FORWARD\nCOMMIT\n";
    const KUBELET: &str = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n";

    #[test]
    fn names_round_trip() {
        for backend in Backend::ALL {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        assert_eq!("iptables".parse::<Backend>(), Err(BackendError));
    }

    #[test]
    fn the_host_decides() {
        use Backend::{IptablesLegacy, IptablesNft, Nftables};
        let usage = |text| Some(Usage::of(text));
        let found = |nft, legacy, usual| Found { nft, legacy, usual, nftables: true };
        for (host, expected) in [
            (found(usage(""), usage(""), Some(IptablesLegacy)), IptablesLegacy),
            (found(usage(""), usage(""), Some(IptablesNft)), IptablesNft),
            (found(usage(""), usage(DOCKER), Some(IptablesNft)), IptablesLegacy),
            (found(usage(KUBELET), usage(DOCKER), Some(IptablesLegacy)), IptablesNft),
            (found(usage(DOCKER), usage(KUBELET), Some(IptablesNft)), IptablesLegacy),
            (found(usage(""), None, None), IptablesNft),
            (found(None, usage(""), Some(IptablesLegacy)), IptablesLegacy),
            (found(usage(""), usage(":FORWARD DROP [0:0]"), Some(IptablesNft)), IptablesLegacy),
            (found(None, None, None), Nftables),
        ] {
            assert_eq!(host.preferred().first(), Some(&expected), "{host:?}");
        }
        assert_eq!(Found::default().preferred(), []);
    }
}
