//! Where the peers come from that a node connects to, besides its start and HTTP: a file, a
//! directory service, an orchestrator.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc;

/// A list of peers, as `host` or `host:port`, and the future that returns it.
pub type NextPeers<'a> = Pin<Box<dyn Future<Output = Option<Vec<String>>> + Send + 'a>>;

/// Something that knows peers, and learns of others.
///
/// What it names is connected to besides what the user asked for, and is not stored: it is asked
/// anew after a restart.
pub trait PeerSource: Send + 'static {
    /// Waits until there is a list, at first at once, and then until it is another one. `None` if
    /// it will not change any more. The future may be dropped and made again at any time.
    fn next(&mut self) -> NextPeers<'_>;
}

impl PeerSource for mpsc::Receiver<Vec<String>> {
    fn next(&mut self) -> NextPeers<'_> {
        Box::pin(self.recv())
    }
}
