//! Tags, against the published crate `poly1305`, which has vectors of AVX2.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use weave_secretbox::poly1305::tag;

fn tags(criterion: &mut Criterion) {
    let key = [7; 32];
    for len in [64, 128, 256, 512, 1400, 16_384] {
        let mut group = criterion.benchmark_group("tag");
        group.throughput(Throughput::Bytes(len as u64));
        let text = vec![0x5a; len];
        group.bench_function(BenchmarkId::new("ours", len), |bencher| {
            bencher.iter(|| tag(black_box(&key), black_box(&text)));
        });
        group.bench_function(BenchmarkId::new("poly1305", len), |bencher| {
            bencher
                .iter(|| Poly1305::new(black_box(&key).into()).compute_unpadded(black_box(&text)));
        });
        group.finish();
    }
}

criterion_group!(benches, tags);
criterion_main!(benches);
