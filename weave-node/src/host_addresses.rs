//! Addresses of the host on the bridge, for the program that has the node.

use std::fmt;
use std::sync::Arc;

use weave_core::Cidr;
use weave_host::HostAddress;

use crate::control::Control;
use crate::http::{self, ExposeError};

/// The addresses of the host. Clones are of the same ones.
#[derive(Clone)]
pub struct HostAddresses(Arc<Control>);

impl fmt::Debug for HostAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostAddresses").finish()
    }
}

/// Why the host does not get an address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostAddressError {
    /// Somebody on the switch has it.
    #[error("{0}")]
    InUse(String),
    /// There is no bridge, or the host refuses.
    #[error("{0}")]
    Failed(String),
}

impl From<ExposeError> for HostAddressError {
    fn from(error: ExposeError) -> Self {
        match error {
            ExposeError::InUse(text) => Self::InUse(text),
            ExposeError::Refused(text) | ExposeError::Failed(text) => Self::Failed(text),
        }
    }
}

impl HostAddresses {
    pub(crate) const fn new(control: Arc<Control>) -> Self {
        Self(control)
    }

    /// Gives the host an address on the bridge. With `masquerade`, what leaves the switch by it has
    /// the host's own address outside.
    ///
    /// # Errors
    /// Somebody else has the address, or it cannot be given.
    pub async fn expose(&self, cidr: Cidr, masquerade: bool) -> Result<(), HostAddressError> {
        let address = HostAddress { cidr, masquerade };
        Ok(http::Control::expose(&*self.0, address).await?)
    }

    /// Returns the addresses the host has on the bridge.
    pub fn exposed(&self) -> Vec<Cidr> {
        http::Control::exposed(&*self.0).into_iter().map(|address| address.cidr).collect()
    }
}
