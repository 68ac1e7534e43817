//! A host for a test, and packets on it.

use std::net::UdpSocket;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// A socket that hears nothing at once if there is nothing to hear: what is sent on loopback is
/// there when it is sent.
pub fn receiver() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Whether a datagram to this socket arrives.
pub fn arrives(socket: &UdpSocket) -> bool {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The kernel says so if an own packet is dropped on its way out; on its way in it does not.
    sender.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    socket.recv(&mut [0; 8]).is_ok()
}

/// Runs a command, which must succeed.
pub fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{line}");
}

/// Runs a test in a network namespace of its own.
pub fn isolated(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            test();
        });
        if let Err(panic) = host.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
