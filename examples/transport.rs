//! Two routers in one process, and a transport between them that is a queue in memory.
//!
//! ```text
//!  station 1 ── bridge ── switch 1 ──[queue]── switch 2 ── bridge ── station 2
//!                          router 1 ───TCP──── router 2
//! ```
//!
//! Run with `cargo run --example transport`. What to copy: [`Memory`] with its
//! link, which is all that a transport needs, and `pump`, which is what a data thread does.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weave_core::driver::{self, Handle, Settings, TokioClock};
use weave_core::mesh::{Config, LinkRequest, PeerName, Uid};
use weave_core::router::Router;
use weave_core::switch::{
    Arrival, Envelope, Forwarded, Forwarder, Frame, Inject, Link, LinkEvent, LinkStatus, Overlay,
    PrepareError, Switch, Waker, Worker, WorkerId,
};
use weave_core::time::Instant;

/// A frame on its way: between which neighbours, between which peers.
struct Parcel {
    neighbour: PeerName,
    source: PeerName,
    destination: PeerName,
    frame: Vec<u8>,
}

/// The transport: for each router the frames that wait for it.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<PeerName, VecDeque<Parcel>>>>);

impl Overlay for Memory {
    /// Both sides must use the same name.
    fn name(&self) -> &'static str {
        "memory"
    }

    fn prepare(
        &mut self,
        _: Instant,
        request: &LinkRequest,
        _: Waker,
    ) -> Result<Box<dyn Link>, PrepareError> {
        let forwarder =
            MemoryForwarder { memory: self.clone(), own: request.own, neighbour: request.remote };
        Ok(Box::new(MemoryLink { forwarder: Arc::new(forwarder), events: VecDeque::new() }))
    }
}

/// The control half. It says hello over the mesh connection, and is established when the other
/// side has said so too.
struct MemoryLink {
    forwarder: Arc<MemoryForwarder>,
    events: VecDeque<LinkEvent>,
}

const HELLO: u8 = 1;

impl Link for MemoryLink {
    fn confirm(&mut self, _: Instant) {
        self.events.push_back(LinkEvent::Control { message: HELLO, data: Vec::new() });
    }

    fn handle_control(&mut self, _: Instant, message: u8, _: &[u8]) {
        // From outside: what is unknown is ignored.
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
        self.forwarder.clone()
    }

    fn status(&self) -> LinkStatus {
        LinkStatus { mtu: Some(65_521), ..LinkStatus::default() }
    }
}

/// The data half, called by data threads. A real one would keep a buffer for each worker and send
/// it in `flush`, so that no thread waits for another.
struct MemoryForwarder {
    memory: Memory,
    own: PeerName,
    neighbour: PeerName,
}

impl Forwarder for MemoryForwarder {
    fn forward(&self, _: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let parcel = Parcel {
            neighbour: self.own,
            source: envelope.source,
            destination: envelope.destination,
            frame: envelope.frame.bytes.to_vec(),
        };
        let mut queues = self.memory.0.lock().expect("nobody panics while holding it");
        queues.entry(self.neighbour).or_default().push_back(parcel);
        Forwarded::Accepted
    }

    fn flush(&self, _: WorkerId) {}
}

/// Where frames for the local bridge go: here, to be shown.
struct Bridge(&'static str);

impl Inject for Bridge {
    #[expect(clippy::print_stdout, reason = "this is what an example is for")]
    fn inject(&mut self, frame: Frame<'_>) {
        let text = String::from_utf8_lossy(frame.bytes.get(14..).unwrap_or_default()).into_owned();
        println!("{} gets a frame: {text}", self.0);
    }
}

/// One router, and what its data thread has.
struct Node {
    handle: Handle,
    clock: TokioClock,
    name: PeerName,
    worker: Worker,
    bridge: Bridge,
}

impl Node {
    fn start(number: u64, title: &'static str, memory: &Memory) -> Result<Self, Box<dyn Error>> {
        let clock = TokioClock::start();
        let name = PeerName::from_u64(number).ok_or("peer names have 48 bits")?;
        let switch = Arc::new(Switch::new(name, number));
        let worker = Worker::new(switch.clone())?;
        // In earnest: UID and seed from the system's random source.
        let mut config = Config::new(name, Uid(number));
        config.discovery = false;
        let overlays: Vec<Box<dyn Overlay>> = vec![Box::new(memory.clone())];
        let seed = [u8::try_from(number)?; 32];
        let router = Router::new(config, switch, overlays, seed, clock.now());
        let settings = Settings { listen: ([127, 0, 0, 1], 0).into(), ..Settings::default() };
        let handle = driver::start(router, settings, clock)?;
        Ok(Self { handle, clock, name, worker, bridge: Bridge(title) })
    }

    /// A station on the bridge sends a frame.
    fn capture(&mut self, frame: &[u8]) {
        let mut pass = self.worker.pass(self.clock.now(), &mut self.bridge);
        pass.captured(Frame::plain(frame));
    }

    /// What came in over the transport.
    fn pump(&mut self, memory: &Memory) {
        let mut queues = memory.0.lock().expect("nobody panics while holding it");
        let parcels = queues.remove(&self.name).unwrap_or_default();
        drop(queues);
        let mut pass = self.worker.pass(self.clock.now(), &mut self.bridge);
        for Parcel { neighbour, source, destination, frame } in parcels {
            let arrival = Arrival { neighbour, source, destination, relays: 0 };
            pass.received(arrival, Frame::plain(&frame));
        }
    }
}

fn frame(from: u8, to: [u8; 6], text: &str) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0xaa, from, 0x88, 0xb5]);
    frame.extend(text.as_bytes());
    frame
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let memory = Memory::default();
    let mut one = Node::start(1, "the bridge of router 1", &memory)?;
    let mut two = Node::start(2, "the bridge of router 2", &memory)?;
    let target = one.handle.address().to_string();
    two.handle.connect(vec![target], false).await?.map_err(|errors| format!("{errors:?}"))?;

    // Routes are there once both have told each other that the link is established.
    for node in [&one, &two] {
        while node.handle.report().await?.mesh.unicast_routes.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    one.capture(&frame(1, [0xff; 6], "who has station 2?"));
    two.pump(&memory);
    // Router 2 has learnt where station 1 is: the answer goes there and nowhere else.
    two.capture(&frame(2, [2, 0, 0, 0, 0xaa, 1], "I am here"));
    one.pump(&memory);

    show(&format!("router 1 knows {:?}", one.worker.switch().macs().entries()));
    one.handle.shut_down().await;
    two.handle.shut_down().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what an example is for")]
fn show(line: &str) {
    println!("{line}");
}
