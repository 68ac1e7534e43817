//! Records that wait for the socket of a link.

use std::io::{self, Write as _};
use std::sync::Arc;

use mio::net::TcpStream;

use crate::seal::Sealer;
use crate::wire::Content;

/// Bytes that wait at most. A stream carries streams: what waits here delays all of them, and
/// a loss tells their senders to slow down.
const MAX_QUEUED: usize = 512 << 10;

/// The sending half of a link.
#[derive(Default)]
pub(crate) struct Outgoing(Option<Connected>);

struct Connected {
    socket: Arc<TcpStream>,
    sealer: Sealer,
    queue: Vec<u8>,
    /// Bytes at the start of the queue that the socket has taken.
    written: usize,
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queued {
    Yes,
    /// Too much waits already.
    Full,
    /// There is no TCP connection at the moment.
    NotConnected,
}

impl Outgoing {
    /// Sends over this socket from now on. What waits for another one is dropped.
    pub(crate) fn connect(&mut self, socket: Arc<TcpStream>, sealer: Sealer) {
        self.0 = Some(Connected { socket, sealer, queue: Vec::new(), written: 0 });
    }

    /// Ends the use of this socket. Returns false if it is not in use.
    pub(crate) fn disconnect(&mut self, socket: &Arc<TcpStream>) -> bool {
        let uses = self.uses(socket);
        if uses {
            self.0 = None;
        }
        uses
    }

    fn uses(&self, socket: &Arc<TcpStream>) -> bool {
        self.0.as_ref().is_some_and(|connected| Arc::ptr_eq(&connected.socket, socket))
    }

    /// Returns the socket in use.
    pub(crate) fn socket(&self) -> Option<Arc<TcpStream>> {
        self.0.as_ref().map(|connected| connected.socket.clone())
    }

    /// Appends a record.
    pub(crate) fn push(&mut self, content: &Content<'_>) -> Queued {
        let Some(connected) = &mut self.0 else { return Queued::NotConnected };
        if connected.queue.len() - connected.written >= MAX_QUEUED {
            return Queued::Full;
        }
        connected.sealer.append(&mut connected.queue, |buffer| content.encode(buffer));
        Queued::Yes
    }

    /// Gives the socket what it takes now.
    ///
    /// # Errors
    /// The TCP connection is broken; the thread that reads from it will notice as well.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let Some(connected) = &mut self.0 else { return Ok(()) };
        while connected.written < connected.queue.len() {
            match (&*connected.socket).write(&connected.queue[connected.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => connected.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Moving what is left costs no more than what was written.
        if connected.written * 2 >= connected.queue.len() {
            connected.queue.drain(..connected.written);
            connected.written = 0;
        }
        Ok(())
    }
}
