//! The address allocator alone, without a mesh: two peers share 10.40.0.0/24, and the messages
//! between them are carried by a loop, in a time that nobody waits for.
//!
//! ```text
//!   ada ◀── unicast, broadcast ──▶ bob         each gives addresses out by itself
//! ```
//!
//! Run with `cargo run --example allocator`. What to copy: [`Peer::carry_out`], which is all that a
//! driver has to do. Here "stored" means kept in memory; a program that is to survive a crash
//! writes to a disk before it goes on to the next output.
#![allow(clippy::print_stdout, reason = "a program speaks to its user")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use weave_core::mesh::{PeerName, Uid};
use weave_core::time::Instant;
use weave_ipam::allocator::{Allocator, Answer, Config, Origin, Output, RequestId, Stored};
use weave_ipam::{Cidr, Subnet};

/// A message on its way: from, to, content. A message to nobody is for all.
type Message = (PeerName, Option<PeerName>, Vec<u8>);

struct Peer {
    name: PeerName,
    allocator: Allocator,
    answers: BTreeMap<RequestId, Cidr>,
}

impl Peer {
    fn new(number: u64, nickname: &str, all: &[PeerName], universe: Subnet) -> Self {
        let name = all[usize::try_from(number).unwrap_or(0)];
        let config = Config {
            name,
            uid: Uid(number + 1),
            nickname: nickname.to_owned(),
            universe,
            // The range is divided among these two at the start.
            origin: Origin::Seed(all.to_vec()),
        };
        let seed = [u8::try_from(number).unwrap_or(0); 32];
        let mut allocator =
            Allocator::new(config, Stored::default(), Vec::new(), seed, Instant::ORIGIN);
        allocator.set_reachable(all.iter().copied().collect());
        Self { name, allocator, answers: BTreeMap::new() }
    }

    /// Does what the allocator wants, in the order in which it wants it.
    fn carry_out(&mut self, messages: &mut Vec<Message>) -> Result<(), Box<dyn Error>> {
        while let Some(output) = self.allocator.poll_output() {
            match output {
                Output::Store(_) => {}
                Output::Unicast { to, payload } => {
                    messages.push((self.name, Some(to), payload.to_vec()));
                }
                Output::Broadcast => {
                    messages.push((self.name, None, self.allocator.state(0).encode()));
                }
                Output::Answer { request, answer } => {
                    if let Answer::Allocated(address) = answer? {
                        self.answers.insert(request, address);
                    }
                }
                Output::Probe(_) => {}
                Output::Event(event) => println!("{}: {event:?}", self.name),
            }
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let universe: Subnet = "10.40.0.0/24".parse()?;
    let names = [1, 2].map(|number| PeerName::from_bytes([2, 0, 0, 0, 0, number]));
    let mut peers = [Peer::new(0, "ada", &names, universe), Peer::new(1, "bob", &names, universe)];

    let now = Instant::ORIGIN;
    for (number, holder) in (0..).zip(["web", "db", "cache"]) {
        for peer in &mut peers {
            peer.allocator.allocate(now, RequestId(number), holder, universe, false);
        }
    }

    let mut messages = Vec::new();
    let mut time = now;
    while peers.iter().any(|peer| peer.answers.len() < 3) {
        for peer in &mut peers {
            peer.carry_out(&mut messages)?;
        }
        for (from, to, content) in std::mem::take(&mut messages) {
            let receivers = peers.iter_mut().filter(|peer| peer.name != from);
            for peer in receivers.filter(|peer| to.is_none_or(|to| to == peer.name)) {
                match to {
                    Some(_) => peer.allocator.handle_unicast(time, from, &content)?,
                    None => peer.allocator.handle_gossip(time, Some(from), &content)?,
                }
            }
        }
        if messages.is_empty() {
            time = peers.iter().map(|peer| peer.allocator.poll_timeout()).min().unwrap_or(time);
            peers.iter_mut().for_each(|peer| peer.allocator.handle_timeout(time));
        }
    }

    let mut given = BTreeSet::new();
    for peer in &peers {
        for address in peer.answers.values() {
            println!("{} gave out {address}", peer.name);
            assert!(given.insert(*address), "an address is given out once");
        }
    }
    Ok(())
}
