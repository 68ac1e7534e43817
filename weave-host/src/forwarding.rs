//! Whether this host forwards packets: without that, a container with a gateway has no way out.

use std::fs;
use std::io;

use crate::error::HostError;

/// Of the network namespace of the thread that reads it.
const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Whether the host forwards IPv4 between its interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forwarding {
    /// It did before.
    On,
    /// It does now.
    SwitchedOn,
    /// It does not.
    Off,
}

/// Returns whether this host forwards IPv4. If it does not, and `switch_on` is set, it does
/// afterwards.
///
/// # Errors
/// It cannot be switched on: in a container, the setting is often read-only.
pub fn forwarding(switch_on: bool) -> Result<Forwarding, HostError> {
    let failed = |action: &str, source: io::Error| {
        HostError::kernel(format!("{action} net.ipv4.ip_forward"), "forwarding", source)
    };
    let setting = fs::read_to_string(SETTING).map_err(|error| failed("read", error))?;
    match (setting.trim() == "0", switch_on) {
        (false, _) => Ok(Forwarding::On),
        (true, false) => Ok(Forwarding::Off),
        (true, true) => {
            fs::write(SETTING, "1").map_err(|error| failed("switch on", error))?;
            Ok(Forwarding::SwitchedOn)
        }
    }
}
