//! The error of a link, by what is to blame for it.

use std::error::Error;
use std::sync::Arc;

use crate::ipsec::IpsecError;

/// An error that several links share, since all of them end by it.
pub type SharedError = Arc<dyn Error + Send + Sync>;

/// Reasons why the tunnel of a link cannot be set up, or why it broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// The kernel does not create the device of the tunnel.
    #[error("cannot create the VXLAN device {device}: {source}")]
    Device {
        /// Name of the device.
        device: String,
        /// Reason given by the kernel.
        source: std::io::Error,
    },
    /// The kernel does not create the port of the datapath for VXLAN.
    #[error("no port for VXLAN on UDP {udp_port}: {source}")]
    Port {
        /// UDP port of the tunnel.
        udp_port: u16,
        /// Reason why there is no port.
        source: SharedError,
    },
    /// Another program deleted the port of the datapath, and it cannot be recreated.
    #[error("another program deleted port {name} of the datapath: {source}")]
    PortDeleted {
        /// Name of the port.
        name: String,
        /// Reason why it cannot be recreated.
        source: SharedError,
    },
    /// The engine stopped, and all of its tunnels with it.
    #[error("{0}")]
    Engine(SharedError),
    /// The tunnel cannot be encrypted.
    #[error(transparent)]
    Encryption(#[from] IpsecError),
}
