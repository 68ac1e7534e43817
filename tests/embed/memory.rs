//! A transport of the embedder's own: a queue in memory for each node, and a thread that empties
//! it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use weave_node::core::mesh::{LinkRequest, PeerName};
use weave_node::core::switch::{
    Arrival, Envelope, Forwarded, Forwarder, Frame, Link, LinkEvent, LinkStatus, Overlay,
    PrepareError, Waker, Worker, WorkerId,
};
use weave_node::core::time::Instant;
use weave_node::{Transport, TransportContext};

/// A frame on its way: over the transport, or captured here if there is no arrival.
struct Parcel {
    arrival: Option<Arrival>,
    frame: Vec<u8>,
}

/// What joins the nodes; clones are of the same one.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<PeerName, mpsc::Sender<Parcel>>>>);

impl Memory {
    /// A station of this node sends a frame.
    pub fn capture(&self, node: PeerName, frame: &[u8]) {
        self.send(node, Parcel { arrival: None, frame: frame.to_vec() });
    }

    fn send(&self, to: PeerName, parcel: Parcel) {
        if let Some(queue) = self.0.lock().unwrap().get(&to) {
            // A node that ended takes nothing.
            let _ended = queue.send(parcel);
        }
    }
}

impl Transport for Memory {
    fn start(self: Box<Self>, context: TransportContext) -> Result<Box<dyn Overlay>, String> {
        let TransportContext { name, switch, mut injector, clock, .. } = context;
        let mut worker = Worker::new(switch).map_err(|error| error.to_string())?;
        let (queue, parcels) = mpsc::channel::<Parcel>();
        self.0.lock().unwrap().insert(name, queue);
        let thread = thread::spawn(move || {
            for Parcel { arrival, frame } in parcels {
                let mut pass = worker.pass(clock.now(), &mut injector);
                match arrival {
                    Some(arrival) => pass.received(arrival, Frame::plain(&frame)),
                    None => pass.captured(Frame::plain(&frame)),
                }
            }
        });
        Ok(Box::new(MemoryOverlay { memory: *self, name, thread: Some(thread) }))
    }
}

/// The transport of one node.
struct MemoryOverlay {
    memory: Memory,
    name: PeerName,
    thread: Option<JoinHandle<()>>,
}

impl Drop for MemoryOverlay {
    fn drop(&mut self) {
        // The thread ends with its queue.
        self.memory.0.lock().unwrap().remove(&self.name);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Overlay for MemoryOverlay {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn prepare(
        &mut self,
        _: Instant,
        request: &LinkRequest,
        _: Waker,
    ) -> Result<Box<dyn Link>, PrepareError> {
        let (memory, own, neighbour) = (self.memory.clone(), request.own, request.remote);
        let forwarder = Arc::new(MemoryForwarder { memory, own, neighbour });
        Ok(Box::new(MemoryLink { forwarder, events: VecDeque::new() }))
    }
}

const HELLO: u8 = 1;

struct MemoryLink {
    forwarder: Arc<MemoryForwarder>,
    events: VecDeque<LinkEvent>,
}

impl Link for MemoryLink {
    fn confirm(&mut self, _: Instant) {
        self.events.push_back(LinkEvent::Control { message: HELLO, data: Vec::new() });
    }

    fn handle_control(&mut self, _: Instant, message: u8, _: &[u8]) {
        if message == HELLO {
            self.events.push_back(LinkEvent::Established);
        }
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    fn forwarder(&self) -> Arc<dyn Forwarder> {
        Arc::clone(&self.forwarder) as _
    }

    fn status(&self) -> LinkStatus {
        LinkStatus { mtu: Some(1500), encrypted: true, ..LinkStatus::default() }
    }
}

struct MemoryForwarder {
    memory: Memory,
    own: PeerName,
    neighbour: PeerName,
}

impl Forwarder for MemoryForwarder {
    fn forward(&self, _: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let Envelope { source, destination, frame, relays, .. } = envelope;
        let arrival = Arrival { neighbour: self.own, source, destination, relays };
        let parcel = Parcel { arrival: Some(arrival), frame: frame.bytes.to_vec() };
        self.memory.send(self.neighbour, parcel);
        Forwarded::Accepted
    }

    fn flush(&self, _: WorkerId) {}
}

/// A transport that does not start.
pub struct Broken;

impl Transport for Broken {
    fn start(self: Box<Self>, _: TransportContext) -> Result<Box<dyn Overlay>, String> {
        Err("out of order".to_owned())
    }
}
