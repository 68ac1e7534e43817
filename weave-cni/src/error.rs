//! What a runtime is told when something failed (CNI specification 1.1.0, "Error").

use std::io;

use serde_json::{Value, json};
use weave_host::HostError;

use crate::version::CniVersion;

/// An error object.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{msg}")]
pub struct CniError {
    /// What kind of failure: below 100 the specification says what it means.
    pub code: u32,
    /// What it is.
    pub msg: String,
    /// Why, or what to do about it; may be empty.
    pub details: String,
}

/// The kinds we tell.
impl CniError {
    /// Incompatible CNI version.
    pub const VERSION: u32 = 1;
    /// Unsupported field in the configuration.
    pub const FIELD: u32 = 2;
    /// The container does not exist; nothing has to be cleaned up.
    pub const NO_CONTAINER: u32 = 3;
    /// An environment variable is missing or makes no sense.
    pub const ENVIRONMENT: u32 = 4;
    /// Input or output failed.
    pub const IO: u32 = 5;
    /// The configuration cannot be decoded.
    pub const DECODING: u32 = 6;
    /// The configuration makes no sense.
    pub const CONFIG: u32 = 7;
    /// Something is not there yet: try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: no container can be added at present.
    pub const NOT_AVAILABLE: u32 = 50;
    /// Of our own: the host did not do it.
    pub const HOST: u32 = 100;
    /// Of our own: the router, or another IPAM plugin, refused.
    pub const REFUSED: u32 = 101;
    /// Of our own: CHECK found something else than ADD left.
    pub const CHANGED: u32 = 102;

    pub(crate) fn new(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: details.into() }
    }

    pub(crate) fn io(msg: &str, error: &io::Error) -> Self {
        Self::new(Self::IO, msg, error.to_string())
    }

    pub(crate) fn config(msg: impl Into<String>) -> Self {
        Self::new(Self::CONFIG, msg, "")
    }

    pub(crate) fn changed(msg: impl Into<String>) -> Self {
        Self::new(Self::CHANGED, msg, "")
    }

    /// Creates the error of a host that did not do what was tried.
    pub(crate) fn host(action: &str, error: &HostError) -> Self {
        let code = match error {
            HostError::NoNamespace { .. } => Self::NO_CONTAINER,
            HostError::HostNamespace { .. } => Self::ENVIRONMENT,
            // The router makes the bridge when it starts.
            HostError::NoInterface { .. } => Self::TRY_AGAIN,
            _ => Self::HOST,
        };
        Self::new(code, action, error.to_string())
    }

    /// Returns what is printed.
    pub(crate) fn object(&self, version: CniVersion) -> Value {
        let mut object =
            json!({ "cniVersion": version.text(), "code": self.code, "msg": self.msg });
        if !self.details.is_empty() {
            object["details"] = self.details.clone().into();
        }
        object
    }
}
