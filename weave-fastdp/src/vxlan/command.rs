//! The commands to the thread that keeps the devices of the tunnels.

use std::sync::Arc;

use weave_core::wire::MacAddress;

use super::tunnel::VxlanTunnel;

/// A command to the controller.
pub(super) enum Command {
    /// Create the device of a tunnel.
    Open(Arc<VxlanTunnel>),
    /// Delete the device of a tunnel.
    Close { tunnel: u64 },
    /// Follow a change of whether the kernel may carry frames of a tunnel by itself.
    Offload { tunnel: u64 },
    /// Tell the bridge that a station is behind a tunnel.
    Station { tunnel: u64, mac: MacAddress },
    /// Forget what the bridge has learned from this port, where a station is not.
    Misled { port: u32 },
    /// Follow a change of the short ids.
    ShortIds,
    /// Follow a change of the routes.
    Routes,
    /// Delete all devices and stop.
    Stop,
}
