//! Tags, against the published crate `poly1305`, which has vectors of AVX2.
//!
//! AMD EPYC with AVX-512 IFMA, one core, nanoseconds for a tag with a new key:
//!
//! ```text
//!                      64 bytes   1400 bytes   16384 bytes
//!   ours                     54          195          1405
//!   poly1305 0.9.1         1380         1780          5640
//! ```
//!
//! The crate prepares 1.4 us for each key, within which four blocks a step in general registers
//! (what ours does below 256 bytes: 78 ns for 128) are through with a packet.

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
