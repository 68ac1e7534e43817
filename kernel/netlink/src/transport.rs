//! The interface between requests and the socket that carries them.

use std::io;

/// A transport carries datagrams to the kernel and back.
pub trait Transport {
    /// Sends a datagram to the kernel.
    ///
    /// # Errors
    /// Fails if the socket fails.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// Waits for the next datagram from the kernel and stores it in `buffer`.
    ///
    /// # Errors
    /// Fails if the socket fails, with `ENOBUFS` if datagrams were lost.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()>;
}
