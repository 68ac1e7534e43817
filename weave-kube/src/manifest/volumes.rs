//! What pods see of their host.

use serde_json::{Value, json};

use super::options::Cni;

/// Where the pod finds the file system of its host, as far as it sees it.
pub(super) const HOST: &str = "/host";

/// Folders of runtimes on hosts of all kinds (see `weave_cni::setup::Folders`). Their parents can be
/// written everywhere but on Container-Optimized OS, so that they may be mounted where nobody uses
/// them; empty ones are not mistaken for a distribution.
const RUNTIMES: [(&str, &str); 4] = [
    ("cni-bin", "/opt/cni/bin"),
    ("cni-conf", "/etc/cni/net.d"),
    ("cni-k3s", "/var/lib/rancher/k3s"),
    ("cni-microk8s", "/var/snap/microk8s"),
];

/// A folder or file of the host.
pub(super) struct Mount {
    name: &'static str,
    host: String,
    container: String,
    read_only: bool,
    kind: Option<&'static str>,
}

impl Mount {
    pub(super) fn new(name: &'static str, host: &str, container: &str) -> Self {
        let (host, container) = (host.to_owned(), container.to_owned());
        Self { name, host, container, read_only: false, kind: None }
    }

    pub(super) fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    pub(super) fn kind(self, kind: &'static str) -> Self {
        Self { kind: Some(kind), ..self }
    }

    pub(super) fn volume(&self) -> Value {
        let mut path = json!({ "path": self.host });
        if let Some(kind) = self.kind {
            path["type"] = kind.into();
        }
        json!({ "name": self.name, "hostPath": path })
    }

    pub(super) fn mount(&self) -> Value {
        let mut mount = json!({ "name": self.name, "mountPath": self.container });
        if self.read_only {
            mount["readOnly"] = true.into();
        }
        mount
    }
}

/// Where the router keeps what survives a restart.
pub(super) fn state() -> Mount {
    Mount::new("weavedb", "/var/lib/weave", "/weavedb").kind("DirectoryOrCreate")
}

/// By which programs that change devices wait for each other: the plugin, which is a program of the
/// host, and the router, which would mend or remove what the plugin has made in part.
pub(super) fn device_lock() -> Mount {
    Mount::new("run-weave", "/run/weave", "/run/weave").kind("DirectoryOrCreate")
}

/// By which programs that change rules wait for each other.
pub(super) fn xtables_lock() -> Mount {
    Mount::new("xtables-lock", "/run/xtables.lock", "/run/xtables.lock").kind("FileOrCreate")
}

/// The folders of the runtime: those that somebody named, or all there may be.
pub(super) fn cni_mounts(cni: &Cni) -> Vec<Mount> {
    let places = RUNTIMES.into_iter().filter(|(name, _)| match *name {
        "cni-bin" | "cni-conf" => true,
        // What is named needs no search.
        _ => cni.bin.is_none() || cni.conf.is_none(),
    });
    let named = places.map(|(name, usual)| match name {
        "cni-bin" => (name, cni.bin.as_deref().unwrap_or(usual)),
        "cni-conf" => (name, cni.conf.as_deref().unwrap_or(usual)),
        _ => (name, usual),
    });
    named.map(|(name, path)| Mount::new(name, path, &format!("{HOST}{path}"))).collect()
}
