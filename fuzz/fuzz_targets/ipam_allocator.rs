//! An allocator among hostile peers, with users who want addresses. It keeps its books in order,
//! gives no address out twice, and stores what it says.
//!
//! Input: operations, each a byte with its kind and its subject, messages with a length before
//! them.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::{PeerName, Uid};
use weave_core::time::Instant;
use weave_ipam::allocator::{Found, Origin, Output, RequestId, Stored};
use weave_ipam::message::{Holding, Unicast, decode_ring};
use weave_ipam::{Allocator, Config, Range, Ring};

fn name(number: u64) -> PeerName {
    PeerName::from_u64(0x0100_0000_0200 * number).unwrap()
}

fn config(origin: Origin) -> Config {
    let universe = "10.0.0.0/24".parse().unwrap();
    Config { name: name(1), uid: Uid(101), nickname: "fuzz".into(), universe, origin }
}

#[derive(Default)]
struct Disk {
    ring: Option<Vec<u8>>,
    holdings: BTreeMap<String, Vec<u8>>,
}

impl Disk {
    fn read(&self) -> Stored {
        let ring = self.ring.as_deref().map(|ring| decode_ring(ring).unwrap());
        let holdings = self.holdings.iter();
        let holdings = holdings.map(|(k, v)| (k.clone(), Holding::decode(v).unwrap())).collect();
        Stored { ring, holdings }
    }
}

fn drain(allocator: &mut Allocator, disk: &mut Disk) {
    while let Some(output) = allocator.poll_output() {
        match output {
            Output::Store(update) => {
                if update.clear {
                    *disk = Disk::default();
                }
                disk.ring = update.ring.or(disk.ring.take());
                for (holder, bytes) in update.holdings {
                    match bytes {
                        Some(bytes) => drop(disk.holdings.insert(holder, bytes)),
                        None => drop(disk.holdings.remove(&holder)),
                    }
                }
            }
            Output::Unicast { payload, .. } => drop(Unicast::decode(&payload).unwrap()),
            Output::Event(event) => assert!(!event.to_string().contains('\n')),
            _ => {}
        }
    }
    let mut seen = BTreeSet::new();
    for (_, cidrs) in allocator.holders() {
        assert!(cidrs.iter().all(|cidr| seen.insert(cidr.address())), "given out twice");
    }
    if !allocator.ring().is_empty() {
        let ring = disk.read().ring.map(|ring| Ring::try_from(ring).unwrap());
        assert_eq!(ring.as_ref(), Some(allocator.ring()), "said and not stored");
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((origin, mut rest)) = input.split_first() else { return };
    let seeds = (1..=3).map(name).collect();
    let origin = match origin % 4 {
        0 => Origin::Consensus { peers: Some(1) },
        1 => Origin::Consensus { peers: None },
        2 => Origin::Seed(seeds),
        _ => Origin::Observer,
    };
    let mut now = Instant::ORIGIN;
    let found = |cidr: &str| Found {
        holder: Allocator::NOBODY.into(),
        cidr: cidr.parse().unwrap(),
        is_container: false,
    };
    let found = vec![found("10.0.0.9/24"), found("192.0.2.1/24")];
    let mut disk = Disk::default();
    let begin = |disk: &Disk, now| {
        let config = config(origin.clone());
        Allocator::new(config, disk.read(), found.clone(), [7; 32], now)
    };
    let mut allocator = begin(&disk, now);
    let peers = || (2..=4).map(name).collect();
    allocator.set_reachable(peers());
    drain(&mut allocator, &mut disk);
    let mut requests = 0;
    while let Some((operation, tail)) = rest.split_first() {
        rest = tail;
        let subject = operation >> 4;
        let holder = if subject == 0 { "_".to_owned() } else { format!("c{subject}") };
        requests += 1;
        let request = RequestId(requests);
        match operation % 14 {
            0..=2 => {
                let Some((len, tail)) = rest.split_first_chunk() else { break };
                let len = usize::from(u16::from_be_bytes(*len)).min(tail.len());
                let (payload, tail) = tail.split_at(len);
                rest = tail;
                let source = name(u64::from(subject % 4) + 1);
                let _refused = match operation % 14 {
                    0 => allocator.handle_unicast(now, source, payload),
                    1 => allocator.handle_gossip(now, Some(source), payload),
                    _ => allocator.handle_gossip(now, None, payload),
                };
            }
            3 => {
                let subnet =
                    ["10.0.0.0/24", "10.0.0.64/28", "10.1.0.0/24"][usize::from(subject) % 3];
                allocator.allocate(now, request, &holder, subnet.parse().unwrap(), true);
            }
            4 => {
                let cidr = format!("10.0.0.{}/24", u16::from(subject) * 16 + 3);
                allocator.claim(
                    now,
                    request,
                    &holder,
                    cidr.parse().unwrap(),
                    true,
                    subject % 2 == 0,
                );
            }
            5 => drop(allocator.release_all(now, &holder)),
            6 => allocator.container_died(now, &holder),
            7 => {
                now += Duration::from_secs(u64::from(subject) * 3);
                allocator.handle_timeout(now);
            }
            8 => {
                let at = u32::from(subject) * 16 + 0x0a00_0000;
                let payload = Unicast::SpaceRequest(Range::new(at, at + 40)).encode();
                allocator.handle_unicast(now, name(2), &payload).unwrap();
            }
            9 => drop(allocator.take_over(now, &name(u64::from(subject % 4)).to_string())),
            10 if subject == 7 => allocator.shut_down(now),
            10 => allocator.set_reachable(if subject % 2 == 0 { peers() } else { BTreeSet::new() }),
            11 => drop(allocator.give_in(now, &name(u64::from(subject)).to_string())),
            12 => {
                let asked = u32::from(subject) + 0x0a00_0000;
                allocator.handle_probed(now, asked.into(), subject % 3 == 0);
            }
            _ => {
                allocator = begin(&disk, now);
                if subject % 2 == 0 {
                    allocator.be_careful();
                }
                allocator.set_reachable(peers());
                allocator.set_linked(peers());
            }
        }
        drain(&mut allocator, &mut disk);
        assert!(allocator.poll_timeout() > now - Duration::from_secs(60));
    }
});
