//! Settings of the daemons of a node: what kubeadm would write, less what a namespace on a machine
//! of two processors cannot have.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::image::PAUSE;
use super::options::{DNS_SERVICE, PODS};
use super::{Node, ProxyMode, path_name};

/// Containerd: processes here may not lower their out-of-memory score, AppArmor belongs to the
/// whole machine, and images are those that were imported.
pub(super) fn write_containerd(node: &Node<'_>) -> Result<()> {
    let version = node.run("containerd --version")?;
    let text = if version.split_whitespace().any(|word| word.starts_with("v2.")) {
        format!(
            r#"version = 3
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs"]
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true
"#
        )
    } else {
        format!(
            r#"version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
        )
    };
    Ok(fs::write(node.folder().join(format!("{}-containerd.toml", node.name())), text)?)
}

/// Kubelet: in control groups of the node, on a machine whose disk and memory belong to others too.
pub(super) fn write_kubelet(node: &Node<'_>) -> Result<()> {
    write(
        node,
        "kubelet",
        &json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}/{}", path_name(node.folder()), node.name()),
            "enforceNodeAllocatable": [],
            "failCgroupV1": false,
            "failSwapOn": false,
            "authentication": { "x509": { "clientCAFile": "/cluster/pki/ca.crt" } },
            "resolvConf": "/etc/resolv.conf",
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "nodeStatusUpdateFrequency": "4s",
            "serializeImagePulls": false,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "memory.available": "0%", "nodefs.available": "0%",
                "nodefs.inodesFree": "0%", "imagefs.available": "0%",
            },
        }),
    )
}

/// Kube-proxy: the size of the connection table is a setting of the whole machine.
pub(super) fn write_proxy(node: &Node<'_>, mode: ProxyMode) -> Result<()> {
    write(
        node,
        "proxy",
        &json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": mode.name(),
            "clusterCIDR": PODS,
            "hostnameOverride": node.name(),
            "clientConnection": { "kubeconfig": "/cluster/pki/proxy.conf" },
            "conntrack": {
                "maxPerCore": 0, "min": 0,
                "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
            },
        }),
    )
}

fn write(node: &Node<'_>, program: &str, value: &Value) -> Result<()> {
    let path = node.folder().join(format!("{}-{program}.json", node.name()));
    Ok(fs::write(path, value.to_string())?)
}
