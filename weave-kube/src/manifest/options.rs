//! What the manifest can be asked for: the parameters that the address of Weave Net 2.x took.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::{ArgAction, Args};
use weave_api::Address;

use super::HAS_POLICY_CONTROLLER;
use crate::environment::Environment;
use crate::error::CommandError;
use crate::settings::Settings;

/// This machine's own: an image that was loaded onto the nodes. No registry answers for it.
const IMAGE: &str = concat!("localhost/weave:", env!("CARGO_PKG_VERSION"));

/// The oldest version of Kubernetes, 1.29.
const OLDEST: (u32, u32) = (1, 29);

/// Prints the objects that make weave the pod network of a cluster, for `kubectl apply -f -`.
#[derive(Debug, Args)]
pub(crate) struct Manifest {
    /// Version of the cluster, such as 1.33. One is refused that these objects are not for.
    #[arg(long, value_name = "VERSION", alias = "k8s-version")]
    kubernetes_version: Option<ClusterVersion>,
    /// Secret of kube-system whose value is the password of the mesh; its key is the name of the
    /// secret unless it is said.
    #[arg(long, value_name = "NAME[:KEY]")]
    password_secret: Option<Secret>,
    /// Addresses of pods; 10.32.0.0/12 by default.
    #[arg(long, value_name = "CIDR")]
    ipalloc_range: Option<String>,
    /// Largest packet of pods, in bytes; follows from the network below by default.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<String>,
    /// Leave network policies to somebody else.
    #[arg(long, alias = "disable-npc", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", default_value_t = false)]
    #[arg(value_parser = weave_api::parse_bool, action = ArgAction::Set)]
    no_npc: bool,
    /// Image of all containers; by default the one that `cargo xtask image` makes, which has to
    /// be loaded onto each node.
    #[arg(long, value_name = "IMAGE", default_value = IMAGE, value_parser = image)]
    image: String,
    /// Further variables of the environment (docs/kubernetes.md has the list); repeatable.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    variables: Vec<Variable>,
    /// SELinux options of the pods, such as type=spc_t; repeatable.
    #[arg(long = "selinux-option", value_name = "NAME=VALUE", value_parser = selinux)]
    selinux: Vec<Variable>,
    /// Print instead what takes everything off all nodes, for when the network is deleted.
    #[arg(long)]
    uninstall: bool,
    /// Where the runtime of the nodes looks for plugins; found by default.
    #[arg(long, value_name = "PATH", value_parser = folder)]
    cni_bin_dir: Option<String>,
    /// Where it looks for networks; found by default.
    #[arg(long, value_name = "PATH", value_parser = folder)]
    cni_conf_dir: Option<String>,
}

/// What the objects are made from.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) image: String,
    pub(super) password: Option<Secret>,
    /// Sorted, so that the same wishes are the same text.
    pub(super) variables: BTreeMap<String, String>,
    pub(super) selinux: BTreeMap<String, String>,
    pub(super) cni: Cni,
    /// Host and port at which the router is asked how it is.
    pub(super) control: (String, u16),
    /// Whether the objects enforce network policies.
    pub(super) has_policies: bool,
    pub(super) purpose: Purpose,
}

/// What the objects are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// A network.
    Network,
    /// Taking it away.
    Uninstall,
}

/// The folders of the runtime that somebody named.
#[derive(Debug)]
pub(super) struct Cni {
    pub(super) bin: Option<String>,
    pub(super) conf: Option<String>,
}

impl Manifest {
    pub(super) fn wish(self) -> Result<Wish, CommandError> {
        let usage = |text: String| Err(CommandError::Usage(text));
        if let Some(version) = self.kubernetes_version
            && version < OLDEST.into()
        {
            let (major, minor) = OLDEST;
            return usage(format!(
                "--kubernetes-version: these objects are for Kubernetes {major}.{minor} and later"
            ));
        }
        let has_policies = HAS_POLICY_CONTROLLER && !self.no_npc;
        let mut variables = BTreeMap::new();
        let flags = [
            ("IPALLOC_RANGE", "--ipalloc-range", self.ipalloc_range),
            ("WEAVE_MTU", "--mtu", self.mtu),
            ("WEAVE_CNI_PLUGIN_DIR", "--cni-bin-dir", self.cni_bin_dir.clone()),
            ("WEAVE_CNI_CONF_DIR", "--cni-conf-dir", self.cni_conf_dir.clone()),
            ("EXPECT_NPC", "--no-npc", (!has_policies).then(|| "0".to_owned())),
        ];
        let mut by_flag = BTreeMap::from([("HOSTNAME", "the manifest itself")]);
        if self.password_secret.is_some() {
            by_flag.insert("WEAVE_PASSWORD", "--password-secret");
        }
        for (name, flag, value) in flags {
            if let Some(value) = value {
                by_flag.insert(name, flag);
                variables.insert(name.to_owned(), value);
            }
        }
        for Variable { name, value } in self.variables {
            if let Some(flag) = by_flag.get(name.as_str()) {
                return usage(format!("--env {name}: it is set by {flag}"));
            }
            // The paths that are mounted have to be those that are used.
            for (taken, flag) in FLAGS_INSTEAD {
                if name == taken {
                    return usage(format!("--env {name}: say {flag} instead"));
                }
            }
            if variables.insert(name.clone(), value).is_some() {
                return usage(format!("--env {name}: said twice"));
            }
        }
        // As the router will read them, so that what it refuses is refused here.
        Settings::read(&Environment(|name: &str| variables.get(name).cloned()), Vec::new())?;
        let control = control(variables.get("WEAVE_HTTP_ADDR"))?;
        Ok(Wish {
            image: self.image,
            password: self.password_secret,
            variables,
            selinux: self.selinux.into_iter().map(|option| (option.name, option.value)).collect(),
            cni: Cni { bin: self.cni_bin_dir, conf: self.cni_conf_dir },
            control,
            has_policies,
            purpose: if self.uninstall { Purpose::Uninstall } else { Purpose::Network },
        })
    }
}

