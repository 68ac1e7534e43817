//! Address allocation on simulated hosts, with disks that survive a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use weave_core::mesh::gossip::{Channel, Data, GossipError, Outbox};
use weave_core::mesh::{Mesh, PeerName, Routes, Uid};
use weave_core::sim::{HostId, Net};
use weave_core::time::Instant;
use weave_ipam::allocator::{Answer, Origin, Output, RequestId, Stored};
use weave_ipam::message::{CHANNEL, Holding, decode_ring};
use weave_ipam::{Allocator, Config, Subnet};

/// All addresses, as numbers.
pub fn addresses() -> std::ops::Range<u32> {
    let range = universe().range();
    range.start..range.end
}

/// The addresses that all share.
const UNIVERSE: &str = "10.32.0.0/26";

/// The allocator of one host.
#[derive(Clone, Default)]
pub struct Tenants(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    allocator: Option<Allocator>,
    ring: Option<Vec<u8>>,
    holdings: BTreeMap<String, Vec<u8>>,
    waiting: BTreeMap<RequestId, String>,
    /// Addresses that containers were told since the last look.
    given: Vec<(String, u32)>,
    requests: u64,
}

enum Said {
    Unicast(PeerName, Bytes),
    Broadcast,
}

impl Books {
    fn settle(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        while let Some(output) = self.allocator.as_mut().and_then(Allocator::poll_output) {
            match output {
                Output::Store(update) => {
                    if update.clear {
                        (self.ring, self.holdings) = Default::default();
                    }
                    self.ring = update.ring.or(self.ring.take());
                    for (holder, bytes) in update.holdings {
                        match bytes {
                            Some(bytes) => drop(self.holdings.insert(holder, bytes)),
                            None => drop(self.holdings.remove(&holder)),
                        }
                    }
                }
                Output::Unicast { to, payload } => said.push(Said::Unicast(to, payload)),
                Output::Broadcast => said.push(Said::Broadcast),
                Output::Answer { request, answer } => {
                    let holder = self.waiting.remove(&request);
                    if let (Some(holder), Ok(Answer::Allocated(cidr))) = (holder, answer) {
                        self.given.push((holder, cidr.address().to_bits()));
                    }
                }
                // Frames are not asked: nothing here says that they can be.
                Output::Event(_) | Output::Probe(_) => {}
            }
        }
        said
    }

    fn stored(&self) -> Stored {
        let ring = self.ring.as_deref().and_then(|ring| decode_ring(ring).ok());
        let holdings = self.holdings.iter();
        let holdings = holdings.filter_map(|(k, v)| Some((k.clone(), Holding::decode(v).ok()?)));
        Stored { ring, holdings: holdings.collect() }
    }
}

impl Tenants {
    /// The router of the host runs (again): takes part in the mesh.
    pub fn start(&self, net: &mut Net, host: HostId, origin: Origin, seed: [u8; 32]) {
        let name = net.name(host);
        net.ask(host, |router, now| {
            let channel = self.begin(now, name, origin, seed);
            router.update(now, |mesh| mesh.add_channel(CHANNEL, channel));
        });
    }

