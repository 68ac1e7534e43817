//! What the allocator costs without disk and network: an address, one that has to be asked for, and
//! a ring of a thousand peers.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails shall say so")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use weave_core::mesh::{PeerName, Uid};
use weave_core::time::Instant;
use weave_ipam::allocator::{Origin, Output, RequestId, Stored};
use weave_ipam::{Allocator, Config, Subnet};

const NOW: Instant = Instant::ORIGIN;

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

fn universe() -> Subnet {
    "10.32.0.0/12".parse().unwrap()
}

/// One of `count` peers.
fn allocator(number: u64, count: u64) -> Allocator {
    let config = Config {
        name: name(number),
        uid: Uid(number),
        nickname: format!("host{number}"),
        universe: universe(),
        origin: Origin::Seed((1..=count).map(name).collect()),
    };
    let mut allocator = Allocator::new(config, Stored::default(), Vec::new(), [1; 32], NOW);
    allocator.set_reachable((1..=count).map(name).collect());
    while allocator.poll_output().is_some() {}
    allocator
}

fn allocate(allocator: &mut Allocator, number: u64, subnet: Subnet) {
    let holder = format!("container{number}");
    allocator.allocate(NOW, RequestId(number), &holder, subnet, false);
}

fn drain(allocator: &mut Allocator) -> Vec<Output> {
    std::iter::from_fn(|| allocator.poll_output()).collect()
}

fn benches(criterion: &mut Criterion) {
    criterion.bench_function("allocate and release, 1000 held", |bencher| {
        let mut allocator = allocator(1, 3);
        for number in 0..1000 {
            allocate(&mut allocator, number, universe());
        }
        let mut number = 1000;
        bencher.iter(|| {
            number += 1;
            allocate(&mut allocator, number, universe());
            let outputs = drain(&mut allocator);
            allocator.release_all(NOW, &format!("container{number}")).unwrap();
            (outputs, drain(&mut allocator))
        });
    });

    criterion.bench_function("allocate from what a peer gives", |bencher| {
        // All of the subnet is the other one's.
        let subnet: Subnet = "10.40.0.0/24".parse().unwrap();
        bencher.iter_batched_ref(
            || [allocator(1, 2), allocator(2, 2)],
            |[ours, theirs]| {
                allocate(ours, 1, subnet);
                let mut answered = false;
                while !answered {
                    for output in drain(ours) {
                        match output {
                            Output::Unicast { payload, .. } => {
                                theirs.handle_unicast(NOW, name(1), &payload).unwrap();
                            }
                            Output::Answer { answer, .. } => answered = answer.is_ok(),
                            _ => {}
                        }
                    }
                    for output in drain(theirs) {
                        if let Output::Unicast { payload, .. } = output {
                            ours.handle_unicast(NOW, name(2), &payload).unwrap();
                        }
                    }
                }
            },
            BatchSize::SmallInput,
        );
    });

    let count = 1000;
    criterion.bench_function("tell a ring of 1000 peers", |bencher| {
        let allocator = allocator(1, count);
        bencher.iter(|| allocator.state(0).encode());
    });
    let mut other = allocator(500, count);
    allocate(&mut other, 1, universe());
    let news = other.state(0).encode();
    criterion.bench_function("merge news of a ring of 1000 peers", |bencher| {
        bencher.iter_batched_ref(
            || allocator(1, count),
            |allocator| {
                allocator.handle_gossip(NOW, Some(name(500)), &news).unwrap();
                drain(allocator)
            },
            BatchSize::LargeInput,
        );
    });
    criterion.bench_function("hear of a ring of 1000 peers again", |bencher| {
        let mut allocator = allocator(1, count);
        allocator.handle_gossip(NOW, Some(name(500)), &news).unwrap();
        bencher.iter(|| {
            allocator.handle_gossip(NOW, None, &news).unwrap();
            drain(&mut allocator)
        });
    });
}

criterion_group!(all, benches);
criterion_main!(all);
