//! A port of the embedder's own: a station that notes what it hears.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use weave_node::core::mesh::PeerName;
use weave_node::core::switch::{Frame, Inject};
use weave_node::sleeve::port::{Capture, Offloads, Port, PortCounters};

use crate::PATIENCE;
use crate::memory::Memory;

/// A station; clones are of the same one.
#[derive(Clone, Default)]
pub struct Station {
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    counters: Arc<PortCounters>,
}

impl Station {
    /// Sends a broadcast, from the node of that name, until all others have heard it.
    pub async fn reaches(&self, memory: &Memory, from: PeerName, others: &[&Self]) {
        let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], b"hello"].concat();
        let send = async {
            while !others.iter().all(|station| station.heard.lock().unwrap().contains(&frame)) {
                memory.capture(from, &frame);
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, send).await.expect("all stations hear the frame");
        assert!(self.heard.lock().unwrap().is_empty(), "nothing comes back");
    }
}

impl Port for Station {
    fn queues(&self) -> usize {
        0
    }

    fn capture(&mut self) -> io::Result<Box<dyn Capture>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn injector(&self) -> io::Result<Box<dyn Inject + Send>> {
        Ok(Box::new(self.clone()))
    }

    fn offloads(&self) -> Offloads {
        Offloads::default()
    }

    fn counters(&self) -> Arc<PortCounters> {
        Arc::clone(&self.counters)
    }
}

impl Inject for Station {
    fn inject(&mut self, frame: Frame<'_>) {
        self.heard.lock().unwrap().push(frame.bytes.to_vec());
    }
}