    /// A new life of the allocator, from what is on the disk: its channel.
    pub fn begin(
        &self,
        now: Instant,
        name: PeerName,
        origin: Origin,
        seed: [u8; 32],
    ) -> Box<dyn Channel> {
        let mut books = self.lock();
        let [a, b, c, d, e, f, g, h, ..] = seed;
        let uid = Uid(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        let config = Config { name, uid, nickname: name.to_string(), universe: universe(), origin };
        books.waiting.clear();
        let stored = books.stored();
        books.allocator = Some(Allocator::new(config, stored, Vec::new(), seed, now));
        Box::new(self.clone())
    }

    /// A new container wants an address.
    pub fn allocate(&self, net: &mut Net, host: HostId) {
        net.ask(host, |router, now| {
            router.update(now, |mesh| self.allocate_in(now, mesh, &host.0.to_string()));
        });
    }

    /// A new container wants an address: its name begins with that of its host.
    pub fn allocate_in(&self, now: Instant, mesh: &mut Mesh, host: &str) {
        let mut books = self.lock();
        books.requests += 1;
        let request = RequestId(books.requests);
        let holder = format!("{host}-c{}", books.requests);
        let Books { allocator: Some(allocator), waiting, .. } = &mut *books else { return };
        waiting.insert(request, holder.clone());
        allocator.allocate(now, request, &holder, universe(), true);
        drop(books);
        self.speak(now, mesh);
    }

    /// Wants to know when addresses are divided.
    pub fn prime(&self, net: &mut Net, host: HostId) {
        net.ask(host, |router, now| {
            if let Some(allocator) = &mut self.lock().allocator {
                allocator.prime(now, RequestId(0));
            }
            router.update(now, |mesh| self.speak(now, mesh));
        });
    }

    /// Whether addresses are divided, as this host knows.
    pub fn is_divided(&self) -> bool {
        self.lock().allocator.as_ref().is_some_and(|allocator| !allocator.ring().is_empty())
    }

    /// Who owns an address, as this host knows.
    pub fn owner(&self, address: u32) -> Option<PeerName> {
        self.lock().allocator.as_ref()?.ring().owner(address)
    }

    /// An address that one of the containers has, and that this host does not hold for it.
    pub fn lost(&self) -> Option<(String, u32)> {
        let books = self.lock();
        let allocator = books.allocator.as_ref()?;
        let mut held = allocator.holders().flat_map(|(holder, held)| {
            held.iter().map(move |cidr| (holder, cidr.address().to_bits()))
        });
        let used = allocator.space().used();
        let lost = held.find(|(_, address)| !used.contains(*address));
        lost.map(|(holder, address)| (holder.to_owned(), address))
    }

    /// One of the containers ends. Returns which.
    pub fn release(&self, net: &mut Net, host: HostId) -> Option<String> {
        let holder = self.lock().holdings.keys().next().cloned()?;
        net.ask(host, |router, now| {
            if let Some(allocator) = &mut self.lock().allocator {
                let _unknown = allocator.release_all(now, &holder);
            }
            router.update(now, |mesh| self.speak(now, mesh));
        });
        Some(holder)
    }

    /// Addresses that containers were told since the last call, and which they are.
    pub fn take_given(&self) -> Vec<(String, u32)> {
        std::mem::take(&mut self.lock().given)
    }

    fn speak(&self, now: Instant, mesh: &mut Mesh) {
        let said = self.lock().settle();
        for said in said {
            match said {
                Said::Unicast(to, payload) => mesh.unicast(now, CHANNEL, to, payload),
                Said::Broadcast => mesh.broadcast(now, CHANNEL, self.everything()),
            }
        }
    }

    fn everything(&self) -> Arc<dyn Data> {
        Arc::new(Everything(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(
        &self,
        out: &mut Outbox,
        act: impl FnOnce(&mut Allocator) -> Result<(), GossipError>,
    ) -> Result<(), GossipError> {
        let mut books = self.lock();
        let result = books.allocator.as_mut().map_or(Ok(()), act);
        for said in books.settle() {
            match said {
                Said::Unicast(to, payload) => out.unicast(to, payload),
                Said::Broadcast => out.broadcast(self.everything()),
            }
        }
        result
    }
}

fn universe() -> Subnet {
    UNIVERSE.parse().expect("the universe is a subnet")
}

fn refused(refusal: impl std::fmt::Display) -> GossipError {
    GossipError::Content(refusal.to_string())
}

impl Channel for Tenants {
    fn handle_unicast(
        &mut self,
        now: Instant,
        source: PeerName,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), GossipError> {
        self.act(out, |a| a.handle_unicast(now, source, payload).map_err(refused))
    }

    fn handle_broadcast(
        &mut self,
        now: Instant,
        source: PeerName,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        self.act(out, |a| a.handle_gossip(now, Some(source), payload).map_err(refused))?;
        Ok(Some(self.everything()))
    }

    fn handle_gossip(
        &mut self,
        now: Instant,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        self.act(out, |a| a.handle_gossip(now, None, payload).map_err(refused))?;
        Ok(None)
    }

    fn complete_state(&mut self, _: Instant) -> Option<Arc<dyn Data>> {
        Some(self.everything())
    }

    fn peers_removed(&mut self, _: Instant, peers: &[PeerName], out: &mut Outbox) {
        let _infallible = self.act(out, |allocator| {
            allocator.handle_peers_removed(peers);
            Ok(())
        });
    }

    fn routes_changed(&mut self, _: Instant, routes: &Routes, out: &mut Outbox) {
        let reachable = routes.unicast_all_table().map(|(peer, _)| peer).collect();
        let _infallible = self.act(out, |allocator| {
            allocator.set_reachable(reachable);
            Ok(())
        });
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        let _infallible = self.act(out, |allocator| {
            allocator.handle_timeout(now);
            Ok(())
        });
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.lock().allocator.as_ref().map(Allocator::poll_timeout)
    }
}

/// All that a host knows, as it is when it is sent.
struct Everything(Tenants);

impl Data for Everything {
    fn merge(&self, _: &dyn Data) -> Arc<dyn Data> {
        self.0.everything()
    }

    fn encode(&self) -> Vec<Bytes> {
        let books = self.0.lock();
        books.allocator.iter().map(|allocator| allocator.state(0).encode().into()).collect()
    }
}
