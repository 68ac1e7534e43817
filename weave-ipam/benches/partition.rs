//! How long a mesh of 100 routers takes to agree again after a partition, in virtual time: whole
//! routers on a simulated network, each with an allocator as in the binary.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "it prints a figure")]

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use weave_core::mesh::gossip::{Channel, Data, GossipError, Outbox};
use weave_core::mesh::{PeerName, Routes, Uid};
use weave_core::router::Router;
use weave_core::sim::{HostId, Net};
use weave_core::time::Instant;
use weave_ipam::allocator::{Answer, Origin, Output, RequestId, Stored};
use weave_ipam::message::CHANNEL;
use weave_ipam::ring::Entry;
use weave_ipam::{Allocator, Config, Subnet};

const ROUTERS: usize = 100;
/// Of virtual time.
const LIMIT: Duration = Duration::from_secs(900);

/// An allocator, and what it answered.
struct Books {
    allocator: Allocator,
    given: Vec<u32>,
}

type Shared = Arc<Mutex<Books>>;

enum Message {
    Unicast(PeerName, Bytes),
    Broadcast,
}

fn lock(books: &Shared) -> MutexGuard<'_, Books> {
    books.lock().unwrap()
}

/// What is to be sent.
fn drain(books: &mut Books) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(output) = books.allocator.poll_output() {
        match output {
            Output::Unicast { to, payload } => messages.push(Message::Unicast(to, payload)),
            Output::Broadcast => messages.push(Message::Broadcast),
            Output::Answer { answer: Ok(Answer::Allocated(cidr)), .. } => {
                books.given.push(cidr.address().to_bits());
            }
            _ => {}
        }
    }
    messages
}

struct Ipam(Shared);

impl Ipam {
    fn act<T>(&self, out: &mut Outbox, act: impl FnOnce(&mut Allocator) -> T) -> T {
        let mut books = lock(&self.0);
        let result = act(&mut books.allocator);
        for message in drain(&mut books) {
            match message {
                Message::Unicast(to, payload) => out.unicast(to, payload),
                Message::Broadcast => out.broadcast(Everything::of(&self.0)),
            }
        }
        result
    }
}

impl Channel for Ipam {
    fn handle_unicast(
        &mut self,
        now: Instant,
        source: PeerName,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), GossipError> {
        self.act(out, |allocator| allocator.handle_unicast(now, source, payload)).unwrap();
        Ok(())
    }

    fn handle_broadcast(
        &mut self,
        now: Instant,
        source: PeerName,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        self.act(out, |allocator| allocator.handle_gossip(now, Some(source), payload)).unwrap();
        Ok(Some(Everything::of(&self.0)))
    }

    fn handle_gossip(
        &mut self,
        now: Instant,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        self.act(out, |allocator| allocator.handle_gossip(now, None, payload)).unwrap();
        Ok(None)
    }

    fn complete_state(&mut self, _: Instant) -> Option<Arc<dyn Data>> {
        Some(Everything::of(&self.0))
    }

    fn routes_changed(&mut self, _: Instant, routes: &Routes, out: &mut Outbox) {
        let reachable = routes.unicast_all_table().map(|(peer, _)| peer).collect();
        self.act(out, |allocator| allocator.set_reachable(reachable));
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.act(out, |allocator| allocator.handle_timeout(now));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(lock(&self.0).allocator.poll_timeout())
    }
}

struct Everything(Shared);

impl Everything {
    fn of(books: &Shared) -> Arc<dyn Data> {
        Arc::new(Self(Arc::clone(books)))
    }
}

impl Data for Everything {
    fn merge(&self, _: &dyn Data) -> Arc<dyn Data> {
        Self::of(&self.0)
    }

    fn encode(&self) -> Vec<Bytes> {
        vec![lock(&self.0).allocator.state(0).encode().into()]
    }
}

fn join(net: &mut Net, host: HostId, names: &[PeerName], universe: Subnet) -> Shared {
    let config = Config {
        name: net.name(host),
        uid: Uid(1),
        nickname: format!("host{}", host.0),
        universe,
        origin: Origin::Seed(names.to_vec()),
    };
    let seed = [u8::try_from(host.0).unwrap(); 32];
    let books = net.ask(host, |router: &mut Router, now| {
        let allocator = Allocator::new(config, Stored::default(), Vec::new(), seed, now);
        let books = Arc::new(Mutex::new(Books { allocator, given: Vec::new() }));
        drain(&mut lock(&books));
        let channel = Box::new(Ipam(Arc::clone(&books)));
        router.update(now, |mesh| mesh.add_channel(CHANNEL, channel));
        books
    });
    books.unwrap()
}

