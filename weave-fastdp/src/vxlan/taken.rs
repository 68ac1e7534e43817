//! UDP ports that another program holds.
//!
//! The kernel brings no device up on one of them. Programs end, so it is no reason to do without
//! the engine, nor to give a tunnel up: devices come when the port is free.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Those that are known.
#[derive(Debug, Default)]
pub(super) struct TakenPorts(Mutex<BTreeSet<u16>>);

impl TakenPorts {
    /// The kernel has said that somebody else has it.
    pub(super) fn note(&self, port: u16) {
        if self.lock().insert(port) {
            tracing::warn!(
                port,
                "another program uses the UDP port of fastdp: sleeve until it is free"
            );
        }
    }

    pub(super) fn contains(&self, port: u16) -> bool {
        self.lock().contains(&port)
    }

    /// For the operator, if it is taken.
    pub(super) fn problem(&self, port: u16) -> Option<String> {
        let problem = || format!("another program uses UDP port {port} of this host");
        self.contains(port).then(problem)
    }

    /// Forgets those that are free by now. To ask for a port costs less than a device on trial, of
    /// which all who watch the devices of the host would hear.
    pub(super) fn look_again(&self) {
        self.lock().retain(|port| {
            let asked = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, *port));
            let taken = asked.is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
            if !taken {
                tracing::info!(port, "the UDP port of fastdp is free");
            }
            taken
        });
    }

    /// A panic in a call leaves a set.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_until_its_program_ends() {
        let program = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = program.local_addr().unwrap().port();
        let taken = TakenPorts::default();
        assert_eq!(taken.problem(port), None);
        taken.note(port);
        taken.look_again();
        let problem = format!("another program uses UDP port {port} of this host");
        assert_eq!(taken.problem(port), Some(problem));
        drop(program);
        taken.look_again();
        assert!(!taken.contains(port));
    }
}
