//! The cost of the encryption between routers of this kind, next to that of Weave Net 2.x.
//!
//! How the library was chosen: AMD EPYC with VAES, one core; nanoseconds for a datagram with 12
//! bytes of additional data in place; the best of 25 rounds that went through all of them in turn.
//! `crypto` are the crates `aes-gcm` 0.11.1 and `chacha20poly1305` 0.11.0.
//!
//! ```text
//!                            64 bytes        1400 bytes        8192 bytes
//!                          seal    open     seal    open      seal    open
//!   AES-128-GCM  ring        85      88      253     230       903     824
//!                aws-lc-rs  102      96      264     254       810     773
//!                crypto     182     176      774     776      3337    3296
//!   AES-256-GCM  ring        84      91      277     254       999     924
//!                aws-lc-rs  106     102      288     272       913     889
//!                crypto     215     220      870     871      3462    3441
//!   ChaCha20-    ring       165     184      725     683      3193    3162
//!     Poly1305   aws-lc-rs  174     182      734     679      3206    3147
//!                crypto    2290    2661     2574    2597      7026    7033
//!   secretbox    weave      380     395      830     960      2925    2970
//! ```
//!
//! At the size of datagrams on an underlay of 1500 bytes `ring` 0.17.14 is ahead of `aws-lc-rs`
//! 1.19.0 by 6 %, at 8 KiB it is behind by 9 %. Both build with a C compiler alone; `ring` takes a
//! sixth of the time.
//!
//! What is added around the library, on the same machine: a datagram of 1400 bytes sealed alone
//! takes 270 ns, in a batch of 40 253 ns, and 239 ns to open. A new epoch takes 1.1 us. In the form
//! of Weave Net 2.x it takes 830 ns alone and 590 ns in a batch of 40, to open 960 and 590 ns, with
//! AVX-512 and its IFMA.

use std::hint::black_box;
use std::ops::Range;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use weave_core::mesh::{PeerName, SessionKey};
use weave_core::time::Instant;
use weave_sleeve::cipher::native::{HEADER_LEN, Opener, Sealer, Suite, TAG_LEN};
use weave_sleeve::cipher::{Channel, Cipher, LegacyBox};
use weave_sleeve::replay::Windows;

const KEY: SessionKey = SessionKey([7; 32]);
const NOW: Instant = Instant::ORIGIN;
/// Datagrams in a batch.
const BATCH: usize = 40;

fn own() -> PeerName {
    PeerName::from_bytes([2; 6])
}

fn native(criterion: &mut Criterion) {
    for suite in [Suite::Aes128Gcm, Suite::ChaCha20Poly1305] {
        let mut group = criterion.benchmark_group(suite.name());
        for text in [64, 1400, 8192] {
            let length = HEADER_LEN + text + TAG_LEN;
            let sealer = Sealer::new(&KEY, true, suite, NOW);
            let mut opener = Opener::new(&KEY, false, suite);
            let mut datagram = vec![0; length];
            group.throughput(Throughput::Bytes(text as u64));
            group.bench_function(format!("seal/{text}"), |bencher| {
                bencher.iter(|| sealer.seal(NOW, own(), black_box(&mut datagram)));
            });
            // Each datagram opens once, so each iteration has a fresh one.
            group.bench_function(format!("open/{text}"), |bencher| {
                let fresh = || {
                    let mut datagram = vec![0; length];
                    sealer.seal(NOW, own(), &mut datagram);
                    datagram
                };
                bencher.iter_batched_ref(
                    fresh,
                    |datagram| {
                        opener.open(datagram).expect("just made");
                    },
                    BatchSize::SmallInput,
                );
            });
            let mut arena = vec![0; BATCH * length];
            let ranges: Vec<Range<usize>> =
                (0..BATCH).map(|n| n * length..(n + 1) * length).collect();
            group.throughput(Throughput::Bytes((BATCH * text) as u64));
            group.bench_function(format!("batch of {BATCH}/{text}"), |bencher| {
                bencher.iter(|| sealer.seal_batch(NOW, own(), black_box(&mut arena), &ranges));
            });
        }
        group.finish();
    }
}

fn legacy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("xsalsa20poly1305");
    for text in [64, 1400, 8192] {
        let sealer = Cipher::Legacy(LegacyBox::new(&KEY, true));
        let opener = Cipher::Legacy(LegacyBox::new(&KEY, false));
        let mut windows = Windows::default();
        let length = LegacyBox::HEADER_LEN + text;
        let seal = |datagram: &mut [u8]| {
            sealer.seal(own(), Channel::DontFragment, datagram).expect("numbers are left");
        };
        let mut datagram = vec![0; length];
        group.throughput(Throughput::Bytes(text as u64));
        group.bench_function(format!("seal/{text}"), |bencher| {
            bencher.iter(|| seal(black_box(&mut datagram)));
        });
        group.bench_function(format!("open/{text}"), |bencher| {
            let fresh = || {
                let mut datagram = vec![0; length];
                seal(&mut datagram);
                datagram
            };
            bencher.iter_batched_ref(
                fresh,
                |datagram| {
                    opener.open(&mut windows, datagram).expect("just made");
                },
                BatchSize::SmallInput,
            );
        });
        let mut arena = vec![0; BATCH * length];
        let ranges: Vec<Range<usize>> = (0..BATCH).map(|n| n * length..(n + 1) * length).collect();
        let seal_batch = |arena: &mut [u8]| {
            sealer
                .seal_batch(own(), Channel::DontFragment, arena, &ranges)
                .expect("numbers are left");
        };
        group.throughput(Throughput::Bytes((BATCH * text) as u64));
        group.bench_function(format!("batch of {BATCH}/{text}"), |bencher| {
            bencher.iter(|| seal_batch(black_box(&mut arena)));
        });
        group.bench_function(format!("open batch of {BATCH}/{text}"), |bencher| {
            let fresh = || {
                let mut arena = vec![0; BATCH * length];
                seal_batch(&mut arena);
                arena
            };
            bencher.iter_batched_ref(
                fresh,
                |arena| {
                    opener.open_batch(&mut windows, arena, length, |opened| {
                        opened.expect("just made");
                    });
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, native, legacy);
criterion_main!(benches);
