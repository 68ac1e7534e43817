//! Many allocators on a network that loses, repeats and reorders, with clocks that jump and peers
//! that are killed at any write: no address is ever given out twice, and none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use weave_core::mesh::{PeerName, Random, Uid};
use weave_core::time::Instant;

use super::scenarios::Disk;
use crate::allocator::{Answer, Found, Origin, Output, RequestId, Stored};
use crate::{Allocator, Cidr, Config, Subnet};

/// A message on its way.
#[derive(Clone)]
struct Letter {
    from: usize,
    to: usize,
    kind: Kind,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Kind {
    Unicast,
    Broadcast,
    Periodic,
}

struct Node {
    name: PeerName,
    disk: Disk,
    /// None while it is down.
    allocator: Option<Allocator>,
    /// What its containers were told.
    containers: BTreeMap<String, u32>,
    waiting: BTreeMap<RequestId, String>,
    clock_lead: Duration,
    /// The part of the network it is in.
    side: u64,
    gone: bool,
}

struct World {
    universe: Subnet,
    nodes: Vec<Node>,
    letters: Vec<Letter>,
    random: Random,
    now: Instant,
    number: u64,
    /// Out of a hundred.
    loss: u64,
    votes: bool,
    /// Nobody gives out what may be in use by containers that are forgotten.
    careful: bool,
}

impl World {
    /// All hosts begin with a vote, or with the division among all of them.
    fn new(count: usize, universe: &str, seed: u64, votes: bool) -> Self {
        let mut block = [0; 32];
        block[..8].copy_from_slice(&seed.to_be_bytes());
        let node = |index: usize| Node {
            name: PeerName::from_u64((index as u64 + 1) * 0x9e37_79b9).unwrap(),
            disk: Disk::default(),
            allocator: None,
            containers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            clock_lead: Duration::ZERO,
            side: 0,
            gone: false,
        };
        let mut world = Self {
            universe: universe.parse().unwrap(),
            nodes: (0..count).map(node).collect(),
            letters: Vec::new(),
            random: Random::new(block),
            now: Instant::ORIGIN,
            number: 0,
            // What is said at the start is known to all.
            loss: 100,
            votes,
            careful: false,
        };
        (0..count).for_each(|index| world.start(index));
        world.loss = 10;
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }

    fn time(&self, index: usize) -> Instant {
        self.now + self.nodes[index].clock_lead
    }

    fn start(&mut self, index: usize) {
        let (seed, uid) = (self.random.block(), Uid(self.random.number()));
        let now = self.time(index);
        let names = || self.nodes.iter().map(|node| node.name).collect();
        let peers = Some(self.nodes.len());
        let origin = if self.votes { Origin::Consensus { peers } } else { Origin::Seed(names()) };
        let node = &mut self.nodes[index];
        let config = Config {
            name: node.name,
            uid,
            nickname: format!("host{index}"),
            universe: self.universe,
            origin,
        };
        let stored = node.disk.read();
        let is_lost = stored == Stored::default();
        let prefix = self.universe.cidr().prefix();
        let found = node.containers.iter().map(|(holder, address)| Found {
            holder: holder.clone(),
            cidr: Cidr::new((*address).into(), prefix).unwrap(),
            is_container: true,
        });
        let found = found.collect();
        let mut allocator = Allocator::new(config, stored, found, seed, now);
        if self.careful {
            allocator.be_careful();
        }
        for (holder, address) in node.containers.iter().filter(|_| !is_lost) {
            let held = allocator.holders().find(|(name, _)| name == holder).map(|(_, cidrs)| cidrs);
            let held = held.unwrap_or_default().iter().any(|c| c.address().to_bits() == *address);
            assert!(held, "{holder} lost its address when its host was killed");
        }
        // Those whose clients never heard of it ask for it to be gone.
        for holder in std::mem::take(&mut node.waiting).into_values() {
            let _nothing = allocator.release_all(now, &holder);
        }
        node.allocator = Some(allocator);
        self.update_reach();
        self.settle(index);
    }

    fn update_reach(&mut self) {
        let up: Vec<(u64, PeerName)> = self
            .nodes
            .iter()
            .filter(|node| node.allocator.is_some())
            .map(|node| (node.side, node.name))
            .collect();
        for node in &mut self.nodes {
            let reach = up.iter().filter(|(side, _)| *side == node.side);
            let reach: BTreeSet<PeerName> = reach.map(|(_, name)| *name).collect();
            if let Some(allocator) = &mut node.allocator {
                allocator.set_reachable(reach.clone());
                allocator.set_linked(reach);
            }
        }
        (0..self.nodes.len()).for_each(|index| self.settle(index));
    }

