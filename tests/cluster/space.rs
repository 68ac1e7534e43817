//! A Kubernetes namespace of one test, and the pods in it.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weave_testbed::cluster::AGNHOST;
use weave_testbed::try_until;

use crate::SOON;
use crate::kubernetes::{apply, call, get, has_condition, kubectl, list, name};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Removed with everything in it when dropped; a failed test shows what was there.
pub struct Space {
    name: String,
}

impl Space {
    /// A namespace in which pods can be made.
    pub fn new() -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let space = Self { name: format!("weave-test-{}-{number}", std::process::id()) };
        kubectl(&format!("create namespace {}", space.name))?;
        try_until("a service account for pods", SOON, || {
            kubectl(&format!("-n {} get serviceaccount default", space.name))
        })?;
        Ok(space)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes pods and waits until all are ready.
    pub fn start(&self, pods: &[Value]) -> Result<()> {
        self.apply(pods)?;
        pods.iter().try_for_each(|pod| self.wait_ready(&name(pod)))
    }

    /// Applies objects in this namespace.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        let mut objects = objects.to_vec();
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(self.name);
        }
        apply(&objects)
    }

    /// Waits until a pod is ready.
    pub fn wait_ready(&self, pod: &str) -> Result<()> {
        try_until(&format!("pod {pod}"), SOON, || {
            let pod = self.get(&format!("pod {pod}"))?;
            ensure!(has_condition(&pod, "Ready"), "{}", pod["status"]);
            Ok(())
        })
    }

    /// What `kubectl get` finds in this namespace.
    pub fn get(&self, line: &str) -> Result<Value> {
        get(&format!("-n {} {line}", self.name))
    }

    /// The items of a list in this namespace.
    pub fn list(&self, line: &str) -> Result<Vec<Value>> {
        list(&format!("-n {} {line}", self.name))
    }

    /// What `kubectl` printed.
    pub fn kubectl(&self, line: &str) -> Result<String> {
        kubectl(&format!("-n {} {line}", self.name))
    }

    /// The address of a pod.
    pub fn address(&self, pod: &str) -> Result<String> {
        let pod = self.get(&format!("pod {pod}"))?;
        Ok(pod["status"]["podIP"].as_str().context("no address")?.to_owned())
    }

    /// What a shell script in a pod printed.
    pub fn shell(&self, pod: &str, script: &str) -> Result<String> {
        call(&["-n", &self.name, "exec", pod, "--", "sh", "-c", script], "")
    }

    /// The body of what a pod's HTTP client was answered.
    pub fn http(&self, pod: &str, host: &str, port: u16, path: &str) -> Result<String> {
        let answer = self.shell(pod, &http_request(host, port, path))?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.contains(" 200 "), "{head}");
        Ok(body.to_owned())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in ["get pods -o wide", "get events --sort-by=.lastTimestamp"] {
                println!("{}", self.kubectl(line).unwrap_or_else(|error| format!("{error:#}")));
            }
        }
        let _ = kubectl(&format!("delete namespace {} --wait=false", self.name));
    }
}

/// The static busybox of Debian has no client for HTTP that works.
fn http_request(host: &str, port: u16, path: &str) -> String {
    format!("printf 'GET {path} HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n' | nc -w 3 {host} {port}")
}

/// A pod that serves HTTP at port 8080: `/clientip` says who asks, `/hostname` who answers.
pub fn web_pod(name: &str, node: &str) -> Value {
    let command = json!(["/agnhost", "netexec", "--http-port=8080", "--udp-port=8080"]);
    let mut pod = pod(name, node, &command);
    // It is ready when it listens, not when it was started.
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({ "httpGet": { "path": "/hostname", "port": 8080 }, "periodSeconds": 1 });
    pod
}

/// A pod that runs a shell script.
pub fn shell_pod(name: &str, node: &str, script: &str) -> Value {
    pod(name, node, &json!(["sh", "-c", script]))
}

fn pod(name: &str, node: &str, command: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "nodeSelector": { "kubernetes.io/hostname": node },
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": AGNHOST, "imagePullPolicy": "IfNotPresent",
                "command": command,
            }],
        },
    })
}
