//! One router for each bridge.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::error::HostError;

/// Being the router of a bridge. Two of them would take the port on it from each other.
///
/// It is a Unix socket in the abstract namespace, which is a part of the network namespace just
/// as the bridge is, and which the kernel removes when the process ends, however that happens.
#[derive(Debug)]
pub struct BridgeClaim {
    _socket: UnixListener,
}

impl BridgeClaim {
    /// Becomes the router of this bridge.
    ///
    /// # Errors
    /// If there is one.
    pub fn acquire(bridge: &str) -> Result<Self, HostError> {
        let bind = || {
            let address = SocketAddr::from_abstract_name(format!("weave-router/{bridge}"))?;
            UnixListener::bind_addr(&address)
        };
        match bind() {
            Ok(socket) => Ok(Self { _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(HostError::Claimed { bridge: bridge.to_owned() })
            }
            Err(error) => {
                Err(HostError::kernel(format!("claim bridge {bridge}"), "Unix sockets", error))
            }
        }
    }
}
