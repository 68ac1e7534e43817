//! IPv6 of this host.

use std::path::Path;

/// Returns whether this host can have packets of IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    // Only there with the protocol, and that of this thread's network namespace.
    Path::new("/proc/thread-self/net/if_inet6").exists()
}