    /// Whether a container on this side of the network answers for the address.
    fn is_in_use(&self, index: usize, address: u32) -> bool {
        let side = self.nodes[index].side;
        let there = self.nodes.iter().filter(|node| node.side == side && node.allocator.is_some());
        there.flat_map(|node| node.containers.values()).any(|other| *other == address)
    }

    /// Does what an allocator wants; `killed_after` this many outputs, if at all.
    fn settle(&mut self, index: usize) {
        self.settle_until(index, usize::MAX);
    }

    fn settle_until(&mut self, index: usize, killed_after: usize) {
        for _ in 0..killed_after {
            let Some(allocator) = &mut self.nodes[index].allocator else { return };
            let Some(output) = allocator.poll_output() else { return };
            match output {
                Output::Store(update) => self.nodes[index].disk.apply(update),
                Output::Unicast { to, payload } => {
                    let to = self.nodes.iter().position(|node| node.name == to).unwrap();
                    self.send(index, to, Kind::Unicast, &payload);
                }
                Output::Broadcast => {
                    let state = allocator.state(0).encode();
                    for to in 0..self.nodes.len() {
                        self.send(index, to, Kind::Broadcast, &state);
                    }
                }
                Output::Answer { request, answer } => {
                    let holder = self.nodes[index].waiting.remove(&request).unwrap();
                    if let Ok(Answer::Allocated(cidr)) = answer {
                        self.given(index, holder, cidr.address().to_bits());
                    }
                }
                Output::Probe(address) => {
                    let in_use = self.is_in_use(index, address.to_bits());
                    let now = self.time(index);
                    if let Some(allocator) = &mut self.nodes[index].allocator {
                        allocator.handle_probed(now, address, in_use);
                    }
                }
                Output::Event(_) => {}
            }
        }
        self.nodes[index].allocator = None;
        self.update_reach();
    }

    fn given(&mut self, index: usize, holder: String, address: u32) {
        for node in &self.nodes {
            for (other, theirs) in &node.containers {
                let twice = *theirs == address && *other != holder;
                let address = std::net::Ipv4Addr::from_bits(address);
                assert!(!twice, "{address} was given to {other} and to {holder}");
            }
        }
        self.nodes[index].containers.insert(holder, address);
    }

    fn send(&mut self, from: usize, to: usize, kind: Kind, bytes: &[u8]) {
        if from == to || self.random.below(100) < self.loss {
            return;
        }
        let letter = Letter { from, to, kind, bytes: bytes.to_vec() };
        if self.random.below(20) == 0 {
            self.letters.push(letter.clone());
        }
        self.letters.push(letter);
    }

    /// Any letter, not the oldest.
    fn deliver(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let place = self.below(self.letters.len());
        let letter = self.letters.swap_remove(place);
        self.hand_over(&letter);
    }

    fn hand_over(&mut self, letter: &Letter) {
        let Letter { from, to, kind, bytes } = letter;
        let now = self.time(*to);
        let source = self.nodes[*from].name;
        let cut = self.nodes[*from].side != self.nodes[*to].side;
        let Some(allocator) = self.nodes[*to].allocator.as_mut().filter(|_| !cut) else { return };
        let result = match kind {
            Kind::Unicast => allocator.handle_unicast(now, source, bytes),
            Kind::Broadcast => allocator.handle_gossip(now, Some(source), bytes),
            Kind::Periodic => allocator.handle_gossip(now, None, bytes),
        };
        assert_eq!(result, Ok(()), "host{to} refuses what host{from} says");
        self.settle(*to);
    }

    fn allocate(&mut self, index: usize, killed_after: usize) {
        let (now, universe) = (self.time(index), self.universe);
        self.number += 1;
        let (request, holder) = (RequestId(self.number), format!("c{}", self.number));
        let node = &mut self.nodes[index];
        let Some(allocator) = &mut node.allocator else { return };
        node.waiting.insert(request, holder.clone());
        allocator.allocate(now, request, &holder, universe, false);
        self.settle_until(index, killed_after);
    }

    fn claim(&mut self, index: usize) {
        let (now, universe) = (self.time(index), self.universe);
        let size = universe.range().size();
        let address =
            universe.range().start + u32::try_from(self.random.below(size.into())).unwrap();
        let cidr = Cidr::new(address.into(), universe.cidr().prefix()).unwrap();
        self.number += 1;
        let (request, holder) = (RequestId(self.number), format!("c{}", self.number));
        let node = &mut self.nodes[index];
        let Some(allocator) = &mut node.allocator else { return };
        node.waiting.insert(request, holder.clone());
        allocator.claim(now, request, &holder, cidr, false, false);
        // Held from when it is in the books, which is not later than the answer.
        let held = |allocator: &Allocator| allocator.holders().any(|(name, _)| name == holder);
        if held(allocator) {
            self.given(index, holder, address);
        }
        self.settle(index);
    }

