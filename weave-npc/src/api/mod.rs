//! Objects as the API server has them in JSON, and how they are read.
//!
//! ```text
//!   JSON ──serde──▶ api::NetworkPolicy ──read()──▶ Policy, and what is wrong with it
//! ```
//!
//! Only the fields that decide are decoded, so that a watch of many pods stays small. The API
//! server checks what it stores; what gets here all the same and cannot be understood, say because
//! a later version means something by it, **allows nothing**: a peer or port that is left out of a
//! rule, never a rule that is left out of a policy as if it did not restrict. Each such thing is a
//! [`Problem`] with the path of its field.

mod pod;
mod policy;
mod selector;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

pub use pod::Pod;
pub use policy::NetworkPolicy;
pub use selector::LabelSelector;

use crate::object;

/// What is known of every object.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its namespace, if it is in one.
    pub namespace: Option<String>,
    /// Tells two objects apart that had one name.
    pub uid: Option<String>,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// When it was created.
    pub creation_timestamp: Option<String>,
    /// The version of this state of it.
    pub resource_version: Option<String>,
}

impl Metadata {
    pub(crate) fn object_name(&self) -> object::ObjectName {
        // Where none is written, kubectl and the API server mean this one.
        let namespace = self.namespace.as_deref().unwrap_or("default");
        object::ObjectName::new(namespace, &self.name)
    }
}

/// A namespace.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {
    /// Name and labels.
    pub metadata: Metadata,
}

/// The label that the API server puts on each namespace, with its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Namespace {
    /// Reads it.
    pub fn read(self) -> object::Namespace {
        let Metadata { name, labels, .. } = self.metadata;
        object::Namespace { name, labels: labels.unwrap_or_default() }
    }

    /// Adds what the API server would add, to one that it has not seen.
    #[must_use]
    pub fn with_defaults(mut self) -> Self {
        let labels = self.metadata.labels.get_or_insert_default();
        labels.insert(NAME_LABEL.to_owned(), self.metadata.name.clone());
        self
    }
}

/// A field that cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where it is, e.g. `spec.ingress[0].from[1].ipBlock.cidr`.
    pub path: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Collects problems below one path.
struct Problems<'a> {
    path: String,
    found: &'a mut Vec<Problem>,
}

impl Problems<'_> {
    fn at(&mut self, part: impl fmt::Display) -> Problems<'_> {
        let path = match self.path.as_str() {
            "" => part.to_string(),
            path => format!("{path}.{part}"),
        };
        Problems { path, found: self.found }
    }

    fn add(&mut self, what: impl Into<String>) {
        self.found.push(Problem { path: self.path.clone(), what: what.into() });
    }
}
