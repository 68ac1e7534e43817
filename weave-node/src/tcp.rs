//! The tcp overlay as a transport of a node.

use std::net::SocketAddr;

use weave_core::switch::{Overlay, Worker};
use weave_tcp::{Tcp, TcpThread};

use crate::transport::{Transport, TransportContext};

/// Frames over TCP connections, for networks that let no UDP through ([`weave_tcp`]). It belongs
/// last in the order of preference:
///
/// ```no_run
/// use weave_node::{Bridge, Firewall, Node, Preference, TcpTransport};
///
/// let transport = TcpTransport::new(([0, 0, 0, 0], 6785).into());
/// // Containers do not reach its port.
/// let bridge = Bridge::named("weave").firewall(Firewall::default().close(6785));
/// let node = Node::builder().bridge(bridge).overlay_at(Preference::Last, transport);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TcpTransport {
    address: SocketAddr,
}

impl TcpTransport {
    /// Returns a transport that listens on this TCP address.
    pub const fn new(address: SocketAddr) -> Self {
        Self { address }
    }
}

impl Transport for TcpTransport {
    fn start(self: Box<Self>, context: TransportContext) -> Result<Box<dyn Overlay>, String> {
        let (tcp, streams) = Tcp::bind(self.address)
            .map_err(|error| format!("cannot listen on TCP {}: {error}", self.address))?;
        let worker = Worker::new(context.switch).map_err(|error| error.to_string())?;
        let thread = TcpThread::spawn(streams, worker, context.injector, context.clock)
            .map_err(|error| error.to_string())?;
        Ok(Box::new(tcp.with_thread(thread)))
    }
}
