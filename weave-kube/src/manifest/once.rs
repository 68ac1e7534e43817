//! What is to be done once on every node. A Job cannot say so; a DaemonSet can, if its pods stay: one
//! of them is ready when its node is done.

use serde_json::{Value, json};

use super::NAMESPACE;
use super::daemon_set::{bare_pod, environment};
use super::options::Wish;
use super::volumes::{Mount, cni_mounts, device_lock, state, xtables_lock};

/// Takes everything off each node.
pub(super) fn uninstall(wish: &Wish) -> Value {
    object(wish, "weave-net-uninstall", &["weave", "kube", "uninstall"])
}

fn object(wish: &Wish, name: &str, command: &[&str]) -> Value {
    let fixed = [state(), device_lock(), xtables_lock()];
    let cni = cni_mounts(&wish.cni);
    let mounts = || fixed.iter().chain(&cni);
    let mut pod = bare_pod(wish);
    pod["initContainers"] = json!([{
        "name": "once",
        "image": wish.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": environment(wish),
        "securityContext": { "privileged": true },
        "volumeMounts": mounts().map(Mount::mount).collect::<Vec<_>>(),
    }]);
    pod["containers"] = json!([{
        "name": "done",
        "image": wish.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["weave", "kube", "stay"],
        "securityContext": { "allowPrivilegeEscalation": false },
    }]);
    pod["volumes"] = mounts().map(Mount::volume).collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": { "name": name } },
        "spec": {
            "selector": { "matchLabels": { "name": name } },
            "template": { "metadata": { "labels": { "name": name } }, "spec": pod },
            // All nodes at once.
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "100%" } },
        },
    })
}
