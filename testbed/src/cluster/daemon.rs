//! The programs of a node and their arguments.

use super::options::{SERVICES, address};

/// A program that runs as long as its node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Daemon {
    /// The store of the API server.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers, among them those of Deployments, DaemonSets and the life of nodes.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// The container runtime.
    Containerd,
    /// The agent of a node.
    Kubelet,
    /// What makes Services work on a node.
    Proxy,
}

impl Daemon {
    /// Its name as a program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
        }
    }

    /// Its arguments on the node of this name, whose address on the underlay is the other one.
    pub(super) fn arguments(self, name: &str, node_ip: &str) -> Vec<String> {
        let pki = "/cluster/pki";
        match self {
            Self::Etcd => words(
                "--data-dir=/var/lib/etcd --listen-client-urls=http://127.0.0.1:2379 \
                 --advertise-client-urls=http://127.0.0.1:2379 \
                 --listen-peer-urls=http://127.0.0.1:2380 --log-level=warn --logger=zap",
            ),
            Self::ApiServer => words(&format!(
                "--etcd-servers=http://127.0.0.1:2379 --advertise-address={address} \
                 --secure-port=6443 --service-cluster-ip-range={SERVICES} \
                 --client-ca-file={pki}/ca.crt --tls-cert-file={pki}/apiserver.crt \
                 --tls-private-key-file={pki}/apiserver.key \
                 --service-account-key-file={pki}/service-accounts.key \
                 --service-account-signing-key-file={pki}/service-accounts.key \
                 --service-account-issuer=https://kubernetes.default.svc.cluster.local \
                 --kubelet-client-certificate={pki}/kubelet-client.crt \
                 --kubelet-client-key={pki}/kubelet-client.key \
                 --kubelet-preferred-address-types=InternalIP --authorization-mode=Node,RBAC \
                 --enable-admission-plugins=NodeRestriction --allow-privileged=true \
                 --profiling=false",
                address = address(1),
            )),
            // A node is taken for lost after 20 s instead of 50: tests wait for that.
            Self::ControllerManager => words(&format!(
                "--kubeconfig={pki}/controllers.conf --root-ca-file={pki}/ca.crt \
                 --service-account-private-key-file={pki}/service-accounts.key \
                 --use-service-account-credentials=true --leader-elect=false \
                 --node-monitor-grace-period=20s --allocate-node-cidrs=false \
                 --service-cluster-ip-range={SERVICES}"
            )),
            Self::Scheduler => {
                words(&format!("--kubeconfig={pki}/scheduler.conf --leader-elect=false"))
            }
            Self::Containerd => words(&format!("--config=/cluster/{name}-containerd.toml")),
            Self::Kubelet => words(&format!(
                "--config=/cluster/{name}-kubelet.json --kubeconfig={pki}/{name}.conf \
                 --hostname-override={name} --node-ip={node_ip}"
            )),
            Self::Proxy => words(&format!("--config=/cluster/{name}-proxy.json")),
        }
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