    fn release(&mut self, index: usize) {
        let now = self.time(index);
        let node = &mut self.nodes[index];
        let Some(allocator) = &mut node.allocator else { return };
        let Some((holder, _)) = node.containers.pop_first() else { return };
        allocator.release_all(now, &holder).unwrap();
        self.settle(index);
    }

    fn tick_all(&mut self) {
        self.now += Duration::from_secs(5);
        for index in 0..self.nodes.len() {
            let now = self.time(index);
            if let Some(allocator) = &mut self.nodes[index].allocator {
                allocator.handle_timeout(now);
                self.settle(index);
            }
        }
    }

    fn gossip(&mut self, index: usize) {
        let Some(allocator) = &self.nodes[index].allocator else { return };
        let state = allocator.state(0).encode();
        for _ in 0..3 {
            let to = self.below(self.nodes.len());
            self.send(index, to, Kind::Periodic, &state);
        }
    }

    /// Heals everything, and lets a few minutes pass.
    fn calm_down(&mut self) {
        self.loss = 0;
        self.nodes.iter_mut().for_each(|node| node.side = 0);
        let down = (0..self.nodes.len())
            .filter(|index| self.nodes[*index].allocator.is_none() && !self.nodes[*index].gone)
            .collect::<Vec<_>>();
        down.into_iter().for_each(|index| self.start(index));
        self.update_reach();
        for _ in 0..12 {
            self.deliver_all();
            self.tick_all();
            (0..self.nodes.len()).for_each(|index| self.gossip(index));
        }
        self.deliver_all();
    }

    fn deliver_all(&mut self) {
        // A change makes all who wait ask again, so that the last addresses cost many words.
        let mut left = 200_000;
        while !self.letters.is_empty() && left > 0 {
            self.deliver();
            left -= 1;
        }
        assert_eq!(self.letters.len(), 0, "they never stop talking");
    }

    /// Everybody knows the same ring, and all addresses are somebody's, once.
    fn check_whole(&self) {
        let up = || self.nodes.iter().filter_map(|node| node.allocator.as_ref());
        let owners = |allocator: &Allocator| -> Vec<(u32, PeerName)> {
            allocator.ring().entries().iter().map(|entry| (entry.token, entry.peer)).collect()
        };
        let first = owners(up().next().unwrap());
        assert!(!first.is_empty(), "there is no ring");
        assert!(up().all(|allocator| owners(allocator) == first), "rings differ");
        let seeds = up().next().unwrap().ring().seeds();
        assert!(up().all(|allocator| allocator.ring().seeds() == seeds));
        let total: u32 = up().map(|a| a.space().free().len() + a.space().used().len()).sum();
        assert_eq!(total, self.universe.range().size(), "addresses are lost, or there twice");
        for node in self.nodes.iter().filter(|node| node.allocator.is_some()) {
            let used = node.allocator.as_ref().unwrap().space().used();
            assert!(node.containers.values().all(|address| used.contains(*address)));
        }
    }

    /// One thing that may happen.
    fn step(&mut self) {
        let index = self.below(self.nodes.len());
        match self.below(100) {
            0..=24 => self.allocate(index, usize::MAX),
            25..=29 => self.claim(index),
            30..=39 => self.release(index),
            40..=44 => self.gossip(index),
            45..=49 => self.tick_all(),
            50..=52 => {
                // Killed after none, one or two of what it wanted done.
                let outputs = self.below(3);
                self.allocate(index, outputs);
            }
            53..=58 => {
                if self.nodes[index].allocator.is_none() && !self.nodes[index].gone {
                    self.start(index);
                }
            }
            59 | 60 => {
                for index in 0..self.nodes.len() {
                    self.nodes[index].side = self.random.below(2);
                }
                self.update_reach();
            }
            61..=63 => {
                self.nodes.iter_mut().for_each(|node| node.side = 0);
                self.update_reach();
            }
            64 => {
                let hours = self.random.below(48);
                self.nodes[index].clock_lead = Duration::from_secs(3600 * hours);
            }
            _ => (0..self.nodes.len()).for_each(|_| self.deliver()),
        }
    }