fn allocate(net: &mut Net, host: HostId, books: &Shared, number: u64, subnet: Subnet) {
    net.ask(host, |router, now| {
        let messages = {
            let mut books = lock(books);
            let holder = format!("container{number}");
            books.allocator.allocate(now, RequestId(number), &holder, subnet, false);
            drain(&mut books)
        };
        for message in messages {
            router.update(now, |mesh| match message {
                Message::Unicast(to, payload) => mesh.unicast(now, CHANNEL, to, payload),
                Message::Broadcast => mesh.broadcast(now, CHANNEL, Everything::of(books)),
            });
        }
    });
}

/// Whether all rings tell the same of each entry.
fn agreed<T: PartialEq>(all: &[Shared], told: impl Fn(&Entry) -> T) -> Result<(), String> {
    let view = |books: &Shared| -> Vec<T> {
        lock(books).allocator.ring().entries().iter().map(&told).collect()
    };
    let first = view(&all[0]);
    let others = all.iter().filter(|books| view(books) != first).count();
    if others == 0 { Ok(()) } else { Err(format!("{others} rings differ")) }
}

/// Runs until it is so, and prints how long that took.
fn report(net: &mut Net, what: &str, is_so: impl Fn() -> Result<(), String>) {
    let time = net.run_until(LIMIT, |_| is_so()).unwrap();
    println!("{what}: after {time:?} more");
}

fn main() {
    let universe: Subnet = "10.32.0.0/12".parse().unwrap();
    // Each is of a few peers of one half.
    let subnets: [Subnet; 2] = ["10.34.0.0/16", "10.44.0.0/16"].map(|text| text.parse().unwrap());
    let mut net = Net::new(1);
    // Neighbours as in a mesh that is larger than its limit of connections.
    let hosts: Vec<HostId> =
        (0..ROUTERS).map(|_| net.add_host_with(|config| config.discovery = false)).collect();
    let names: Vec<PeerName> = hosts.iter().map(|host| net.name(*host)).collect();
    for (place, host) in hosts.iter().enumerate() {
        for step in [1, 7, 31] {
            net.connect(*host, hosts[(place + step) % ROUTERS]);
        }
    }
    let all: Vec<Shared> =
        hosts.iter().map(|host| join(&mut net, *host, &names, universe)).collect();
    net.run_until(LIMIT, Net::converged).unwrap();

    // Neighbours are next to each other, so that each half hangs together.
    let island: Vec<HostId> = hosts.iter().copied().filter(|host| host.0 < ROUTERS / 2).collect();
    net.partition(&island);
    // Until both sides know that the other one is gone.
    net.run_for(Duration::from_secs(120));
    for (number, host) in (1..).zip(&hosts) {
        let half = usize::from(!island.contains(host));
        allocate(&mut net, *host, &all[host.0], number, subnets[half]);
        // Nobody here has any of these.
        allocate(&mut net, *host, &all[host.0], 1000 + number, subnets[1 - half]);
    }
    let given = |count: usize| {
        let given: usize = all.iter().map(|books| lock(books).given.len()).sum();
        if given == count { Ok(()) } else { Err(format!("{given} were given out")) }
    };
    let owner = |entry: &Entry| (entry.token, entry.peer);
    report(&mut net, "an address of its half for all", || given(ROUTERS));
    net.run_for(Duration::from_secs(60));
    given(ROUTERS).unwrap();
    agreed(&all, owner).unwrap_err();

    net.heal(&island);
    let healed = net.now();
    report(&mut net, "one of the other half for all", || given(2 * ROUTERS));
    report(&mut net, "the same owners in all rings", || agreed(&all, owner));
    let time = net.run_until(LIMIT, Net::converged).unwrap();
    println!("all connections again: after {time:?} more");
    // How much of it is free is told only now and then, and is another version.
    report(&mut net, "the same rings", || agreed(&all, Clone::clone));
    println!("{:?} after it healed in all", net.now().saturating_since(healed));

    println!("{} entries", lock(&all[0]).allocator.ring().entries().len());
    let mut given: Vec<u32> = all.iter().flat_map(|books| lock(books).given.clone()).collect();
    given.sort_unstable();
    let count = given.len();
    given.dedup();
    assert_eq!(given.len(), count, "an address was given out twice");
}
