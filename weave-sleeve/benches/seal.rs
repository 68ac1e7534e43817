//! What the seal between our own routers costs, next to the one of Weave Net 2.x.
//!
//! How the library was chosen (AMD EPYC with VAES, one core; nanoseconds for a datagram with 12
//! bytes of additional data in place, the best of 25 rounds; `crypto` crates are `aes-gcm` 0.11.1
//! and `chacha20poly1305` 0.11.0, with what they choose at run time):
//!
//! ```text
//!                            64 bytes        1400 bytes        8192 bytes
//!                          seal    open     seal    open      seal    open
//!   AES-128-GCM  ring        79      91      261     243       894     837
//!                aws-lc-rs  102     108      267     265       790     794
//!                crypto     201     217      782     803      3285    3299
//!   AES-256-GCM  ring        81      91      284     265      1000     929
//!                aws-lc-rs  106     112      286     284       892     891
//!   ChaCha20-    ring       167     180      730     684      3195    3162
//!     Poly1305   aws-lc-rs  176     186      740     684      3193    3167
//!                crypto    3043    1533     4307    2574      7077    7039
//!   secretbox    our own    351     348     1062    1078      4832    4855
//! ```
//!
//! At the size of datagrams on an underlay of 1500 bytes `ring` is ahead by 5 %, at 8 KiB it is
//! behind by 8 %. It builds with a C compiler alone, as `aws-lc-rs` does, in a sixth of the time.

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
/// Datagrams in a train.
const TRAIN: usize = 40;

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
            // Each datagram opens once: a fresh one each time.
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
            let mut arena = vec![0; TRAIN * length];
            let ranges: Vec<Range<usize>> =
                (0..TRAIN).map(|n| n * length..(n + 1) * length).collect();
            group.throughput(Throughput::Bytes((TRAIN * text) as u64));
            group.bench_function(format!("train of {TRAIN}/{text}"), |bencher| {
                bencher.iter(|| sealer.seal_train(NOW, own(), black_box(&mut arena), &ranges));
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
    }
    group.finish();
}

criterion_group!(benches, native, legacy);
criterion_main!(benches);
