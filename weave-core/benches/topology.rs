//! Updates of the topology as they come in and go out.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weave_core::mesh::{Features, PeerConnection, PeerName, Peers, Random, ShortId, Uid};

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).expect("small")
}

/// The table of one peer in a full mesh before it knows what the others say of themselves.
fn fresh(own: u64) -> Peers {
    let short_id = ShortId::new(1).expect("small");
    Peers::new(name(own), format!("host{own}"), Uid(own), short_id)
}

/// The tables of all peers but one of a full mesh, each knowing its own connections.
fn members(size: u64) -> Vec<Peers> {
    let address = "192.0.2.1:6783".parse().expect("an address");
    let mut random = Random::new([0; 32]);
    let member = |own: u64| {
        let mut peers = fresh(own);
        for other in (1..=size).filter(|other| *other != own) {
            let features = Features {
                name: name(other),
                nickname: format!("host{other}"),
                uid: Uid(other),
                connection_id: other,
                short_id: None,
                trusted: false,
                overlays: None,
                further: Default::default(),
            };
            let _ = peers.register(&features, true, &mut random).expect("there is room");
            peers.add_connection(PeerConnection::new(name(other), address, other > own));
            peers.establish_connection(name(other));
        }
        peers
    };
    (2..=size).map(member).collect()
}

/// The table of the remaining peer when it has heard all others.
fn informed(members: &[Peers]) -> Peers {
    let mut random = Random::new([0; 32]);
    let mut peers = fresh(1);
    for member in members {
        for payload in member.encode(&[member.own().name].into()) {
            let _ = peers.apply_update(&payload, &mut random).expect("well-formed");
        }
    }
    peers
}

fn topology(c: &mut Criterion) {
    let mut random = Random::new([0; 32]);
    for size in [100, 500] {
        let shape = format!("mesh of {size}");
        let members = members(size);
        let mut peers = informed(&members);
        let payloads = peers.encode_all();
        let bytes: usize = payloads.iter().map(|payload| payload.len()).sum();

        let mut group = c.benchmark_group("topology");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("apply all that is news", &shape), |b| {
            b.iter_batched(
                || fresh(size + 1),
                |mut peers| {
                    for payload in &payloads {
                        let _ = peers.apply_update(payload, &mut random).expect("well-formed");
                    }
                    peers
                },
                BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("apply all that is known", &shape), |b| {
            b.iter(|| {
                for payload in &payloads {
                    let _ = peers.apply_update(payload, &mut random).expect("well-formed");
                }
            });
        });
        group.bench_function(BenchmarkId::new("encode all again", &shape), |b| {
            b.iter(|| peers.encode_all());
        });
        group.bench_function(BenchmarkId::new("encode all anew", &shape), |b| {
            b.iter_batched(
                || informed(&members),
                |peers| peers.encode_all(),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, topology);
criterion_main!(benches);
