//! Recalculation of the routes of one peer, as it happens 100 ms after each change of the
//! topology: from records to the two unicast tables and the own broadcast sets, and broadcast
//! sets of other sources.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weave_core::mesh::{Graph, PeerName, Routes};

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).expect("small")
}

/// The connections of each peer, by name.
type Records = Vec<(PeerName, Vec<(PeerName, bool)>)>;

/// Everybody is connected to everybody.
fn full_mesh(size: u64) -> Records {
    let others = |own| (1..=size).filter(move |other| *other != own);
    (1..=size)
        .map(|own| (name(own), others(own).map(|other| (name(other), true)).collect()))
        .collect()
}

/// Everybody is connected to its eight neighbours on a ring, and to the one opposite.
fn ring(size: u64) -> Records {
    let record = |own: u64| {
        let steps = (1..=4).flat_map(|step| [step, size - step]).chain([size / 2]);
        let mut others: Vec<u64> = steps.map(|step| (own - 1 + step) % size + 1).collect();
        others.sort_unstable();
        others.dedup();
        (name(own), others.into_iter().map(|other| (name(other), true)).collect())
    };
    (1..=size).map(record).collect()
}

fn graph(records: &Records) -> Arc<Graph> {
    Arc::new(Graph::new(records.iter().map(|(name, links)| (*name, links.iter().copied()))))
}

fn routes(c: &mut Criterion) {
    let own = name(1);
    for (shape, records) in [
        ("mesh of 100", full_mesh(100)),
        ("mesh of 1000", full_mesh(1000)),
        ("ring of 1000", ring(1000)),
    ] {
        let mut group = c.benchmark_group("routes");
        group.bench_function(BenchmarkId::new("graph from all records", shape), |b| {
            b.iter(|| graph(black_box(&records)));
        });

        let known = graph(&records);
        let (changed, links) = &records[records.len() / 2];
        group.bench_function(BenchmarkId::new("one record changed, and all tables", shape), |b| {
            b.iter(|| {
                let mut known = Arc::clone(&known);
                Arc::make_mut(&mut known).replace(*changed, links.iter().copied());
                Routes::new(known, own)
            });
        });
        group.bench_function(BenchmarkId::new("all tables", shape), |b| {
            b.iter(|| Routes::new(Arc::clone(&known), own));
        });
        group.bench_function(BenchmarkId::new("broadcast sets of every source", shape), |b| {
            b.iter(|| {
                let routes = Routes::new(Arc::clone(&known), own);
                known.names().iter().map(|source| routes.broadcast(*source).len()).sum::<usize>()
            });
        });

        let routes = Routes::new(Arc::clone(&known), own);
        let far = records[records.len() / 2].0;
        group.bench_function(BenchmarkId::new("one look-up", shape), |b| {
            b.iter(|| routes.unicast(black_box(far)));
        });
        group.finish();
    }
}

criterion_group!(benches, routes);
criterion_main!(benches);
