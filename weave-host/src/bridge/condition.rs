//! Whether the bridge and the router's port on it are as they should be.

use super::config::BridgeConfig;
use super::port_fault::{PortFault, faults};
use crate::error::HostError;
use crate::namespace::run_here;

/// What a look at the bridge and the port on it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// The bridge is up, has its address and MTU, and the port is a port of it, passes everything
    /// and is no narrower.
    InOrder,
    /// Something of that is not so: [`prepare_bridge`](crate::prepare_bridge) and
    /// [`join`](crate::join) mend it.
    Damaged,
    /// There is no port of that name: it has to be made anew.
    NoPort,
}

/// Looks at the bridge and the port on it.
///
/// # Errors
/// If the kernel refuses.
pub fn condition(config: &BridgeConfig, port: &str) -> Result<Condition, HostError> {
    run_here(|netlink| {
        let Some(port) = netlink.link_by_name(port)? else {
            return Ok(Condition::NoPort);
        };
        let bridge = netlink.link_by_name(&config.name)?;
        let in_order = bridge.is_some_and(|bridge| {
            // This port is isolated on purpose.
            let mut faults = faults(&bridge, &port).into_iter();
            let connected = faults.all(|fault| fault == PortFault::Isolated);
            let wide_enough = bridge.mtu == config.mtu && port.mtu >= config.mtu;
            let isolated = port.port.isolated != Some(false);
            connected && wide_enough && isolated && bridge.up && bridge.mac == Some(config.mac.0)
        });
        Ok(if in_order { Condition::InOrder } else { Condition::Damaged })
    })
}
