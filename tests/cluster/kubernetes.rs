//! The API server, by `kubectl`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What `kubectl` printed.
pub fn kubectl(line: &str) -> Result<String> {
    call(&line.split_whitespace().collect::<Vec<_>>(), "")
}

/// Applies objects.
pub fn apply(objects: &[Value]) -> Result<()> {
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    call(&["apply", "-f", "-"], &list.to_string()).map(drop)
}

/// What `kubectl get` finds.
pub fn get(line: &str) -> Result<Value> {
    let text = kubectl(&format!("get {line} -o json"))?;
    serde_json::from_str(&text).with_context(|| format!("the JSON of {line}"))
}

/// The items of a list.
pub fn list(line: &str) -> Result<Vec<Value>> {
    let mut found = get(line)?;
    let items = found["items"].as_array_mut().with_context(|| format!("{line} is no list"))?;
    Ok(std::mem::take(items))
}

/// Runs `kubectl` with these arguments and this input.
pub fn call(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("kubectl");
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start kubectl")?;
    // What it does not read, it does not need.
    let _ = child.stdin.take().context("no input")?.write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    let (text, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "kubectl {}: {text}{error}", arguments.join(" "));
    Ok(text.into_owned())
}

/// Whether a condition of an object is true.
pub fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True")
}

/// Name of an object.
pub fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Names of the nodes that are ready.
pub fn ready_nodes() -> Result<Vec<String>> {
    let nodes = list("nodes")?;
    Ok(nodes.iter().filter(|node| has_condition(node, "Ready")).map(name).collect())
}

/// The address by which a node is known in the cluster.
pub fn node_address(node: &str) -> Result<String> {
    let node = get(&format!("node {node}"))?;
    let addresses = node["status"]["addresses"].as_array().context("no addresses")?;
    let internal = addresses.iter().find(|address| address["type"] == "InternalIP");
    let address = internal.and_then(|address| address["address"].as_str());
    Ok(address.context("no internal address")?.to_owned())
}
