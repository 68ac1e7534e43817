//! What the engine does on its host before any tunnel is opened.

use std::io;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use weave_rtnl::Link;

use super::busy_ports::BusyPorts;
use super::config::{VxlanConfig, VxlanError};
use super::devices::{Device, Installed, PREFIX, VXLAN, is_isolated};
use super::kernel::{Kernel, index_of};
use super::retained::Retained;
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
fn remove_devices(kernel: &mut Kernel, bridge: &str) -> Result<(), VxlanError> {
    take_over(kernel, bridge, false).map(drop)
}

/// Takes over the devices that an earlier router of this bridge left behind, as far as they are in
/// order and `adopt` says so, and deletes the others.
pub(super) fn take_over(
    kernel: &mut Kernel,
    bridge: &str,
    adopt: bool,
) -> Result<Retained, VxlanError> {
    let failed = |what| move |source| VxlanError::Kernel { what, source };
    let (now, index) = (Instant::now(), index_of(bridge));
    let mut retained = Retained::default();
    for found in kernel.links().map_err(failed("cannot list the devices"))? {
        let is_leftover = found.kind == VXLAN
            && found.name.starts_with(PREFIX)
            && found.alias.as_deref() == Some(bridge);
        if !is_leftover {
            continue;
        }
        match adopt.then(|| in_order(kernel, &found, index)).flatten() {
            Some(installed) => retained.retain(now, installed),
            None => {
                tracing::info!(device = found.name, "removed a device of an earlier router");
                kernel.delete(found.index).map_err(failed("cannot remove an old device"))?;
            }
        }
    }
    let count = retained.iter().count();
    if count > 0 {
        tracing::info!(devices = count, "devices of the router before this one go on");
    }
    Ok(retained)
}

/// Returns what a device of an earlier router is, if the kernel carries frames by it.
fn in_order(kernel: &mut Kernel, found: &Link, bridge: Option<u32>) -> Option<Installed> {
    let is_port = bridge.is_some() && found.controller == bridge;
    if !is_port || !found.up || !is_isolated(found, true) {
        return None;
    }
    let device = kernel.device(found)?;
    Some(Installed { device, index: found.index, learning: true })
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
