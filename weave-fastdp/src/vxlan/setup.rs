//! What the engine does on its host before any tunnel is opened.

use std::io;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use super::busy_ports::BusyPorts;
use super::config::{VxlanConfig, VxlanError};
use super::devices::{Device, VXLAN};
use super::kernel::{Kernel, index_of};
use super::shared::PREFIX;
use crate::vni::Vni;

/// MTU of devices, wide enough for any frame: a bridge silently drops frames that are longer than
/// the MTU of a port, while VXLAN reports them to the sender (`IP_MAX_MTU`, less the headers around
/// the packet).
pub(super) const DEVICE_MTU: u32 = 65_535 - 64;
/// VNI that no pair of peers has, since both short ids are the same.
const PROBE_VNI: u32 = 0xff_ffff;
/// Number of attempts to get a UDP port, and the pause between them.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Deletes the devices that an earlier router of this bridge left behind, for a router without
/// them.
///
/// # Errors
/// Fails if the kernel refuses.
pub fn remove_leftovers(bridge: &str) -> Result<(), VxlanError> {
    let failed = |source| VxlanError::Kernel { what: "cannot open a routing socket", source };
    remove_devices(&mut Kernel::open().map_err(failed)?, bridge)
}

/// Deletes the devices that an earlier router of this bridge left behind.
pub(super) fn remove_devices(kernel: &mut Kernel, bridge: &str) -> Result<(), VxlanError> {
    let failed = |what| move |source| VxlanError::Kernel { what, source };
    for found in kernel.links().map_err(failed("cannot list the devices"))? {
        let is_leftover = found.kind == VXLAN
            && found.name.starts_with(PREFIX)
            && found.alias.as_deref() == Some(bridge);
        if is_leftover {
            tracing::info!(device = found.name, "removed a device of an earlier router");
            kernel.delete(found.index).map_err(failed("cannot remove an old device"))?;
        }
    }
    Ok(())
}

/// Creates, and deletes again, what a tunnel needs.
pub(super) fn probe_support(
    kernel: &mut Kernel,
    config: &VxlanConfig,
    busy_ports: &BusyPorts,
) -> Result<(), VxlanError> {
    let failed = |what| move |source| VxlanError::Kernel { what, source };
    let bridge = index_of(&config.bridge)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        .map_err(failed("there is no bridge"))?;
    let Some(vni) = Vni::new(PROBE_VNI) else { return Ok(()) };
    let device = Device {
        name: format!("{PREFIX}try{}", std::process::id() % 1_000_000),
        vni,
        local: Ipv4Addr::LOCALHOST,
        remote: Ipv4Addr::LOCALHOST,
        port: config.port,
    };
    let index =
        kernel.create(&device, bridge, DEVICE_MTU).map_err(failed("cannot make a VXLAN device"))?;
    let mut tried = kernel.isolate(index).map_err(failed("the bridge cannot isolate ports"));
    if tried.is_ok() {
        tried = match bring_up(kernel, index) {
            Err(error) if is_busy(&error) => {
                busy_ports.add(config.port);
                Ok(())
            }
            result => result.map_err(failed("cannot use a VXLAN device")),
        };
    }
    kernel.delete(index).map_err(failed("cannot remove a device"))?;
    tried
}

/// Brings a device up. Its UDP port is free only a moment after its last device is deleted.
pub(super) fn bring_up(kernel: &mut Kernel, index: u32) -> io::Result<()> {
    let mut attempt = 0;
    loop {
        match kernel.set_up(index) {
            Err(error) if is_busy(&error) && attempt < ATTEMPTS => {
                attempt += 1;
                sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// Returns whether an error says that another program uses the UDP port.
pub(super) fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EADDRINUSE)
}