/// Variables that say something about the objects themselves.
const FLAGS_INSTEAD: [(&str, &str); 6] = [
    ("WEAVE_CNI_PLUGIN_DIR", "--cni-bin-dir"),
    ("WEAVE_CNI_CONF_DIR", "--cni-conf-dir"),
    ("EXPECT_NPC", "--no-npc"),
    // The manifest mounts the host and its state there.
    ("HOST_ROOT", "nothing: the manifest sets it, a change of it needs other objects"),
    ("DB_PREFIX", "nothing: the manifest sets it, a change of it needs other objects"),
    ("INIT_CONTAINER", "nothing: there always is one"),
];

/// Where the probes ask.
fn control(address: Option<&String>) -> Result<(String, u16), CommandError> {
    let Some(text) = address.filter(|text| !text.is_empty()) else {
        return Ok(("127.0.0.1".to_owned(), 6784));
    };
    match text.parse() {
        Ok(Address::Tcp { host, port }) => {
            let everywhere = host.is_empty() || host == "0.0.0.0" || host == "::";
            Ok((if everywhere { "127.0.0.1".to_owned() } else { host }, port))
        }
        _ => Err(CommandError::Usage(format!(
            "--env WEAVE_HTTP_ADDR={text}: the kubelet asks at HOST:PORT only"
        ))),
    }
}

/// `1.33`, as `kubectl version` says it, too: `v1.33.2+k3s1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ClusterVersion {
    major: u32,
    minor: u32,
}

impl From<(u32, u32)> for ClusterVersion {
    fn from((major, minor): (u32, u32)) -> Self {
        Self { major, minor }
    }
}

impl FromStr for ClusterVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok();
        let mut parts = text.strip_prefix('v').unwrap_or(text).split(['.', '+', '-']);
        let version = parts.next().and_then(number).zip(parts.next().and_then(number));
        version.map(Self::from).ok_or_else(|| "no version like 1.33".to_owned())
    }
}

/// A value of a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Secret {
    pub(super) name: String,
    pub(super) key: String,
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, key) = text.split_once(':').unwrap_or((text, text));
        let part = |text: &str, extra: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || extra.as_bytes().contains(&byte);
            !text.is_empty() && text.len() <= 253 && text.bytes().all(good)
        };
        if part(name, "-.")
            && !name.bytes().any(|byte| byte.is_ascii_uppercase())
            && part(key, "-._")
        {
            Ok(Self { name: name.to_owned(), key: key.to_owned() })
        } else {
            Err("neither the name of a secret nor NAME:KEY".to_owned())
        }
    }
}

/// A name and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Variable {
    name: String,
    value: String,
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = |name: &str| {
            !name.is_empty()
                && !name.starts_with(|first: char| first.is_ascii_digit())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match text.split_once('=') {
            Some((name, value)) if good(name) && !value.contains(char::is_control) => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err("not NAME=VALUE".to_owned()),
        }
    }
}

fn selinux(text: &str) -> Result<Variable, String> {
    let option: Variable = text.parse()?;
    if ["level", "role", "type", "user"].contains(&option.name.as_str()) {
        Ok(option)
    } else {
        Err("there are level, role, type and user".to_owned())
    }
}

/// A reference as registries have them, at least in its characters.
fn image(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@".contains(&byte);
    if !text.is_empty() && text.len() <= 512 && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err("not the name of an image".to_owned())
    }
}

/// A path on the host that means one place.
fn folder(text: &str) -> Result<String, String> {
    let is_plain =
        text.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
    if text.starts_with('/') && is_plain && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("not an absolute path such as /opt/cni/bin".to_owned())
    }
}
