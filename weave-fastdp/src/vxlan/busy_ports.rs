//! UDP ports that other programs use.
//!
//! The kernel brings up no device on such a port. Programs end, so neither the engine nor a tunnel
//! is given up: devices are created when the port is free.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The UDP ports that are known to be in use by other programs.
#[derive(Debug, Default)]
pub(super) struct BusyPorts(Mutex<BTreeSet<u16>>);

impl BusyPorts {
    /// Adds a port that the kernel has reported as busy.
    pub(super) fn add(&self, port: u16) {
        if self.lock().insert(port) {
            tracing::warn!(
                port,
                "another program uses the UDP port of fastdp: using sleeve until it is free"
            );
        }
    }

    /// Returns whether a port is known to be busy.
    pub(super) fn contains(&self, port: u16) -> bool {
        self.lock().contains(&port)
    }

    /// Returns a text for the operator if a port is busy.
    pub(super) fn problem(&self, port: u16) -> Option<String> {
        let problem = || format!("another program uses UDP port {port} of this host");
        self.contains(port).then(problem)
    }

    /// Removes ports that are free by now. Binding a socket is cheaper than creating a device,
    /// which all programs that watch the devices of the host would notice.
    pub(super) fn recheck(&self) {
        self.lock().retain(|port| {
            let bound = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, *port));
            let busy = bound.is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
            if !busy {
                tracing::info!(port, "the UDP port of fastdp is free");
            }
            busy
        });
    }

    /// Locks the set, also after a panic, which leaves it whole.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_busy_until_its_program_ends() {
        let program = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = program.local_addr().unwrap().port();
        let busy = BusyPorts::default();
        assert_eq!(busy.problem(port), None);
        busy.add(port);
        busy.recheck();
        let problem = format!("another program uses UDP port {port} of this host");
        assert_eq!(busy.problem(port), Some(problem));
        drop(program);
        busy.recheck();
        assert!(!busy.contains(port));
    }
}