    /// The first division, agreed on although the network is bad.
    fn vote(&mut self) {
        for index in 0..self.nodes.len().min(5) {
            self.allocate(index, usize::MAX);
        }
        for _ in 0..20 {
            (0..self.nodes.len() * 4).for_each(|_| self.deliver());
            self.tick_all();
        }
        self.calm_down();
        self.check_whole();
        self.loss = 10;
    }
}

impl World {
    /// All hosts lose all they know, under running containers, while the network is in two parts.
    fn lose_all_state(&mut self) {
        for index in 0..self.nodes.len() {
            let side = self.random.below(2);
            let node = &mut self.nodes[index];
            (node.allocator, node.disk, node.side) = (None, Disk::default(), side);
            node.waiting.clear();
        }
        self.letters.clear();
        (0..self.nodes.len()).for_each(|index| self.start(index));
    }
}

/// Clients ask from the first moment on, on all hosts.
#[test]
fn state_lost_everywhere_gives_nothing_of_a_running_container_away() {
    for seed in 0..24 {
        for votes in [true, false] {
            let mut world = World::new(4, "10.32.0.0/26", seed, true);
            world.vote();
            (0..150).for_each(|_| world.step());
            world.calm_down();
            let running: usize = world.nodes.iter().map(|node| node.containers.len()).sum();
            (world.careful, world.votes, world.loss) = (true, votes, 10);
            world.lose_all_state();
            for round in 0..3 {
                for index in 0..world.nodes.len() {
                    world.allocate(index, usize::MAX);
                    world.gossip(index);
                }
                (0..40).for_each(|_| world.deliver());
                // It heals before anybody goes on without the others.
                if round < 2 {
                    world.tick_all();
                }
            }
            world.nodes.iter_mut().for_each(|node| node.side = 0);
            world.update_reach();
            for _ in 0..8 {
                (0..world.nodes.len()).for_each(|index| world.allocate(index, usize::MAX));
                (0..60).for_each(|_| world.deliver());
                world.tick_all();
            }
            world.calm_down();
            let given: usize = world.nodes.iter().map(|node| node.containers.len()).sum();
            assert!(given > running, "seed {seed}: nothing is given out any more");
            for node in &world.nodes {
                let used = node.allocator.as_ref().unwrap().space().used();
                let lost = node.containers.values().find(|address| !used.contains(**address));
                assert_eq!(lost, None, "seed {seed}: a container is not known any more");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The seed of a failure is printed, and makes the same happen again.
    #[test]
    fn no_address_is_given_twice_and_none_is_lost(seed: u64, count in 2_usize..8) {
        let mut world = World::new(count, "10.32.0.0/26", seed, true);
        world.vote();
        for _ in 0..3 {
            (0..150).for_each(|_| world.step());
            world.calm_down();
            world.check_whole();
            world.loss = 10;
        }
    }
}

/// Many hosts, a partition in the middle, and rings that meet again when it heals.
#[test]
fn more_than_a_hundred_hosts() {
    let mut world = World::new(120, "10.32.0.0/16", 1, false);
    for index in 0..120 {
        world.nodes[index].side = (index % 2) as u64;
    }
    world.update_reach();
    for index in 0..120 {
        world.allocate(index, usize::MAX);
    }
    (0..60).for_each(|_| world.step());
    world.calm_down();
    world.check_whole();
    let given: usize = world.nodes.iter().map(|node| node.containers.len()).sum();
    assert!(given > 90, "only {given} addresses were given out");
}

/// A peer is gone for good: another one takes its space, and gives it out.
#[test]
fn the_space_of_the_dead_is_given_out_again() {
    for seed in 0..8 {
        let mut world = World::new(4, "10.32.0.0/27", seed, true);
        world.vote();
        (0..100).for_each(|_| world.step());
        world.calm_down();
        let now = world.time(0);
        let dead = world.nodes[3].name.to_string();
        let node = &mut world.nodes[3];
        (node.allocator, node.gone) = (None, true);
        node.containers.clear();
        world.update_reach();
        world.nodes[0].allocator.as_mut().unwrap().take_over(now, &dead);
        world.settle(0);
        (0..100).for_each(|_| world.step());
        world.calm_down();
        world.check_whole();
    }
}

/// A host is made anew under its old name: it hears from the others what it owns.
#[test]
fn a_host_without_its_state_learns_what_it_owns() {
    for seed in 0..8 {
        let mut world = World::new(4, "10.32.0.0/26", seed, true);
        world.vote();
        (0..100).for_each(|_| world.step());
        world.calm_down();
        let node = &mut world.nodes[2];
        node.disk = Disk::default();
        node.containers.clear();
        node.waiting.clear();
        world.start(2);
        (0..100).for_each(|_| world.step());
        world.calm_down();
        world.check_whole();
    }
}
