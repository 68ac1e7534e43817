//! Sealing in place, against the published crate of the same name. `kept` is ours where the
//! first 16 bytes of the nonce stay the same, as on a link.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use crypto_secretbox::aead::AeadInPlace;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use weave_secretbox::{Message, PrefixKey, seal_in_place};

const KEY: [u8; 32] = [7; 32];

type Seal<'a> = &'a dyn Fn(&[u8; 24], &mut [u8]) -> [u8; 16];

/// Seals `count` times and returns how long that took.
fn time(seal: Seal<'_>, count: u64, text: &mut [u8]) -> Duration {
    let mut nonce = [0; 24];
    let start = Instant::now();
    for number in 0..count {
        nonce[16..].copy_from_slice(&number.to_be_bytes());
        black_box(seal(&nonce, black_box(text)));
    }
    start.elapsed()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let prefix_key = PrefixKey::new(&KEY, &[0; 16]);
    let contenders: [(&str, Seal<'_>); 3] = [
        ("ours", &|nonce, text| seal_in_place(&KEY, nonce, text)),
        ("kept", &|nonce, text| {
            prefix_key.seal_in_place(nonce[16..].try_into().expect("8 bytes"), text)
        }),
        ("crypto_secretbox", &|nonce, text| {
            let cipher = XSalsa20Poly1305::new(&KEY.into());
            cipher.encrypt_in_place_detached(nonce.into(), b"", text).expect("short").into()
        }),
    ];
    for len in [64, 1400, 16_384] {
        let mut group = criterion.benchmark_group("seal");
        group.throughput(Throughput::Bytes(len as u64));
        let mut text = vec![0; len];
        // The fastest sample of each.
        let mut best = [f64::INFINITY; 3];
        for ((name, seal), best) in contenders.iter().zip(&mut best) {
            group.bench_function(BenchmarkId::new(*name, len), |bencher| {
                bencher.iter_custom(|count| {
                    let taken = time(*seal, count, &mut text);
                    *best = best.min(taken.as_secs_f64() / count as f64);
                    taken
                });
            });
        }
        group.finish();
        let [ours, kept, published] = best;
        #[expect(clippy::print_stdout, reason = "the result")]
        {
            println!(
                "seal/{len}: {:.2} (kept {:.2}) times as fast as crypto_secretbox",
                published / ours,
                published / kept
            );
        }
    }
    let mut group = criterion.benchmark_group("batch of 40");
    for len in [64, 1400] {
        group.throughput(Throughput::Bytes(40 * len as u64));
        let mut texts = vec![0; 40 * len];
        let mut tags = [[0; 16]; 40];
        fn batch<'m>(
            texts: &'m mut [u8],
            len: usize,
            tags: &'m mut [[u8; 16]],
        ) -> impl Iterator<Item = Message<'m>> {
            let messages = texts.chunks_mut(len).zip(tags).zip(0_u64..);
            messages.map(|((text, tag), number)| Message { nonce: number.to_be_bytes(), tag, text })
        }
        group.bench_function(BenchmarkId::new("seal", len), |bencher| {
            bencher.iter(|| prefix_key.seal_each(batch(black_box(&mut texts), len, &mut tags)));
        });
        let sealed = (texts, tags);
        group.bench_function(BenchmarkId::new("open", len), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let (mut texts, mut tags) = sealed.clone();
                    prefix_key.seal_each(batch(&mut texts, len, &mut tags));
                    (texts, tags)
                },
                |(texts, tags)| {
                    prefix_key.open_each(batch(texts, len, tags), |_, opened| {
                        opened.expect("just sealed");
                    });
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    criterion.final_summary();
}
