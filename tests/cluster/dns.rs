//! Names: CoreDNS in pods of the network.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weave_testbed::cluster::COREDNS;
use weave_testbed::try_until;

use crate::kubernetes::{apply, kubectl};
use crate::space::{Space, web_pod};
use crate::{SOON, network};

const COREFILE: &str = ".:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
    }
    cache 5
}
";

/// Starts CoreDNS unless the cluster has a DNS server.
fn ensure_dns() -> Result<()> {
    if kubectl("-n kube-system get service kube-dns").is_ok() {
        return Ok(());
    }
    let meta = json!({ "name": "coredns", "namespace": "kube-system" });
    let labels = json!({ "k8s-app": "kube-dns" });
    apply(&[
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": "system:coredns" },
            "rules": [
                {
                    "apiGroups": [""], "verbs": ["list", "watch"],
                    "resources": ["endpoints", "services", "pods", "namespaces"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"], "verbs": ["list", "watch"],
                    "resources": ["endpointslices"],
                },
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": "system:coredns" },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "system:coredns",
            },
            "subjects": [{
                "kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system",
            }],
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta,
            "data": { "Corefile": COREFILE },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
            "spec": {
                "replicas": 2,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "serviceAccountName": "coredns",
                        "dnsPolicy": "Default",
                        "containers": [{
                            "name": "coredns", "image": COREDNS,
                            "imagePullPolicy": "IfNotPresent",
                            "args": ["-conf", "/etc/coredns/Corefile"],
                            "readinessProbe": { "httpGet": { "path": "/ready", "port": 8181 } },
                            "volumeMounts": [{ "name": "config", "mountPath": "/etc/coredns" }],
                        }],
                        "volumes": [{ "name": "config", "configMap": { "name": "coredns" } }],
                    },
                },
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "kube-dns", "namespace": "kube-system" },
            "spec": {
                "clusterIP": "10.96.0.10",
                "selector": labels,
                "ports": [
                    { "name": "dns", "port": 53, "protocol": "UDP" },
                    { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
                ],
            },
        }),
    ])?;
    kubectl("-n kube-system rollout status deployment coredns --timeout=120s")?;
    Ok(())
}

#[test]
fn pods_find_a_service_by_name() -> Result<()> {
    let nodes = network::ready()?;
    ensure_dns()?;
    let space = Space::new()?;
    space.apply(&[json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    })])?;
    let pods = [("web", &nodes[0]), ("near", &nodes[0]), ("far", &nodes[1])];
    space.start(&pods.map(|(name, node)| web_pod(name, node)))?;
    let service = space.get("service web")?;
    let address = service["spec"]["clusterIP"].as_str().context("no address")?;
    let name = format!("web.{}.svc.cluster.local", space.name());
    for from in ["near", "far"] {
        // The first answer may be from before the Service was made.
        let found = try_until(&format!("{name} in {from}"), SOON, || {
            space.shell(from, &format!("nslookup {name}."))
        })?;
        ensure!(found.contains(address), "{found}");
        let answer = try_until("an answer", SOON, || space.http(from, &name, 80, "/hostname"))?;
        ensure!(answer == "web");
    }
    Ok(())
}
