//! The parts of a configuration in which a runtime asks for something.

use serde_json::{Map, Value};

/// The parts of a configuration in which request are found.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct RequestKeys {
    pub(crate) capabilities: Map<String, Value>,
    pub(crate) runtime: Map<String, Value>,
    pub(crate) args: Value,
    /// What else is in the configuration.
    pub(crate) rest: Map<String, Value>,
    /// What else is in its `ipam`.
    pub(crate) ipam_rest: Map<String, Value>,
}
