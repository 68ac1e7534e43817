//! The pod of each node.

use serde_json::{Value, json};

use super::options::{Secret, Wish};
use super::volumes::{HOST, Mount, cni_mounts, device_lock, state, xtables_lock};
use super::{NAME, metadata};

/// The network itself.
pub(super) fn object(wish: &Wish) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata(true),
        "spec": {
            // A node is over before the next one begins.
            "minReadySeconds": 5,
            "selector": { "matchLabels": { "name": NAME } },
            "template": {
                "metadata": { "labels": { "name": NAME } },
                "spec": pod(wish),
            },
            // Two of one node cannot be at once: their ports are the host's.
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
        },
    })
}

/// Of the network of its host, on every node, and before all others.
pub(super) fn bare_pod(wish: &Wish) -> Value {
    let mut pod = json!({
        "hostNetwork": true,
        "hostPID": false,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "restartPolicy": "Always",
        "priorityClassName": "system-node-critical",
        "nodeSelector": { "kubernetes.io/os": "linux" },
        // Also of nodes that wait for this pod to be ready.
        "tolerations": [{ "operator": "Exists" }],
        // It leaves bridge, flows and rules as they are, and ends at once.
        "terminationGracePeriodSeconds": 10,
    });
    if !wish.selinux.is_empty() {
        pod["securityContext"] = json!({ "seLinuxOptions": wish.selinux });
    }
    pod
}

fn pod(wish: &Wish) -> Value {
    let cni = cni_mounts(&wish.cni);
    let devices = [device_lock()];
    let xtables = [xtables_lock()];
    let modules = [Mount::new("lib-modules", "/lib/modules", "/lib/modules").read_only()];
    let identity = [
        state(),
        Mount::new("dbus", "/var/lib/dbus", &format!("{HOST}/var/lib/dbus")).read_only(),
        Mount::new("cni-machine-id", "/etc/machine-id", &format!("{HOST}/etc/machine-id"))
            .read_only(),
    ];
    let of = |mounts: &[&[Mount]]| -> Vec<Value> {
        mounts.iter().copied().flatten().map(Mount::mount).collect()
    };
    let mut containers = vec![router(wish, &of(&[&identity, &cni, &devices, &xtables]))];
    if wish.has_policies {
        containers.push(policy_controller(wish, &of(&[&xtables])));
    }
    let volumes: Vec<_> = [&identity[..], &cni, &modules, &devices, &xtables]
        .into_iter()
        .flatten()
        .map(Mount::volume)
        .collect();
    let mut pod = bare_pod(wish);
    pod["serviceAccountName"] = NAME.into();
    pod["initContainers"] = json!([{
        "name": "weave-init",
        "image": wish.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["weave", "kube", "init"],
        "env": environment(wish),
        "securityContext": { "privileged": true },
        "volumeMounts": of(&[&cni, &modules, &xtables]),
    }]);
    pod["containers"] = containers.into();
    pod["volumes"] = volumes.into();
    pod
}

fn router(wish: &Wish, mounts: &[Value]) -> Value {
    let probe = |path: &str, period: u32, failures: u32| {
        let (host, port) = &wish.control;
        json!({
            "httpGet": { "host": host, "path": path, "port": port },
            "periodSeconds": period,
            "failureThreshold": failures,
            "timeoutSeconds": 5,
        })
    };
    json!({
        "name": "weave",
        "image": wish.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["weave", "kube"],
        "env": environment(wish),
        "resources": { "requests": { "cpu": "50m" } },
        "securityContext": { "privileged": true },
        // Five minutes for a start, also while the API server is away.
        "startupProbe": probe("/report", 1, 300),
        "readinessProbe": probe("/status", 10, 3),
        // Only a router that answers nobody for five minutes is started anew: its traffic goes on.
        "livenessProbe": probe("/report", 30, 10),
        "volumeMounts": mounts,
    })
}

fn policy_controller(wish: &Wish, mounts: &[Value]) -> Value {
    json!({
        "name": "weave-npc",
        "image": wish.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["weave", "npc"],
        "env": [node_name()],
        "resources": { "requests": { "cpu": "50m" } },
        "securityContext": { "privileged": true },
        "volumeMounts": mounts,
    })
}

fn node_name() -> Value {
    json!({ "name": "HOSTNAME", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } })
}

/// Of the router and of what prepares the node for it.
pub(super) fn environment(wish: &Wish) -> Vec<Value> {
    let mut variables = vec![node_name()];
    if let Some(Secret { name, key }) = &wish.password {
        variables.push(json!({
            "name": "WEAVE_PASSWORD",
            "valueFrom": { "secretKeyRef": { "name": name, "key": key } },
        }));
    }
    let given = wish.variables.iter();
    variables.extend(given.map(|(name, value)| json!({ "name": name, "value": value })));
    variables
}
