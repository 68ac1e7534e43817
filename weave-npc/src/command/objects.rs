//! The objects of the cluster, asked for once, or from files.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::run::client;
use super::{CommandError, failed};
use crate::api;
use crate::cluster::{Change, Cluster};
use crate::controller::snapshot;

/// The largest file that is read: more than the API server takes in one object, and than `kubectl get
/// -o json` prints of a large cluster.
const MAX_FILE: u64 = 256 << 20;

/// Where the objects are from.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// Take pods, namespaces and policies from this file, as `kubectl get
    /// pods,namespaces,networkpolicies -A -o json` prints them, and not from the API server.
    #[arg(long, value_name = "FILE")]
    objects: Option<PathBuf>,
}

impl Source {
    pub(super) async fn read(&self) -> Result<Cluster, CommandError> {
        match &self.objects {
            None => {
                let changes = snapshot(&client().await?).await;
                let changes =
                    changes.map_err(|error| failed("the API server does not answer", &error))?;
                Ok(changes.into_iter().collect())
            }
            Some(path) => Ok(read_file(path)?.into_iter().map(|object| object.change).collect()),
        }
    }
}

/// An object of a file.
pub(super) struct FileObject {
    pub(super) change: Change,
    pub(super) problems: Vec<api::Problem>,
}

/// Reads pods, namespaces and policies from a file of JSON or YAML: one object, several, or
/// lists.
pub(super) fn read_file(path: &Path) -> Result<Vec<FileObject>, CommandError> {
    let name = path.display().to_string();
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| failed(&name, &error))?;
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text);
    if read.map_err(|error| failed(&name, &error))? as u64 > MAX_FILE {
        return Err(CommandError::Failed(format!("{name}: longer than {MAX_FILE} bytes")));
    }
    let mut objects = Vec::new();
    for value in
        documents(&text).map_err(|error| CommandError::Failed(format!("{name}: {error}")))?
    {
        collect(&name, value, &mut objects)?;
    }
    Ok(objects)
}

/// Reads JSON, which may be large, or YAML, which people write.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    if text.trim_start().starts_with('{') {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        values.collect::<Result<_, _>>().map_err(|error| format!("not JSON: {error}"))
    } else {
        let values = serde_saphyr::from_multiple::<Value>(text);
        let mut values = values.map_err(|error| {
            let error = error.to_string();
            format!("not YAML: {}", error.lines().next().unwrap_or_default())
        })?;
        values.retain(|value| !value.is_null());
        Ok(values)
    }
}

fn collect(
    name: &str,
    mut value: Value,
    objects: &mut Vec<FileObject>,
) -> Result<(), CommandError> {
    fn read<'a, T: Deserialize<'a>>(name: &str, value: Value) -> Result<T, CommandError> {
        T::deserialize(value).map_err(|error| failed(name, &error))
    }
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let object = match kind.as_str() {
        "List" | "PodList" | "NamespaceList" | "NetworkPolicyList" => {
            if let Value::Array(items) = value["items"].take() {
                // Items of a list are no lists.
                for item in items.into_iter().filter(|item| item.get("items").is_none()) {
                    collect(name, item, objects)?;
                }
            }
            return Ok(());
        }
        "Pod" => {
            let change = Change::Pod(Box::new(read::<api::Pod>(name, value)?.read()));
            FileObject { change, problems: Vec::new() }
        }
        "Namespace" => {
            let change =
                Change::Namespace(read::<api::Namespace>(name, value)?.with_defaults().read());
            FileObject { change, problems: Vec::new() }
        }
        "NetworkPolicy" => {
            let policy = read::<api::NetworkPolicy>(name, value)?.with_defaults();
            let (policy, problems) = policy.read();
            FileObject { change: Change::Policy(policy), problems }
        }
        other => {
            return Err(CommandError::Failed(format!(
                "{name}: {other:?} is no kind that policies are about: \
                 Pod, Namespace and NetworkPolicy are"
            )));
        }
    };
    objects.push(object);
    Ok(())
}
