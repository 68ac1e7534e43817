//! Kernel settings under `/proc/sys/net`, which show those of the calling thread's namespace.

use std::fs;
use std::io;

/// Writes a setting if the kernel has it. A container often sees them read-only, and everything
/// works without, so a failure is only noted.
pub(crate) fn set(setting: &str, value: &str) {
    match write(setting, value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(setting, %error, "kernel setting left as it is");
        }
        _ => {}
    }
}

fn write(setting: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/{setting}"), value)
}

/// Forget a dead neighbour within seconds: an address may move to another container (spec
/// router.md, section 6).
pub(crate) fn expire_neighbours_soon(interface: &str) {
    for (setting, value) in
        [("base_reachable_time", "5"), ("delay_first_probe_time", "2"), ("ucast_solicit", "1")]
    {
        set(&format!("ipv4/neigh/{interface}/{setting}"), value);
    }
}

/// Answer ARP for the addresses of this interface alone, and ask with one of them; and take packets
/// although the way back to their sender is by another interface of the same network, as it is for
/// all but the first. Without the last, strict reverse path filtering (RFC 3704), which Debian and
/// others switch on, drops what comes for the others.
pub(crate) fn answer_for_own_addresses(interface: &str) {
    set(&format!("ipv4/conf/{interface}/arp_ignore"), "1");
    set(&format!("ipv4/conf/{interface}/arp_announce"), "2");
    // The stricter of both counts, and 2, which is loose, is the greater number.
    let is_strict = |interface: &str| is(&format!("ipv4/conf/{interface}/rp_filter"), "1");
    if is_strict("all") || is_strict(interface) {
        set(&format!("ipv4/conf/{interface}/rp_filter"), "2");
    }
}

fn is(setting: &str, value: &str) -> bool {
    fs::read_to_string(format!("/proc/sys/net/{setting}")).is_ok_and(|text| text.trim() == value)
}

/// Take no address from router advertisements that cross the switch.
pub(crate) fn ignore_router_advertisements(interface: &str) {
    set(&format!("ipv6/conf/{interface}/accept_ra"), "0");
}

/// Nobody speaks through this interface but the router: it has no addresses of its own.
pub(crate) fn without_ipv6(interface: &str) {
    set(&format!("ipv6/conf/{interface}/disable_ipv6"), "1");
}

/// Tell the neighbours about a new IPv6 address (RFC 4861, section 7.2.6).
pub(crate) fn announce_ipv6(interface: &str) {
    set(&format!("ipv6/conf/{interface}/ndisc_notify"), "1");
}

/// Tell the neighbours about the IPv4 addresses when the Ethernet address is set.
pub(crate) fn announce_ipv4(interface: &str) -> io::Result<()> {
    write(&format!("ipv4/conf/{interface}/arp_notify"), "1")
}
