//! `weave kube manifest`: what `kubectl apply` makes a pod network from. Names, labels, the
//! selector and the paths on hosts are those of Weave Net 2.x (spec kube.md, sections 1 and 15), so
//! that it replaces a running one in place.

mod access;
mod daemon_set;
mod once;
mod options;
mod volumes;

use std::io::Write as _;

use serde_json::{Value, json};

use crate::error::CommandError;
pub(crate) use options::Manifest;
use options::{Purpose, Wish};

/// Every object has this name, and a label `name` that says the same.
const NAME: &str = "weave-net";
const NAMESPACE: &str = "kube-system";

/// Whether this program has `weave npc`, which enforces network policies. Nothing waits for
/// policies where nothing enforces them.
const HAS_POLICY_CONTROLLER: bool = false;

impl Manifest {
    /// Prints it.
    ///
    /// # Errors
    /// A router would not start with these values.
    pub(crate) fn run(self) -> Result<(), CommandError> {
        let text = self.text()?;
        // Whoever does not read to the end has what he wants.
        let _ = std::io::stdout().write_all(text.as_bytes());
        Ok(())
    }

    fn text(self) -> Result<String, CommandError> {
        let wish = self.wish()?;
        let mut text = format!(
            "# weave {}, printed by `weave kube manifest`. What it takes: `weave kube manifest \
             --help`.\n",
            env!("CARGO_PKG_VERSION")
        );
        for object in objects(&wish) {
            let yaml = serde_saphyr::to_string(&object)
                .map_err(|error| CommandError::Failed(format!("cannot write YAML: {error}")))?;
            text.push_str("---\n");
            text.push_str(yaml.trim_end());
            text.push('\n');
        }
        Ok(text)
    }
}

/// All objects, those that others need before them.
fn objects(wish: &Wish) -> Vec<Value> {
    match wish.purpose {
        Purpose::Network => {
            let mut objects = access::objects(wish);
            objects.push(daemon_set::object(wish));
            objects
        }
        Purpose::Uninstall => vec![once::uninstall(wish)],
    }
}

/// The name of an object; all but two kinds are of the namespace.
fn metadata(is_namespaced: bool) -> Value {
    let mut metadata = json!({ "name": NAME, "labels": { "name": NAME } });
    if is_namespaced {
        metadata["namespace"] = NAMESPACE.into();
    }
    metadata
}

#[cfg(test)]
mod tests;
