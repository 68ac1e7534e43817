//! The thread that receives.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use weave_core::switch::{Inject, Worker};
use weave_core::time::Clock;

use crate::shared::Shared;
use crate::streams::Streams;

/// Receives the frames of all neighbours, opens and accepts their TCP connections. It ends when
/// this is dropped.
#[derive(Debug)]
pub struct TcpThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl TcpThread {
    /// Starts the thread. Frames for the local bridge go to `port`; `clock` is the clock of the
    /// control plane.
    ///
    /// # Errors
    /// The system has no further thread.
    pub fn spawn(
        streams: Streams,
        mut worker: Worker,
        mut port: impl Inject + Send + 'static,
        clock: Clock,
    ) -> io::Result<Self> {
        let shared = streams.shared().clone();
        let run = move || {
            if let Err(error) = streams.run(&mut worker, &mut port, &clock) {
                tracing::error!(%error, "the tcp overlay ended");
            }
        };
        let thread = Builder::new().name("weave-tcp".to_owned()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for TcpThread {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
